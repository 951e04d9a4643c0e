//! Protocols, versions, plain text, silence, and what the log says of it.

mod common;

use std::time::Duration;

use common::{Authority, Dir, client, connection, dns, ip, meet, meet_as, nobody, server};
use tls::{
    ClientOptions, ClientTls, Ends, Protocol, ServerOptions, ServerTls, TlsFiles, looks_like_tls,
    speaks_tls,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A raw rustls client that offers these protocols; returns what was agreed upon, on both sides.
async fn agree(server: &ServerTls, offered: &[&[u8]]) -> Result<(Option<Vec<u8>>, bool), String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (here, there) = connection().await;
    let ends = Ends::of(&here);
    let name = "foo.bar".try_into().unwrap();
    let (accepted, connected) =
        tokio::join!(server.accept(here, &ends), connector.connect(name, there));
    let http2 = accepted.map_err(|error| error.to_string())?.http2;
    let stream = connected.unwrap();
    Ok((
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec),
        http2,
    ))
}

#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn a_client_port_agrees_to_http2_and_serves_http1_without_agreement() {
    let dir = Dir::new();
    let server = server(&dir.pair("server", &Authority::new("ca").server()));
    let h2 = Some(b"h2".to_vec());
    assert_eq!(agree(&server, &[b"h2"]).await, Ok((h2.clone(), true)));
    assert_eq!(agree(&server, &[b"http/1.1", b"h2"]).await, Ok((h2, true)));
    assert_eq!(agree(&server, &[b"http/1.1"]).await, Ok((None, false)));
    assert_eq!(agree(&server, &[]).await, Ok((None, false)));
    assert_eq!(
        agree(&server, &[b"foo"]).await.unwrap_err(),
        "tls: client requested unsupported application protocols ([\"foo\"])"
    );
}

#[tokio::test]
async fn a_peer_port_agrees_to_nothing() {
    let dir = Dir::new();
    let files = dir.pair("server", &Authority::new("ca").server());
    let server = ServerTls::new(&files, &Protocol::default(), ServerOptions::peer()).unwrap();
    for offered in [&[b"h2".as_slice()][..], &[b"http/1.1"], &[b"foo"], &[]] {
        assert_eq!(agree(&server, offered).await, Ok((None, false)));
    }
}

#[tokio::test]
async fn versions_and_suites_are_limited() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let files = dir.pair("server", &ca.server());
    let trust = TlsFiles {
        trusted_ca: dir.put("ca.crt", ca.pem()),
        ..TlsFiles::default()
    };
    let protocol = |min: &str, max: &str, suites: &[&str]| Protocol::new(min, max, suites).unwrap();
    let meets = async |ours: Protocol, theirs: Protocol| {
        let server = ServerTls::new(&files, &ours, ServerOptions::client()).unwrap();
        let client = ClientTls::new(&trust, &theirs, ClientOptions::default()).unwrap();
        meet(&server, &client).await.server.map(|_| ())
    };
    const AES_128: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    const AES_256: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let old = || protocol("", "TLS1.2", &[]);
    assert_eq!(meets(old(), Protocol::default()).await, Ok(()));
    assert_eq!(meets(Protocol::default(), old()).await, Ok(()));
    assert_eq!(
        meets(protocol("TLS1.3", "", &[]), old()).await.unwrap_err(),
        "tls: client offered only unsupported versions"
    );
    let text = meets(
        protocol("", "", &[AES_128]),
        protocol("", "TLS1.2", &[AES_256]),
    )
    .await;
    assert!(
        text.as_ref().unwrap_err().starts_with(
            "tls: no cipher suite supported by both client and server; client offered: [c02c"
        ),
        "{text:?}"
    );
    assert_eq!(meets(protocol("", "", &[AES_128]), old()).await, Ok(()));
}

/// What a raw client gets, and what the refusal says.
async fn say(server: &ServerTls, bytes: &[u8], leave: bool) -> (Vec<u8>, String) {
    let (here, mut there) = connection().await;
    let ends = Ends::of(&here);
    there.write_all(bytes).await.unwrap();
    if leave {
        there.shutdown().await.unwrap();
    }
    let rejection = server.accept(here, &ends).await.unwrap_err();
    let mut answer = Vec::new();
    // No reset: a client sees an orderly end.
    there.read_to_end(&mut answer).await.unwrap();
    (answer, rejection.to_string())
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_closed_without_an_answer() {
    let dir = Dir::new();
    let server = server(&dir.pair("server", &Authority::new("ca").server()));
    let plain = "tls: first record does not look like a TLS handshake";
    for bytes in [
        &b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0",
    ] {
        assert_eq!(
            say(&server, bytes, false).await,
            (Vec::new(), plain.to_owned())
        );
    }
}

#[tokio::test]
async fn broken_handshakes_are_refused_in_gos_words() {
    let dir = Dir::new();
    let server = server(&dir.pair("server", &Authority::new("ca").server()));
    let told = async |bytes: &[u8], leave| say(&server, bytes, leave).await.1;
    assert_eq!(told(b"", true).await, "EOF");
    assert_eq!(told(b"\x16", true).await, "unexpected EOF");
    assert_eq!(
        told(b"\x16\x03\x01\x00\x20\x01", true).await,
        "unexpected EOF"
    );
    let (answer, text) = say(&server, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", false).await;
    assert_eq!(text, "local error: tls: error decoding message");
    // An alert: fatal, decode_error.
    assert_eq!((answer[0], &answer[5..]), (0x15, &[2, 50][..]));
    // An endless first message is not kept.
    let mut endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".to_vec();
    endless.resize(200_000, 7);
    let (here, mut there) = connection().await;
    let ends = Ends::of(&here);
    let (rejection, _) = tokio::join!(server.accept(here, &ends), there.write_all(&endless));
    rejection.unwrap_err();
}

#[tokio::test]
async fn a_silent_client_is_let_go() {
    let dir = Dir::new();
    let files = dir.pair("server", &Authority::new("ca").server());
    let mut options = ServerOptions::client();
    assert_eq!(options.handshake_limit, Duration::from_secs(10));
    options.handshake_limit = Duration::from_millis(50);
    let server = ServerTls::new(&files, &Protocol::default(), options).unwrap();
    for said in [&b""[..], b"\x16\x03\x01"] {
        let (here, mut there) = connection().await;
        let ends = Ends::of(&here);
        there.write_all(said).await.unwrap();
        let (local, remote) = (here.local_addr().unwrap(), here.peer_addr().unwrap());
        let rejection = server.accept(here, &ends).await.unwrap_err();
        assert_eq!(
            rejection.to_string(),
            format!("read tcp {local}->{remote}: i/o timeout")
        );
    }
}

#[tokio::test]
async fn tls_on_a_plain_port_shows_at_its_first_byte() {
    let dir = Dir::new();
    let client = nobody(&dir, &Authority::new("ca"));
    let (here, there) = connection().await;
    let refuse = async {
        assert_eq!(speaks_tls(&here).await.unwrap(), Some(true));
        drop(here);
    };
    let (call, ()) = tokio::join!(client.connect(there, "localhost"), refuse);
    let text = call.unwrap_err().to_string();
    assert!(text == "EOF" || text.contains("connection reset"), "{text}");

    let (here, mut there) = connection().await;
    there.write_all(b"GET").await.unwrap();
    assert_eq!(speaks_tls(&here).await.unwrap(), Some(false));
    let (here, there) = connection().await;
    drop(there);
    assert_eq!(speaks_tls(&here).await.unwrap(), None);
    assert!(!looks_like_tls(b'P') && !looks_like_tls(b'G'));
}

#[tokio::test]
async fn a_client_says_what_is_wrong_with_a_server() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let meets = async |leaf: &common::Leaf, host: &str| {
        let server = server(&dir.pair("server", leaf));
        meet_as(&server, &nobody(&dir, &ca), host)
            .await
            .client
            .map(|_| ())
    };
    let verify = |text: &str| Err(format!("tls: failed to verify certificate: x509: {text}"));
    let good = ca.server();
    assert_eq!(meets(&good, "localhost").await, Ok(()));
    assert_eq!(meets(&good, "[127.0.0.1]").await, Ok(()));
    assert_eq!(
        meets(&good, "example").await,
        verify("certificate is valid for localhost, not example")
    );
    assert_eq!(
        meets(&good, "10.0.0.1").await,
        verify("certificate is valid for 127.0.0.1, not 10.0.0.1")
    );
    assert_eq!(
        meets(&ca.issue("localhost", |_| {}), "localhost").await,
        verify("certificate relies on legacy Common Name field, use SANs instead")
    );
    assert_eq!(
        meets(&Authority::new("other").server(), "localhost").await,
        verify("certificate signed by unknown authority")
    );
    let only_client = ca.issue("server", |params| {
        params.subject_alt_names = vec![dns("localhost")];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(
        meets(&only_client, "localhost").await,
        verify("certificate specifies an incompatible key usage")
    );

    // A server that speaks plain text.
    let (mut here, there) = connection().await;
    let client = nobody(&dir, &ca);
    let answer = async {
        here.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = here.read(&mut [0; 4096]).await;
    };
    let (call, ()) = tokio::join!(client.connect(there, "localhost"), answer);
    assert_eq!(
        call.unwrap_err().to_string(),
        "tls: first record does not look like a TLS handshake"
    );
}

#[tokio::test]
async fn a_client_may_demand_another_name_or_none() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let server = server(&dir.pair("server", &ca.server()));
    let mut files = TlsFiles {
        trusted_ca: dir.put("ca.crt", ca.pem()),
        ..TlsFiles::default()
    };
    let options = ClientOptions {
        server_name: Some("localhost".into()),
        ..ClientOptions::default()
    };
    let named = ClientTls::new(&files, &Protocol::default(), options).unwrap();
    assert!(meet_as(&server, &named, "10.0.0.1").await.client.is_ok());

    files.trusted_ca = dir.put("other.crt", Authority::new("other").pem());
    assert!(
        meet_as(&server, &client(&files), "localhost")
            .await
            .client
            .is_err()
    );
    files.insecure_skip_verify = true;
    assert!(
        meet_as(&server, &client(&files), "10.0.0.1")
            .await
            .client
            .is_ok()
    );
}

#[tokio::test]
async fn peers_must_come_from_where_their_certificate_says() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let mut files = dir.trusting("server", &ca.server(), &ca);
    let port = |files: &TlsFiles| {
        ServerTls::new(files, &Protocol::default(), ServerOptions::peer()).unwrap()
    };
    let elsewhere = ca.issue("peer", |params| {
        params.subject_alt_names = vec![ip("10.9.9.9")];
    });
    let here = ca.issue("peer", |params| {
        params.subject_alt_names = vec![ip("127.0.0.1")];
    });
    let anywhere = ca.issue("peer", |_| {});
    let of = |name: &str, leaf| client(&dir.trusting(name, leaf, &ca));
    let (elsewhere, here, anywhere) = (
        of("elsewhere", &elsewhere),
        of("here", &here),
        of("anywhere", &anywhere),
    );
    let server = port(&files);
    assert_eq!(
        meet(&server, &elsewhere).await.refusal(),
        "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"
    );
    meet(&server, &here).await.guest();
    meet(&server, &anywhere).await.guest();
    files.skip_client_san_verification = true;
    meet(&port(&files), &elsewhere).await.guest();
    // Client ports never ask.
    files.skip_client_san_verification = false;
    meet(&common::server(&files), &elsewhere).await.guest();
}

/// The first message may arrive byte by byte.
#[tokio::test]
async fn slow_clients_are_served() {
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let server = server(&dir.pair("server", &ca.server()));
    let (here, mut there) = connection().await;
    let (mut near, far) = tokio::io::duplex(1);
    let client = nobody(&dir, &ca);
    let relay = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut near, &mut there).await;
    });
    let ends = Ends::of(&here);
    let (accepted, connected) =
        tokio::join!(server.accept(here, &ends), client.connect(far, "localhost"));
    accepted.unwrap();
    connected.unwrap();
    relay.abort();
}

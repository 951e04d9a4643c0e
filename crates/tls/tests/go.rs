//! The real programs: etcdctl connects to our acceptor, our client to etcd, and certificates change hands.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Authority, Dir, client, ip};
use disk::RealFs;
use testkit::ports::Port;
use testkit::{Etcdctl, Version, interop, need};
use tls::{
    AutoTls, ClientTls, Ends, Identity, Protocol, ServerOptions, ServerTls, TlsFiles, self_signed,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Lets etcdctl connect once; returns who came, whether it was HTTP/2, and the preface it sent.
async fn visit(
    server: &ServerTls,
    etcdctl: &Path,
    args: &[&str],
) -> Result<(Identity, bool, Vec<u8>), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let mut child = Etcdctl::new(etcdctl, endpoint)
        .command(
            args.iter()
                .copied()
                .chain(["--command-timeout=5s", "get", "a"]),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let ends = Ends::of(&stream);
    let result = server.accept(stream, &ends).await;
    let result = match result {
        Ok(mut accepted) => {
            let mut preface = vec![0; 16];
            let read = accepted.stream.read_exact(&mut preface);
            let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
            Ok((accepted.identity, accepted.http2, preface))
        }
        Err(rejection) => Err(rejection.to_string()),
    };
    child.kill().unwrap();
    child.wait().unwrap();
    result
}

#[tokio::test]
async fn etcdctl_connects_to_our_port() {
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let files = dir.trusting("server", &ca.server(), &ca);
    for (min, max) in [("", ""), ("", "TLS1.2")] {
        let protocol = Protocol::new::<&str>(min, max, &[]).unwrap();
        let server = ServerTls::new(&files, &protocol, ServerOptions::client()).unwrap();
        let alice = dir.pair("alice", &ca.issue("alice", |_| {}));
        let args = [
            "--cacert",
            &files.trusted_ca,
            "--cert",
            &alice.cert,
            "--key",
            &alice.key,
        ];
        let (identity, http2, preface) = visit(&server, &etcdctl, &args).await.unwrap();
        assert_eq!(identity.common_name, "alice");
        assert!(http2);
        assert_eq!(preface, b"PRI * HTTP/2.0\r\n");

        let old = dir.pair("old", &ca.issue_v1("old"));
        let args = [
            "--cacert",
            &files.trusted_ca,
            "--cert",
            &old.cert,
            "--key",
            &old.key,
        ];
        let (identity, _, _) = visit(&server, &etcdctl, &args).await.unwrap();
        assert_eq!(identity.common_name, "old");

        assert_eq!(
            visit(&server, &etcdctl, &args[..2]).await.unwrap_err(),
            "tls: client didn't provide a certificate"
        );
        let other = dir.put("other.crt", Authority::new("other").pem());
        assert_eq!(
            visit(&server, &etcdctl, &["--cacert", &other])
                .await
                .unwrap_err(),
            "remote error: tls: bad certificate"
        );
    }
}

#[tokio::test]
async fn etcdctl_connects_to_an_automatic_certificate() {
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let dir = Dir::new();
    let files = automatic(&dir.at("data"));
    let server = common::server(&files);
    let (identity, http2, _) = visit(&server, &etcdctl, &["--cacert", &files.cert])
        .await
        .unwrap();
    assert!(http2 && !identity.is_verified());
    let skipping = ["--insecure-skip-tls-verify"];
    assert!(visit(&server, &etcdctl, &skipping).await.is_ok());
}

fn automatic(data_dir: &Path) -> TlsFiles {
    let what = AutoTls {
        dir: &data_dir.join("fixtures/client"),
        hosts: &["127.0.0.1:2379".to_owned()],
        years: 1,
    };
    self_signed(&RealFs, &what).unwrap()
}

/// A real etcd that serves clients over TLS.
struct Etcd {
    child: Child,
    client: Port,
    _peer: Port,
    log: std::path::PathBuf,
}

impl Etcd {
    fn start(program: &Path, dir: &Dir, args: &[&str]) -> Self {
        let (client, peer) = (Port::reserve(), Port::reserve());
        let url = format!("https://127.0.0.1:{}", client.number());
        let peer_url = format!("http://127.0.0.1:{}", peer.number());
        let log = dir.at("etcd.log");
        let child = Command::new(program)
            .args(["--name=m1", "--log-outputs"])
            .arg(&log)
            .arg("--data-dir")
            .arg(dir.at("data"))
            .args([
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
            ])
            .args([
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=m1={peer_url}"),
            ])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            client,
            _peer: peer,
            log,
        }
    }

    /// Asks for `/health` until the server answers; a refused handshake ends that at once.
    async fn health(&self, client: &ClientTls) -> Result<String, String> {
        for _ in 0..150 {
            match self.ask(client).await {
                Ok(text) if !text.is_empty() => return Ok(text),
                Err(text) if text.starts_with("tls:") => return Err(text),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(std::fs::read_to_string(&self.log).unwrap_or_default())
    }

    async fn ask(&self, client: &ClientTls) -> Result<String, String> {
        let there = ("127.0.0.1", self.client.number());
        let io = TcpStream::connect(there).await.map_err(|e| e.to_string())?;
        let mut stream = client
            .connect(io, "127.0.0.1")
            .await
            .map_err(|error| error.to_string())?;
        let request = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.map_err(|e| e.to_string())?;
        let mut text = Vec::new();
        // Some servers end without saying goodbye.
        let _ = stream.read_to_end(&mut text).await;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn our_client_connects_to_etcd() {
    let program = need!(interop::etcd(Version::V37));
    let dir = Dir::new();
    let ca = Authority::new("ca");
    let files = dir.trusting("server", &ca.server(), &ca);
    let args = [
        "--cert-file",
        &files.cert,
        "--key-file",
        &files.key,
        "--trusted-ca-file",
        &files.trusted_ca,
    ];
    let etcd = Etcd::start(&program, &dir, &args);
    let alice = ca.issue("alice", |params| {
        params.subject_alt_names = vec![ip("127.0.0.1")];
    });
    for leaf in [alice, ca.issue_v1("old")] {
        let text = etcd
            .health(&client(&dir.trusting("client", &leaf, &ca)))
            .await
            .unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK") && text.contains("\"health\":\"true\""),
            "{text}"
        );
    }
    let stranger = client(&dir.trusting("client", &ca.server(), &Authority::new("other")));
    assert_eq!(
        etcd.health(&stranger).await.unwrap_err(),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
}

#[tokio::test]
async fn automatic_certificates_change_hands() {
    let program = need!(interop::etcd(Version::V37));
    // Ours, taken over by etcd.
    let dir = Dir::new();
    let files = automatic(&dir.at("data"));
    let before = std::fs::read(&files.cert).unwrap();
    let trusting = TlsFiles {
        trusted_ca: files.cert.clone(),
        ..TlsFiles::default()
    };
    let etcd = Etcd::start(&program, &dir, &["--auto-tls"]);
    assert!(
        etcd.health(&client(&trusting))
            .await
            .unwrap()
            .contains("true")
    );
    drop(etcd);
    assert_eq!(std::fs::read(&files.cert).unwrap(), before);

    // etcd's, taken over by us.
    std::fs::remove_dir_all(dir.at("data")).unwrap();
    let etcd = Etcd::start(&program, &dir, &["--auto-tls"]);
    // Before etcd has made its certificate there is nothing to trust.
    let skipping = TlsFiles {
        insecure_skip_verify: true,
        ..TlsFiles::default()
    };
    assert!(
        etcd.health(&client(&skipping))
            .await
            .unwrap()
            .contains("true")
    );
    drop(etcd);
    let before = std::fs::read(&files.cert).unwrap();
    let server = common::server(&automatic(&dir.at("data")));
    assert_eq!(std::fs::read(&files.cert).unwrap(), before);
    let meeting = common::meet(&server, &client(&trusting)).await;
    assert_eq!(meeting.client.as_deref(), Ok("hello"));
}

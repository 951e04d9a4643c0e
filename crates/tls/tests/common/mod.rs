//! A little public-key infrastructure, and two ends that meet over loopback.

#![allow(dead_code, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, SigningKey as _,
};
use tls::{ClientOptions, ClientTls, Ends, Identity, Protocol, ServerOptions, ServerTls, TlsFiles};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A certificate with its key, as PEM.
pub struct Leaf {
    pub cert: String,
    pub key: String,
    pub serial: Vec<u8>,
}

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority_params(name: &str, below: BasicConstraints) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(below);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::limited(name, BasicConstraints::Unconstrained)
    }

    pub fn limited(name: &str, below: BasicConstraints) -> Self {
        let params = authority_params(name, below);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn expired(name: &str) -> Self {
        let mut params = authority_params(name, BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub fn below(&self, name: &str) -> Self {
        self.below_as(name, |_| {})
    }

    pub fn below_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name, BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for everything, changed as wanted.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = params(name);
        let mut serial = vec![0x0a];
        serial.extend(name.bytes().take(15));
        params.serial_number = Some(SerialNumber::from(serial.clone()));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A certificate of a server on loopback.
    pub fn server(&self) -> Leaf {
        self.issue("server", |params| {
            params.subject_alt_names = vec![dns("localhost"), ip("127.0.0.1")];
        })
    }

    /// A certificate of version 1: without version and extensions, signed anew.
    pub fn issue_v1(&self, name: &str) -> Leaf {
        let leaf = self.issue(name, |_| {});
        let der = from_pem(&leaf.cert);
        let (content, _) = content(&der);
        let (tbs, after_tbs) = content_of_first(content);
        let mut old = Vec::new();
        let mut rest = tbs;
        while !rest.is_empty() {
            let (_, len) = self::content(rest);
            // [0] is the version, [3] the extensions.
            if !matches!(rest[0], 0xa0 | 0xa3) {
                old.extend_from_slice(&rest[..len]);
            }
            rest = &rest[len..];
        }
        let tbs = sequence(&old);
        let (_, algorithm_len) = self::content(after_tbs);
        let signature = self.0.key().sign(&tbs).unwrap();
        let mut bits = vec![0x03];
        bits.extend(length(signature.len() + 1));
        bits.push(0);
        bits.extend(signature);
        let mut all = tbs;
        all.extend_from_slice(&after_tbs[..algorithm_len]);
        all.extend(bits);
        Leaf {
            cert: to_pem("CERTIFICATE", &sequence(&all)),
            ..leaf
        }
    }

    /// A revocation list, as DER and PEM.
    pub fn revoke(&self, leaves: &[&Leaf]) -> (Vec<u8>, String) {
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2024, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: leaves
                .iter()
                .map(|leaf| RevokedCertParams {
                    serial_number: SerialNumber::from(leaf.serial.clone()),
                    revocation_time: rcgen::date_time_ymd(2024, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.0).unwrap();
        (list.der().to_vec(), list.pem().unwrap())
    }
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub fn ip(address: &str) -> SanType {
    SanType::IpAddress(address.parse().unwrap())
}

fn from_pem(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes())
        .unwrap()
        .to_vec()
}

fn to_pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (place, three) in der.chunks(3).enumerate() {
        if place % 16 == 0 {
            text.push('\n');
        }
        let mut word = [0; 4];
        word[1..=three.len()].copy_from_slice(three);
        let word = u32::from_be_bytes(word);
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() {
                DIGITS[at] as char
            } else {
                '='
            });
        }
    }
    format!("-----BEGIN {label}-----{text}\n-----END {label}-----\n")
}

/// The content of an element and its whole length.
fn content(der: &[u8]) -> (&[u8], usize) {
    let (len, header) = match der[1] {
        short if short < 0x80 => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
    };
    (&der[header..header + len], header + len)
}

fn content_of_first(der: &[u8]) -> (&[u8], &[u8]) {
    let (first, len) = content(der);
    (first, &der[len..])
}

fn length(len: usize) -> Vec<u8> {
    match len {
        0..0x80 => vec![len as u8],
        0x80..0x100 => vec![0x81, len as u8],
        _ => vec![0x82, (len >> 8) as u8, len as u8],
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let mut all = vec![0x30];
    all.extend(length(content.len()));
    all.extend_from_slice(content);
    all
}

/// Files of a test.
pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in place, as a whole; returns its path.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.at(name);
        let new = self.at(&format!("{name}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The files of a pair.
    pub fn pair(&self, name: &str, leaf: &Leaf) -> TlsFiles {
        TlsFiles {
            cert: self.put(&format!("{name}.crt"), &leaf.cert),
            key: self.put(&format!("{name}.key"), &leaf.key),
            ..TlsFiles::default()
        }
    }

    /// The files of a pair with an authority.
    pub fn trusting(&self, name: &str, leaf: &Leaf, authority: &Authority) -> TlsFiles {
        TlsFiles {
            trusted_ca: self.put(&format!("{name}-ca.crt"), authority.pem()),
            ..self.pair(name, leaf)
        }
    }
}

pub fn server(files: &TlsFiles) -> ServerTls {
    ServerTls::new(files, &Protocol::default(), ServerOptions::client()).unwrap()
}

pub fn client(files: &TlsFiles) -> ClientTls {
    ClientTls::new(files, &Protocol::default(), ClientOptions::default()).unwrap()
}

/// A client that presents nothing and trusts an authority.
pub fn nobody(dir: &Dir, authority: &Authority) -> ClientTls {
    client(&TlsFiles {
        trusted_ca: dir.put("nobody-ca.crt", authority.pem()),
        ..TlsFiles::default()
    })
}

/// What both ends of a connection have seen.
#[derive(Debug)]
pub struct Meeting {
    /// Who came, or why it was refused.
    pub server: Result<Identity, String>,
    /// What the server said, or what went wrong.
    pub client: Result<String, String>,
}

impl Meeting {
    /// The refusal on the server's side.
    pub fn refusal(self) -> String {
        self.server.unwrap_err()
    }

    /// Who came, when all went well.
    pub fn guest(self) -> Identity {
        assert_eq!(self.client.as_deref(), Ok("hello"), "{:?}", self.server);
        self.server.unwrap()
    }
}

/// A connection over loopback: the server's end, and the client's.
pub async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (there, here) = tokio::join!(TcpStream::connect(address), listener.accept());
    (here.unwrap().0, there.unwrap())
}

/// One connection from client to server.
pub async fn meet(server: &ServerTls, client: &ClientTls) -> Meeting {
    meet_as(server, client, "127.0.0.1").await
}

pub async fn meet_as(server: &ServerTls, client: &ClientTls, host: &str) -> Meeting {
    let (here, there) = connection().await;
    let ends = Ends::of(&here);
    let serve = async {
        let mut accepted = server
            .accept(here, &ends)
            .await
            .map_err(|rejection| rejection.to_string())?;
        accepted.stream.write_all(b"hello").await.unwrap();
        let _ = accepted.stream.shutdown().await;
        Ok(accepted.identity)
    };
    let call = async {
        let mut stream = client
            .connect(there, host)
            .await
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .await
            .map_err(|error| error.to_string())?;
        Ok(text)
    };
    let (server, client) = tokio::join!(serve, call);
    Meeting { server, client }
}

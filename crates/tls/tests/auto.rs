//! Certificates made at the start.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::{Dir, client, meet_as, server};
use disk::RealFs;
use tls::{AutoTls, TlsFiles, self_signed};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

fn make(dir: &Dir, hosts: &[&str], years: u64) -> Result<TlsFiles, tls::Error> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let dir = dir.at("data/fixtures/client");
    self_signed(
        &RealFs,
        &AutoTls {
            dir: &dir,
            hosts: &hosts,
            years,
        },
    )
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_certificate_is_etcds_to_the_letter() {
    let dir = Dir::new();
    let files = make(
        &dir,
        &[
            "localhost:2379",
            "127.0.0.1:2379",
            "[::1]:2379",
            "127.0.0.1",
        ],
        2,
    )
    .unwrap();
    let fixtures = dir.at("data/fixtures/client");
    assert_eq!(files.cert, fixtures.join("cert.pem").to_str().unwrap());
    assert_eq!(
        (mode(&fixtures), mode(&dir.at("data/fixtures"))),
        (0o700, 0o700)
    );
    assert_eq!(mode(files.cert.as_ref()), 0o644);
    assert_eq!(mode(files.key.as_ref()), 0o600);
    assert_eq!(std::fs::read_dir(&fixtures).unwrap().count(), 2);

    let pem = std::fs::read(&files.cert).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let (_, cert) = X509Certificate::from_der(&pem.contents).unwrap();
    assert_eq!(cert.subject().to_string(), "O=etcd");
    assert_eq!(cert.issuer().to_string(), "O=etcd");
    // ECDSA with SHA-512, on P-521.
    assert_eq!(
        cert.signature_algorithm.algorithm.to_id_string(),
        "1.2.840.10045.4.3.4"
    );
    assert_eq!(cert.public_key().parsed().unwrap().key_size(), 528);
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert!(
        usage.value.digital_signature() && usage.value.key_encipherment() && usage.value.crl_sign()
    );
    assert!(!usage.value.key_cert_sign());
    let purposes = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && !purposes.client_auth);
    let authority = cert.basic_constraints().unwrap().unwrap();
    assert!(authority.critical && authority.value.ca);
    let validity = cert.validity();
    assert_eq!(
        validity.not_after.timestamp() - validity.not_before.timestamp(),
        2 * 365 * 24 * 3600
    );
    let names = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        names.value.general_names,
        [
            GeneralName::DNSName("localhost"),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ]
    );
}

#[test]
fn a_pair_is_used_again_and_half_a_pair_is_replaced() {
    let dir = Dir::new();
    let files = make(&dir, &["localhost"], 1).unwrap();
    let read = || std::fs::read(&files.cert).unwrap();
    let first = read();
    assert_eq!(make(&dir, &["other"], 1).unwrap(), files);
    assert_eq!(read(), first);
    std::fs::remove_file(&files.key).unwrap();
    make(&dir, &["localhost"], 1).unwrap();
    assert_ne!(read(), first);
    server(&files);
}

#[test]
fn no_time_and_too_much_time_are_refused() {
    let dir = Dir::new();
    assert_eq!(
        make(&dir, &["localhost"], 0).unwrap_err().to_string(),
        "selfSignedCertValidity is invalid,it should be greater than 0"
    );
    assert!(make(&dir, &["localhost"], u64::MAX).is_err());
    assert!(make(&dir, &["localhost"], 9000).is_err());
    assert!(!dir.at("data/fixtures/client/cert.pem").exists());
}

/// Members skip verification; clients are given the certificate itself as the one to trust.
#[tokio::test]
async fn members_and_clients_connect_with_it() {
    let dir = Dir::new();
    let files = make(&dir, &["localhost:2379", "127.0.0.1:2379"], 1).unwrap();
    let server = server(&files);
    assert!(!server.verifies_clients());
    assert!(
        meet_as(&server, &client(&files), "elsewhere")
            .await
            .client
            .is_ok()
    );
    let trusting = client(&TlsFiles {
        trusted_ca: files.cert.clone(),
        ..TlsFiles::default()
    });
    assert!(
        meet_as(&server, &trusting, "localhost")
            .await
            .client
            .is_ok()
    );
    assert!(
        meet_as(&server, &trusting, "127.0.0.1")
            .await
            .client
            .is_ok()
    );
    assert_eq!(
        meet_as(&server, &trusting, "elsewhere")
            .await
            .client
            .unwrap_err(),
        "tls: failed to verify certificate: x509: certificate is valid for localhost, not elsewhere"
    );
}

#[test]
fn openssl_agrees() {
    let dir = Dir::new();
    let files = make(&dir, &["localhost"], 1).unwrap();
    let output = Command::new("openssl")
        .args([
            "verify",
            "-CAfile",
            &files.cert,
            "-verify_hostname",
            "localhost",
            &files.cert,
        ])
        .output();
    let Ok(output) = output else {
        return testkit::skip::skipped(&testkit::Skip::new("openssl is not installed"));
    };
    assert!(output.status.success(), "{output:?}");
    let key = Command::new("openssl")
        .args(["pkey", "-noout", "-check", "-in", &files.key])
        .output()
        .unwrap();
    assert!(key.status.success(), "{key:?}");
}

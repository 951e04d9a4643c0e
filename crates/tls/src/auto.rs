//! Certificates made at the start: `--auto-tls`, `--peer-auto-tls`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use disk::{Fs, OpenOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::{Error, TlsFiles, go};

/// What to make a certificate for.
#[derive(Clone, Debug)]
pub struct AutoTls<'a> {
    /// Where certificate and key are kept: `<data-dir>/fixtures/client` or `…/peer`.
    pub dir: &'a Path,
    /// Hosts of the port's URLs, with or without port.
    pub hosts: &'a [String],
    /// `--self-signed-cert-validity`, in years of 365 days.
    pub years: u64,
}

/// The certificate and key in a directory, made if one of them is missing. Both are used as a client, too, and then
/// every server is trusted: the members of such a cluster do not know each other's certificates.
pub fn self_signed(fs: &dyn Fs, what: &AutoTls<'_>) -> Result<TlsFiles, Error> {
    let refuse = |error: Error| {
        tracing::warn!(error = %error, "cannot generate cert");
        error
    };
    if what.years == 0 {
        return Err(refuse(Error::Validity(
            "selfSignedCertValidity is invalid,it should be greater than 0",
        )));
    }
    let dir = std::path::absolute(what.dir).unwrap_or_else(|_| what.dir.to_owned());
    create_dir(fs, &dir)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !(fs.exists(&cert) && fs.exists(&key)) {
        let (cert_pem, key_pem) = make(what.hosts, what.years).map_err(refuse)?;
        put(fs, &cert, &cert_pem, 0o644)?;
        tracing::info!(path = %cert.display(), "created cert file");
        put(fs, &key, &key_pem, 0o600)?;
        tracing::info!(path = %key.display(), "created key file");
        let _ = fs.sync_dir(&dir);
    }
    let (cert, key) = (path_text(&cert), path_text(&key));
    Ok(TlsFiles {
        client_cert: cert.clone(),
        client_key: key.clone(),
        cert,
        key,
        insecure_skip_verify: true,
        ..TlsFiles::default()
    })
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn create_dir(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    fs.create_dir_all(dir, 0o700)
        .map_err(|error| Error::file("mkdir", &path_text(dir), &error))
}

/// Writes a file under another name first: half a key is never taken for one.
fn put(fs: &dyn Fs, path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let temporary: PathBuf = path.with_extension("tmp");
    let options = OpenOptions {
        truncate: true,
        mode,
        ..OpenOptions::create()
    };
    let written = fs.open(&temporary, options).and_then(|file| {
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs.rename(&temporary, path))
        .map_err(|error| Error::file("open", &path_text(path), &error))
}

/// A new self-signed certificate and its key, as PEM.
fn make(hosts: &[String], years: u64) -> Result<(String, String), Error> {
    let from = OffsetDateTime::from(SystemTime::now());
    let until = i64::try_from(years)
        .ok()
        .and_then(|years| years.checked_mul(365))
        .filter(|days| *days < 4_000_000)
        .and_then(|days| from.checked_add(time::Duration::days(days)))
        .ok_or(Error::Validity(
            "selfSignedCertValidity is invalid,it should end before the year 10000",
        ))?;
    tracing::warn!(
        "certificate-validity-bound-not-after" = %go::moment(until.unix_timestamp()),
        "automatically generate certificates"
    );
    let failed = |error: rcgen::Error| Error::Malformed(format!("cannot generate cert: {error}"));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    params.not_before = from;
    params.not_after = until;
    params.serial_number = Some(SerialNumber::from(serial()?.to_vec()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in hosts {
        let san = subject(host).map_err(failed)?;
        if !params.subject_alt_names.contains(&san) {
            params.subject_alt_names.push(san);
        }
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The host of `host`, `host:port` or `[address]:port`.
fn subject(host: &str) -> Result<SanType, rcgen::Error> {
    let bare = gotext::split_host_port(host).map_or(host, |(host, _)| host);
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(bare.try_into()?)),
    }
}

/// 127 random bits: a positive number.
fn serial() -> Result<[u8; 16], Error> {
    let mut serial = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut serial)
        .map_err(|_| Error::Malformed("cannot generate cert: no random numbers".to_owned()))?;
    serial[0] &= 0x7f;
    Ok(serial)
}

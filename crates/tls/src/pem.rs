//! PEM files in the way Go reads them.

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};

use crate::Error;

type Section = (SectionKind, Vec<u8>);

/// The sections of a file that have a known type. Damaged ones end the list, as in Go.
fn sections(text: &[u8]) -> impl Iterator<Item = Section> {
    Section::pem_slice_iter(text).map_while(Result::ok)
}

fn has_marker(text: &[u8], marker: &str) -> bool {
    text.windows(marker.len())
        .any(|window| window == marker.as_bytes())
}

/// The certificates of a file, in its order.
pub(crate) fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    sections(text)
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect()
}

/// The certificates of a certificate file, which must hold one.
pub(crate) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = certificates(text);
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(Error::Malformed(if sections(text).next().is_none() {
        "tls: failed to find any PEM data in certificate input".to_owned()
    } else {
        "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
         have been switched"
            .to_owned()
    }))
}

/// The first private key of a key file.
pub(crate) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let mut others = false;
    for (kind, der) in sections(text) {
        return Ok(match kind {
            SectionKind::PrivateKey => PrivatePkcs8KeyDer::from(der).into(),
            SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
            SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
            _ => {
                others = true;
                continue;
            }
        });
    }
    let text = if has_marker(text, " PRIVATE KEY-----") {
        "tls: failed to parse private key"
    } else if others {
        "tls: found a certificate rather than a key in the PEM for the private key"
    } else {
        "tls: failed to find any PEM data in key input"
    };
    Err(Error::Malformed(text.to_owned()))
}

/// The revocation lists of a file: PEM sections, or the whole file as DER.
pub(crate) fn revocation_lists(bytes: &[u8]) -> Vec<Vec<u8>> {
    if !has_marker(bytes, "-----BEGIN X509 CRL-----") {
        return vec![bytes.to_vec()];
    }
    sections(bytes)
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| der)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn missing_sections_are_named_in_gos_words() {
        assert_eq!(
            words(chain(b"junk")),
            "tls: failed to find any PEM data in certificate input"
        );
        assert!(words(chain(KEY.as_bytes())).contains("may have been switched"));
        assert_eq!(
            words(key(b"junk")),
            "tls: failed to find any PEM data in key input"
        );
        assert!(words(key(CERTIFICATE.as_bytes())).contains("certificate rather than a key"));
        let locked = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(
            words(key(locked.as_bytes())),
            "tls: failed to parse private key"
        );
    }

    #[test]
    fn other_sections_are_passed_over() {
        let both = format!("{KEY}{CERTIFICATE}{CERTIFICATE}");
        assert_eq!(chain(both.as_bytes()).unwrap().len(), 2);
        assert!(key(format!("{CERTIFICATE}{KEY}").as_bytes()).is_ok());
    }
}

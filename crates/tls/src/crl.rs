//! Revoked certificates.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::certificate::Certificate;
use crate::watched::Parsed;
use crate::{Error, der, pem};

/// The serial numbers of a revocation file. As in etcd, neither the list's issuer nor its age count.
#[derive(Debug, Default)]
pub(crate) struct Revoked(HashSet<Box<[u8]>>);

impl Revoked {
    /// Reads a file: DER, or PEM with any number of lists.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<Self>, Error> {
        let malformed = || Error::Malformed("x509: malformed crl".to_owned());
        let mut serials = HashSet::new();
        let mut due = None;
        let lists = pem::revocation_lists(bytes);
        if lists.is_empty() {
            return Err(malformed());
        }
        for list in lists {
            let Ok(([], list)) = CertificateRevocationList::from_der(&list) else {
                return Err(malformed());
            };
            for revoked in list.iter_revoked_certificates() {
                serials.insert(der::serial(revoked.raw_serial()).into());
            }
            if let Some(next) = list.next_update() {
                let next = next.timestamp();
                due = Some(due.map_or(next, |due: i64| due.min(next)));
            }
        }
        Ok((Self(serials), due))
    }

    /// Checks that no certificate of the chain is listed, in etcd's words.
    pub(crate) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        for der in chain {
            let Ok(certificate) = Certificate::parse(der) else {
                return Err("x509: malformed certificate".to_owned());
            };
            let serial = der::serial(certificate.x509.raw_serial());
            if self.0.contains(serial) {
                return Err(format!(
                    "transport: certificate serial {} revoked",
                    der::serial_hex(serial)
                ));
            }
        }
        Ok(())
    }
}

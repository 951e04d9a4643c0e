//! Who is at the other end.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

/// Who a client is, by a certificate that was verified. Where none is demanded, everything here is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The certificates presented, the client's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The subject's common name: the user's name when authentication uses certificates. May be empty.
    pub common_name: String,
    /// Host names of the certificate.
    pub dns_names: Vec<String>,
    /// Addresses of the certificate.
    pub ip_addresses: Vec<IpAddr>,
}

impl Identity {
    /// A certificate was presented, and verified.
    pub fn is_verified(&self) -> bool {
        !self.chain.is_empty()
    }
}

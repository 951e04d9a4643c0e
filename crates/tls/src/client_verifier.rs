//! Checks the certificate of a client, for one connection.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::allowed::Allowed;
use crate::certificate::{Certificate, Names, Usage};
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::server_verifier::{tls12_signature, tls13_signature};
use crate::trust::Trust;

/// What the check of a certificate found out: who it is, or why it was refused. rustls has no place for either.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) identity: Identity,
    /// Known once a path to an authority was found.
    pub(crate) names: Option<Names>,
    pub(crate) refusal: Option<String>,
}

/// The check of one connection.
pub(crate) struct ConnectionVerifier {
    trust: Arc<Trust>,
    allowed: Arc<Allowed>,
    algorithms: WebPkiSupportedAlgorithms,
    finding: Mutex<Finding>,
}

impl ConnectionVerifier {
    pub(crate) fn new(
        trust: Arc<Trust>,
        allowed: Arc<Allowed>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            trust,
            allowed,
            algorithms,
            finding: Mutex::default(),
        }
    }

    /// What was found out; to be asked once, after the handshake.
    pub(crate) fn take_finding(&self) -> Finding {
        std::mem::take(&mut *self.finding.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> (Finding, Result<(), Refusal>) {
        let mut finding = Finding::default();
        let result = self.find(chain, now, &mut finding);
        if let Err(refusal) = &result {
            // Who may not come in although the certificate is good is told so without Go's prefix.
            finding.refusal = Some(match finding.names {
                None => format!("tls: failed to verify certificate: {refusal}"),
                Some(_) => refusal.to_string(),
            });
        }
        (finding, result)
    }

    fn find(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        finding: &mut Finding,
    ) -> Result<(), Refusal> {
        self.trust
            .verify(chain, now, Usage::Client, &self.algorithms)?;
        let leaf = Certificate::parse(&chain[0])?;
        let names = leaf.names();
        let common_name = leaf.common_name();
        let permitted = self.allowed.permits(&common_name, &names);
        finding.identity = Identity {
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            common_name,
            dns_names: names.dns.clone(),
            ip_addresses: names.addresses.clone(),
        };
        finding.names = Some(names);
        if permitted {
            return Ok(());
        }
        Err(Refusal::Other(
            "client certificate authentication failed".to_owned(),
        ))
    }
}

impl fmt::Debug for ConnectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionVerifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ConnectionVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.hints()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend_from_slice(intermediates);
        let (finding, result) = self.check(&chain, now);
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = finding;
        result
            .map(|()| ClientCertVerified::assertion())
            .map_err(|refusal| refusal.alert())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

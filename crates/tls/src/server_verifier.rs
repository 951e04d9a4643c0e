//! Checks the certificate of a server, for one connection; and signatures, for both sides.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

use crate::certificate::{Certificate, Usage};
use crate::refusal::Refusal;
use crate::trust::Trust;

/// The check of one connection.
pub(crate) struct ConnectionVerifier {
    /// `None`: every certificate is accepted.
    trust: Option<Arc<Trust>>,
    algorithms: WebPkiSupportedAlgorithms,
    refusal: Mutex<Option<String>>,
}

impl ConnectionVerifier {
    pub(crate) fn new(trust: Option<Arc<Trust>>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            trust,
            algorithms,
            refusal: Mutex::default(),
        }
    }

    /// Why the certificate was refused, if it was.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn check(
        &self,
        chain: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        trust.verify(chain, now, Usage::Server, &self.algorithms)?;
        let leaf = Certificate::parse(&chain[0])?;
        let names = leaf.names();
        if names.is_empty() && leaf.common_name().eq_ignore_ascii_case(&host.to_str()) {
            return Err(Refusal::Other(
                "x509: certificate relies on legacy Common Name field, use SANs instead".to_owned(),
            ));
        }
        names.check_host(&host.to_str()).map_err(Refusal::Other)
    }
}

impl fmt::Debug for ConnectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionVerifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ConnectionVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend_from_slice(intermediates);
        match self.check(&chain, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("tls: failed to verify certificate: {refusal}"));
                // Whatever the reason, Go's clients send the alert `bad_certificate`.
                Err(rustls::CertificateError::BadEncoding.into())
            }
        }
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

/// The other side's signature over the handshake of TLS 1.3. rustls' own check wants a certificate of version 3.
pub(crate) fn tls13_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = Certificate::parse(cert).map_err(|refusal| refusal.alert())?;
    let key = SubjectPublicKeyInfoDer::from(leaf.x509.public_key().raw);
    verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
}

/// The same for TLS 1.2, where a scheme does not determine the curve: all algorithms of its name are tried.
pub(crate) fn tls12_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let unwanted = || Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
    let (_, candidates) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)
        .ok_or_else(unwanted)?;
    let leaf = Certificate::parse(cert).map_err(|refusal| refusal.alert())?;
    let key = SubjectPublicKeyInfoDer::from(leaf.x509.public_key().raw);
    let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| Error::DecryptError)?;
    let good = candidates.iter().any(|algorithm| {
        key.verify_signature(*algorithm, message, dss.signature())
            .is_ok()
    });
    if !good {
        return Err(rustls::CertificateError::BadSignature.into());
    }
    Ok(HandshakeSignatureValid::assertion())
}

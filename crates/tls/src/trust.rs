//! Authorities, and whom they vouch for.

use rustls::DistinguishedName;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

use crate::certificate::{Certificate, Usage};
use crate::refusal::Refusal;
use crate::{Error, lenient, pem};

/// Bytes of authorities' names sent to clients, at most.
const MAX_HINTS: usize = 32 << 10;

/// The certificates of a trusted-CA file, or of the system.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// All of them: Go accepts a certificate that is itself in the list.
    all: Vec<CertificateDer<'static>>,
    /// Those that may have signed others; `anchors` has the same ones in the same order.
    issuers: Vec<Issuer>,
    anchors: Vec<TrustAnchor<'static>>,
    hints: Vec<DistinguishedName>,
}

#[derive(Debug)]
struct Issuer {
    not_before: i64,
    not_after: i64,
    path_length: Option<u32>,
}

impl Trust {
    /// The certificates of a file. As in etcd, a file without any is valid and trusts nobody.
    pub(crate) fn from_pem(text: &[u8], now: i64) -> Result<Self, Error> {
        let mut trust = Self::default();
        for der in pem::certificates(text) {
            trust
                .add(der, now)
                .map_err(|why| Error::Malformed(why.to_string()))?;
        }
        // The list must fit into one message of the handshake; no list means any.
        let length: usize = trust.anchors.iter().map(|a| a.subject.len() + 8).sum();
        if length <= MAX_HINTS {
            trust.hints = trust
                .anchors
                .iter()
                .map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
                .collect();
        }
        Ok(trust)
    }

    /// The system's certificates; those that cannot be used are left out.
    pub(crate) fn system(now: i64) -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(error = %error, "a certificate of the system cannot be used");
        }
        let mut trust = Self::default();
        for der in found.certs {
            let _ = trust.add(der, now);
        }
        trust
    }

    fn add(&mut self, der: CertificateDer<'static>, now: i64) -> Result<(), Refusal> {
        let certificate = Certificate::parse(&der)?;
        let not_after = certificate.not_after();
        // A certificate that is over stays over: paths need not consider it.
        if certificate.may_sign()
            && now <= not_after
            && let Ok(anchor) = webpki::anchor_from_trusted_cert(&der)
        {
            self.anchors.push(anchor.to_owned());
            self.issuers.push(Issuer {
                not_before: certificate.not_before(),
                not_after,
                path_length: certificate.authority().and_then(|(_, length)| length),
            });
        }
        self.all.push(der);
        Ok(())
    }

    /// All certificates.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.all
    }

    /// Nobody can be vouched for.
    pub(crate) fn is_useless(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The authorities' names, for clients that choose their certificate by them.
    pub(crate) fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// Checks that somebody in this list vouches for the first certificate of the chain.
    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Refusal> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(Refusal::malformed)?;
        let parsed = Certificate::parse(leaf)?;
        let seconds = now.as_secs() as i64;
        if self
            .all
            .iter()
            .any(|trusted| trusted.as_ref() == leaf.as_ref())
        {
            parsed.check_time(seconds)?;
            parsed.check_usage(usage)?;
            return parsed.check_critical();
        }
        if !parsed.is_v3() || matches!(parsed.authority(), Some((true, _))) {
            return lenient::verify(chain, &self.all, seconds, usage, algorithms);
        }
        let entity = EndEntityCert::try_from(leaf).map_err(|e| Refusal::from_webpki(&e))?;
        let check_root = |path: &VerifiedPath<'_>| self.check_root(path, seconds);
        entity
            .verify_for_usage(
                algorithms.all,
                &self.anchors,
                intermediates,
                now,
                Purpose(usage),
                None,
                Some(&check_root),
            )
            .map(|_| ())
            .map_err(|e| Refusal::from_webpki(&e))
    }

    /// What Go checks of a root and webpki does not: its end, and how many intermediates it allows.
    fn check_root(&self, path: &VerifiedPath<'_>, now: i64) -> Result<(), webpki::Error> {
        let depth = path.intermediate_certificates().count();
        let allowed = self
            .anchors
            .iter()
            .zip(&self.issuers)
            .filter(|(anchor, _)| {
                anchor.subject == path.anchor().subject
                    && anchor.subject_public_key_info == path.anchor().subject_public_key_info
            })
            .any(|(_, issuer)| {
                (issuer.not_before..=issuer.not_after).contains(&now)
                    && issuer
                        .path_length
                        .is_none_or(|limit| depth <= limit as usize)
            });
        if allowed {
            Ok(())
        } else {
            Err(webpki::Error::UnknownIssuer)
        }
    }
}

/// Accepts certificates without a word about their use, for any use, or for this one.
struct Purpose(Usage);

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, ids: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        const ANY: &[usize] = &[2, 5, 29, 37, 0];
        let wanted = match self.0 {
            Usage::Server => webpki::KeyUsage::SERVER_AUTH_REPR,
            Usage::Client => webpki::KeyUsage::CLIENT_AUTH_REPR,
        };
        let mut present = Vec::new();
        for id in ids {
            let id = id?.to_decoded_oid();
            if id == wanted || id == ANY {
                return Ok(());
            }
            present.push(id);
        }
        if present.is_empty() {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(
            webpki::RequiredEkuNotFoundContext {
                required: match self.0 {
                    Usage::Server => webpki::KeyUsage::server_auth(),
                    Usage::Client => webpki::KeyUsage::client_auth(),
                },
                present,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::crl::Revoked;

    /// Certificates come from anybody who can reach the port.
    #[test]
    fn damaged_certificates_are_refused_and_hurt_nobody() {
        let mut params = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = CertifiedIssuer::self_signed(params.clone(), key).unwrap();
        let trust = Trust::from_pem(ca.pem().as_bytes(), 1_700_000_000).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
        let leaf_key = KeyPair::generate().unwrap();
        // An authority as leaf takes the path webpki does not know.
        let mut leaf =
            CertificateParams::new(vec!["a.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        let mut chains = Vec::new();
        for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Constrained(1))] {
            leaf.is_ca = is_ca;
            let der = leaf.signed_by(&leaf_key, &ca).unwrap().der().clone();
            chains.push([der, ca.der().clone()]);
        }
        let mut state = 7_u64;
        let mut random = |limit: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % limit
        };
        for chain in &chains {
            assert_eq!(trust.verify(chain, now, Usage::Client, &algorithms), Ok(()));
            for _ in 0..1500 {
                let mut bytes = chain[0].to_vec();
                for _ in 0..=random(3) {
                    let place = random(bytes.len());
                    bytes[place] = random(256) as u8;
                }
                if random(8) == 0 {
                    bytes.truncate(random(bytes.len()));
                }
                if bytes == *chain[0] {
                    continue;
                }
                let damaged = [CertificateDer::from(bytes), chain[1].clone()];
                let result = trust.verify(&damaged, now, Usage::Client, &algorithms);
                assert!(result.is_err());
                if let Ok(certificate) = Certificate::parse(&damaged[0]) {
                    let _ = (certificate.names(), certificate.common_name());
                }
                let _ = Revoked::parse(&damaged[0]);
                let _ = Revoked::default().check(&damaged);
            }
        }
    }
}

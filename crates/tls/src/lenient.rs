//! Paths from certificates webpki does not take as a client's or server's own, though Go does: those of version 1
//! (`openssl x509 -req` without an extensions file makes them) and those that are marked as an authority.
//!
//! Rules are those of RFC 5280 with one exception: where an authority limits the names below it, the path is refused
//! instead of checked.

use std::cell::Cell;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::certificate::{Certificate, Usage};
use crate::der;
use crate::refusal::Refusal;

/// Intermediates in a path, and signatures checked, at most: hostile chains must not cost much.
const MAX_DEPTH: usize = 6;
const MAX_SIGNATURES: usize = 32;

struct Search<'a> {
    roots: Vec<Certificate<'a>>,
    intermediates: Vec<Certificate<'a>>,
    now: i64,
    usage: Usage,
    algorithms: &'a WebPkiSupportedAlgorithms,
    signatures: Cell<usize>,
}

/// Checks that a path leads from the first certificate over others of the chain to one of the roots.
pub(crate) fn verify<'a>(
    chain: &'a [CertificateDer<'_>],
    roots: &'a [CertificateDer<'static>],
    now: i64,
    usage: Usage,
    algorithms: &'a WebPkiSupportedAlgorithms,
) -> Result<(), Refusal> {
    let (leaf, others) = chain.split_first().ok_or_else(Refusal::malformed)?;
    let leaf = Certificate::parse(leaf)?;
    leaf.check_time(now)?;
    leaf.check_usage(usage)?;
    leaf.check_critical()?;
    let parse = |der| Certificate::parse(der).ok();
    let search = Search {
        roots: roots.iter().map(AsRef::as_ref).filter_map(parse).collect(),
        intermediates: others.iter().map(AsRef::as_ref).filter_map(parse).collect(),
        now,
        usage,
        algorithms,
        signatures: Cell::new(0),
    };
    search.climb(&leaf, &mut Vec::new())
}

impl Search<'_> {
    /// Looks for who signed `below`. `path` holds the intermediates used so far, so that no path is a circle.
    fn climb(&self, below: &Certificate<'_>, path: &mut Vec<usize>) -> Result<(), Refusal> {
        let mut reason = Refusal::Unknown;
        for root in &self.roots {
            match self.issued(root, below, path.len(), true) {
                Ok(()) => return Ok(()),
                Err(why) => keep_telling(&mut reason, why),
            }
        }
        if path.len() == MAX_DEPTH {
            return Err(reason);
        }
        for (place, issuer) in self.intermediates.iter().enumerate() {
            if path.contains(&place) {
                continue;
            }
            let step = self
                .issued(issuer, below, path.len(), false)
                .and_then(|()| {
                    path.push(place);
                    let further = self.climb(issuer, path);
                    path.pop();
                    further
                });
            match step {
                Ok(()) => return Ok(()),
                Err(why) => keep_telling(&mut reason, why),
            }
        }
        Err(reason)
    }

    /// Checks one step of a path that has `depth` intermediates below the issuer.
    fn issued(
        &self,
        issuer: &Certificate<'_>,
        below: &Certificate<'_>,
        depth: usize,
        root: bool,
    ) -> Result<(), Refusal> {
        if issuer.x509.subject().as_raw() != below.x509.issuer().as_raw()
            || !issuer.may_sign()
            || (!root && !issuer.is_v3())
        {
            return Err(Refusal::Unknown);
        }
        if let Some((_, Some(limit))) = issuer.authority()
            && depth > limit as usize
        {
            return Err(Refusal::path_length());
        }
        issuer.check_time(self.now)?;
        issuer.check_usage(self.usage)?;
        issuer.check_critical()?;
        if !matches!(issuer.x509.name_constraints(), Ok(None)) {
            return Err(Refusal::Other(
                "x509: name constraints cannot be applied to a certificate of version 1 or of an authority".to_owned(),
            ));
        }
        self.signatures.set(self.signatures.get() + 1);
        if self.signatures.get() > MAX_SIGNATURES {
            return Err(Refusal::Unknown);
        }
        signed_by(below, issuer, self.algorithms)
    }
}

/// Of several reasons, the first that says more than that there is no issuer.
fn keep_telling(reason: &mut Refusal, why: Refusal) {
    if *reason == Refusal::Unknown {
        *reason = why;
    }
}

/// Checks that the issuer's key made the signature, with the algorithm the certificate names.
fn signed_by(
    below: &Certificate<'_>,
    issuer: &Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Refusal> {
    if below.x509.signature_algorithm != below.x509.tbs_certificate.signature
        || below.x509.signature_value.unused_bits != 0
    {
        return Err(Refusal::malformed());
    }
    let named = der::signature_algorithm(below.der).ok_or_else(Refusal::malformed)?;
    let key = SubjectPublicKeyInfoDer::from(issuer.x509.public_key().raw);
    let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| Refusal::malformed())?;
    let message = below.x509.tbs_certificate.as_ref();
    let signature = below.x509.signature_value.as_ref();
    let good = algorithms
        .all
        .iter()
        .filter(|algorithm| algorithm.signature_alg_id().as_ref() == named)
        .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok());
    if good { Ok(()) } else { Err(Refusal::Unknown) }
}

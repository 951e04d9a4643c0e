//! A certificate with its key.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use crate::certificate::{self, Certificate};
use crate::observer::{Material, Observer};
use crate::watched::{Parsed, Watched};
use crate::{Error, pem};

/// A pair of files, looked at again at every handshake.
pub(crate) type WatchedPair = Watched<Arc<CertifiedKey>>;

/// The pair in these files, loaded once to find errors early.
pub(crate) fn watch(
    material: Material,
    cert: &str,
    key: &str,
    provider: &Arc<CryptoProvider>,
    observer: &Arc<dyn Observer>,
) -> Result<WatchedPair, Error> {
    let provider = Arc::clone(provider);
    let watched = Watched::new(material, &[cert, key], observer, move |bytes| {
        let (pair, ends) = parse(&bytes[0], &bytes[1], &provider)?;
        Ok((Arc::new(pair), ends))
    });
    watched.get()?;
    Ok(watched)
}

fn parse(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<Parsed<CertifiedKey>, Error> {
    let chain = pem::chain(cert)?;
    let key = provider
        .key_provider
        .load_private_key(pem::key(key)?)
        .map_err(|error| Error::Malformed(format!("tls: failed to parse private key: {error}")))?;
    let leaf = Certificate::parse(&chain[0]).map_err(|why| Error::Malformed(why.to_string()))?;
    if key
        .public_key()
        .is_some_and(|public| public.as_ref() != leaf.x509.public_key().raw)
    {
        return Err(Error::Malformed(
            "tls: private key does not match public key".to_owned(),
        ));
    }
    let ends = certificate::first_end(&chain);
    Ok((CertifiedKey::new(chain, key), ends))
}

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RsaEncoding, RsaKeyPair,
};

use super::method::{Kind, Method};
use super::pem;

/// Key files that cannot be used. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither key is there, or not the one the method needs.
    #[error("auth: missing key data")]
    Missing,
    /// The two keys do not belong together.
    #[error("auth: public and private keys don't match")]
    Mismatch,
    /// No block of PEM.
    #[error("invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key")]
    NotPem,
    /// Not a key of the method's kind, curve or (RSA: from 2048 bits) size.
    #[error("key is not a valid {kind} {half} key")]
    Invalid {
        /// RSA, ECDSA or Ed25519.
        kind: &'static str,
        /// Public or private.
        half: &'static str,
    },
}

/// Keys of one signing method.
pub(crate) struct Keys {
    signer: Option<Signer>,
    verifier: Verifier,
}

enum Signer {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

enum Verifier {
    Public(ParsedPublicKey),
    Hmac(Box<hmac::Key>),
}

impl Keys {
    /// Reads the content of key files; empty stands for none. Without a private key, tokens can only be verified.
    pub(crate) fn load(method: &Method, public: &[u8], private: &[u8]) -> Result<Self, KeyError> {
        let kind = &method.kind;
        if let Kind::Hmac(algorithm) = kind {
            if private.is_empty() {
                return Err(KeyError::Missing);
            }
            let key = Box::new(hmac::Key::new(*algorithm, private));
            let signer = Some(Signer::Hmac(key.clone()));
            return Ok(Self {
                signer,
                verifier: Verifier::Hmac(key),
            });
        }
        let given = (!public.is_empty())
            .then(|| read_public(kind, public))
            .transpose()?;
        let signer = (!private.is_empty())
            .then(|| read_private(kind, private))
            .transpose()?;
        let Some(signer) = signer else {
            let verifier = Verifier::Public(given.ok_or(KeyError::Missing)?);
            return Ok(Self {
                signer: None,
                verifier,
            });
        };
        let own = signer.public(kind)?;
        let keys = Self {
            signer: Some(signer),
            verifier: Verifier::Public(given.unwrap_or(own)),
        };
        keys.test_pair()?;
        Ok(keys)
    }

    /// What the private key signs the public one must verify.
    fn test_pair(&self) -> Result<(), KeyError> {
        let message = b"do these keys belong together?";
        match self.sign(message) {
            Some(signature) if self.verify(message, &signature) => Ok(()),
            _ => Err(KeyError::Mismatch),
        }
    }

    pub(crate) fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// A signature as JWS wants it; `None` without a private key.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        Some(match self.signer.as_ref()? {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .ok()?;
                signature
            }
            Signer::Ecdsa(pair) => pair.sign(&random, message).ok()?.as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.try_sign(message).ok()?.as_ref().to_vec(),
            Signer::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl Signer {
    fn public(&self, kind: &Kind) -> Result<ParsedPublicKey, KeyError> {
        let bytes = match self {
            Self::Rsa(pair, _) => pair.public_key().as_ref(),
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Hmac(_) => &[],
        };
        parse_public(kind, bytes).ok_or(KeyError::Invalid {
            kind: kind.key_name(),
            half: "private",
        })
    }
}

/// A key of its own or that of a certificate.
fn read_public(kind: &Kind, text: &[u8]) -> Result<ParsedPublicKey, KeyError> {
    let blocks = pem::blocks(text);
    if blocks.is_empty() {
        return Err(KeyError::NotPem);
    }
    blocks
        .iter()
        .find_map(|der| {
            parse_public(kind, der).or_else(|| parse_public(kind, pem::certificate_key(der)?))
        })
        .ok_or(KeyError::Invalid {
            kind: kind.key_name(),
            half: "public",
        })
}

fn parse_public(kind: &Kind, bytes: &[u8]) -> Option<ParsedPublicKey> {
    match kind {
        Kind::Rsa { verify, .. } | Kind::Ecdsa { verify, .. } => {
            ParsedPublicKey::new(*verify, bytes).ok()
        }
        Kind::Ed25519 => ParsedPublicKey::new(&signature::ED25519, bytes).ok(),
        Kind::Hmac(_) => None,
    }
}

/// PKCS#8, or the older form of the kind of key.
fn read_private(kind: &Kind, text: &[u8]) -> Result<Signer, KeyError> {
    let blocks = pem::blocks(text);
    if blocks.is_empty() {
        return Err(KeyError::NotPem);
    }
    blocks
        .iter()
        .find_map(|der| parse_private(kind, der))
        .ok_or(KeyError::Invalid {
            kind: kind.key_name(),
            half: "private",
        })
}

fn parse_private(kind: &Kind, der: &[u8]) -> Option<Signer> {
    match kind {
        Kind::Rsa { sign, .. } => {
            let pair = RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(der))
                .ok()?;
            Some(Signer::Rsa(pair, *sign))
        }
        Kind::Ecdsa { sign, .. } => {
            let pair = EcdsaKeyPair::from_pkcs8(sign, der)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(sign, der))
                .ok()?;
            Some(Signer::Ecdsa(pair))
        }
        Kind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .ok()
            .map(Signer::Ed25519),
        Kind::Hmac(_) => None,
    }
}

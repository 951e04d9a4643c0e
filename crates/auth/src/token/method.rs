use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, EcdsaSigningAlgorithm, RsaEncoding, VerificationAlgorithm};

/// How tokens are signed.
pub(crate) struct Method {
    /// The name in options and in the header of a token.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Rsa {
        sign: &'static dyn RsaEncoding,
        verify: &'static dyn VerificationAlgorithm,
    },
    Ecdsa {
        sign: &'static EcdsaSigningAlgorithm,
        verify: &'static dyn VerificationAlgorithm,
    },
    Ed25519,
    Hmac(hmac::Algorithm),
}

macro_rules! methods {
    ($($name:literal => $kind:expr,)*) => {
        impl Method {
            /// Finds a method by its name, which is case-sensitive.
            pub(crate) fn named(name: &str) -> Option<&'static Self> {
                match name {
                    $($name => {
                        static METHOD: Method = Method { name: $name, kind: $kind };
                        Some(&METHOD)
                    })*
                    _ => None,
                }
            }
        }
    };
}

const fn rsa(sign: &'static dyn RsaEncoding, verify: &'static dyn VerificationAlgorithm) -> Kind {
    Kind::Rsa { sign, verify }
}

const fn ecdsa(
    sign: &'static EcdsaSigningAlgorithm,
    verify: &'static dyn VerificationAlgorithm,
) -> Kind {
    Kind::Ecdsa { sign, verify }
}

methods! {
    "RS256" => rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    "RS384" => rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
    "RS512" => rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
    "PS256" => rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
    "PS384" => rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
    "PS512" => rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED),
    "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED),
    "ES512" => ecdsa(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, &signature::ECDSA_P521_SHA512_FIXED),
    "EdDSA" => Kind::Ed25519,
    "HS256" => Kind::Hmac(hmac::HMAC_SHA256),
    "HS384" => Kind::Hmac(hmac::HMAC_SHA384),
    "HS512" => Kind::Hmac(hmac::HMAC_SHA512),
}

impl Kind {
    /// What keys of this kind are called.
    pub(crate) fn key_name(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RSA",
            Self::Ecdsa { .. } => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Hmac(_) => "HMAC",
        }
    }
}

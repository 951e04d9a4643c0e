//! Cipher suites by name.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as here;

use crate::Error;

/// A suite etcd knows: its names (the first is the IANA one) and what it is here, if anything.
struct Known {
    names: &'static [&'static str],
    suite: Option<SupportedCipherSuite>,
}

const fn known(names: &'static [&'static str], suite: SupportedCipherSuite) -> Known {
    Known {
        names,
        suite: Some(suite),
    }
}

const fn absent(names: &'static [&'static str]) -> Known {
    Known { names, suite: None }
}

/// All names `--cipher-suites` of etcd takes. rustls has none without forward secrecy, with CBC, RC4 or 3DES.
static KNOWN: &[Known] = &[
    known(&["TLS_AES_128_GCM_SHA256"], here::TLS13_AES_128_GCM_SHA256),
    known(&["TLS_AES_256_GCM_SHA384"], here::TLS13_AES_256_GCM_SHA384),
    known(
        &["TLS_CHACHA20_POLY1305_SHA256"],
        here::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    known(
        &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
        here::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    known(
        &["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
        here::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    known(
        &[
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ],
        here::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    known(
        &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
        here::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    known(
        &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
        here::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    known(
        &[
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        ],
        here::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    absent(&["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"]),
    absent(&["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"]),
    absent(&["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]),
    absent(&["TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"]),
    absent(&["TLS_RSA_WITH_RC4_128_SHA"]),
    absent(&["TLS_RSA_WITH_3DES_EDE_CBC_SHA"]),
    absent(&["TLS_RSA_WITH_AES_128_CBC_SHA"]),
    absent(&["TLS_RSA_WITH_AES_256_CBC_SHA"]),
    absent(&["TLS_RSA_WITH_AES_128_CBC_SHA256"]),
    absent(&["TLS_RSA_WITH_AES_128_GCM_SHA256"]),
    absent(&["TLS_RSA_WITH_AES_256_GCM_SHA384"]),
    absent(&["TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"]),
    absent(&["TLS_ECDHE_RSA_WITH_RC4_128_SHA"]),
    absent(&["TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"]),
    absent(&["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"]),
    absent(&["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"]),
];

/// The suite of a name, as `--cipher-suites` takes it.
pub(crate) fn by_name(name: &str) -> Result<SupportedCipherSuite, Error> {
    let known = KNOWN
        .iter()
        .find(|known| known.names.contains(&name))
        .ok_or_else(|| Error::UnknownSuite(gotext::quote(name)))?;
    known
        .suite
        .ok_or_else(|| Error::UnsupportedSuite(gotext::quote(name)))
}

#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = (&'static str, bool)> {
    KNOWN.iter().flat_map(|known| {
        known
            .names
            .iter()
            .map(|name| (*name, known.suite.is_some()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_name_the_same_suite() {
        for kind in ["RSA", "ECDSA"] {
            let long = format!("TLS_ECDHE_{kind}_WITH_CHACHA20_POLY1305_SHA256");
            let short = format!("TLS_ECDHE_{kind}_WITH_CHACHA20_POLY1305");
            assert_eq!(by_name(&long).unwrap(), by_name(&short).unwrap());
        }
    }

    #[test]
    fn unknown_and_missing_suites_are_told_apart() {
        assert_eq!(
            by_name("FOO").unwrap_err().to_string(),
            "unexpected TLS cipher suite \"FOO\""
        );
        let text = by_name("TLS_RSA_WITH_AES_128_GCM_SHA256")
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with(
                "TLS cipher suite \"TLS_RSA_WITH_AES_128_GCM_SHA256\" is not supported"
            ),
            "{text}"
        );
        assert_eq!(names().filter(|(_, here)| *here).count(), 11);
    }
}

//! Versions and cipher suites.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::{Error, suites};

/// Which versions of TLS and which cipher suites are used: `--tls-min-version`, `--tls-max-version`, `--cipher-suites`.
#[derive(Clone, Debug)]
pub struct Protocol {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    suite_names: Vec<String>,
}

impl Default for Protocol {
    fn default() -> Self {
        Self::with(0, VERSIONS.len() - 1, &[]).expect("no names are given that could be wrong")
    }
}

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLS1.2", &version::TLS12), ("TLS1.3", &version::TLS13)];

impl Protocol {
    /// Versions are `TLS1.2`, `TLS1.3` or empty (from TLS 1.2, up to the newest). Suites have their IANA names or Go's;
    /// none given means all. A list restricts TLS 1.2 only: the suites of TLS 1.3 are not configurable.
    pub fn new<S: AsRef<str>>(min: &str, max: &str, suites: &[S]) -> Result<Self, Error> {
        let min = place(min)?.unwrap_or(0);
        let max = place(max)?.unwrap_or(VERSIONS.len() - 1);
        if min > max {
            return Err(Error::VersionOrder {
                min: VERSIONS[min].0,
                max: VERSIONS[max].0,
            });
        }
        if min == VERSIONS.len() - 1 && !suites.is_empty() {
            return Err(Error::SuitesOfTls13);
        }
        let names: Vec<&str> = suites.iter().map(AsRef::as_ref).collect();
        Self::with(min, max, &names)
    }

    fn with(min: usize, max: usize, names: &[&str]) -> Result<Self, Error> {
        let mut provider = aws_lc_rs::default_provider();
        if !names.is_empty() {
            let chosen: Vec<SupportedCipherSuite> = names
                .iter()
                .map(|name| suites::by_name(name))
                .collect::<Result<_, _>>()?;
            provider.cipher_suites.retain(|suite| {
                suite.version().version == ProtocolVersion::TLSv1_3 || chosen.contains(suite)
            });
        }
        let wanted = &VERSIONS[min..=max];
        provider.cipher_suites.retain(|suite| {
            wanted
                .iter()
                .any(|(_, version)| version.version == suite.version().version)
        });
        // rustls refuses versions for which it has no suites left.
        let versions = wanted
            .iter()
            .map(|(_, version)| *version)
            .filter(|version| {
                provider
                    .cipher_suites
                    .iter()
                    .any(|suite| suite.version().version == version.version)
            })
            .collect();
        Ok(Self {
            provider: Arc::new(provider),
            versions,
            suite_names: names.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    /// The names given, for start-up lines.
    pub fn suite_names(&self) -> &[String] {
        &self.suite_names
    }

    /// HTTP/2 demands a suite that a list may lack; etcd then does not start.
    pub(crate) fn check_http2(&self) -> Result<(), Error> {
        const DEMANDED: [&str; 2] = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ];
        let names = &self.suite_names;
        if !names.is_empty() && !names.iter().any(|name| DEMANDED.contains(&name.as_str())) {
            return Err(Error::SuiteOfHttp2);
        }
        Ok(())
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(crate) fn versions(&self) -> &[&'static SupportedProtocolVersion] {
        &self.versions
    }
}

fn place(name: &str) -> Result<Option<usize>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    VERSIONS
        .iter()
        .position(|(known, _)| *known == name)
        .map(Some)
        .ok_or_else(|| Error::UnknownVersion(gotext::quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(min: &str, max: &str, suites: &[&str]) -> String {
        Protocol::new(min, max, suites).unwrap_err().to_string()
    }

    #[test]
    fn versions_are_checked_in_etcds_words() {
        assert_eq!(
            error("TLS1.1", "", &[]),
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"
        );
        assert_eq!(
            error("TLS1.3", "TLS1.2", &[]),
            "min version (TLS1.3) is greater than max version (TLS1.2)"
        );
        assert_eq!(
            error("TLS1.3", "", &["TLS_AES_128_GCM_SHA256"]),
            "cipher suites cannot be configured when only TLS1.3 is enabled"
        );
        assert_eq!(Protocol::default().versions().len(), 2);
        let old = Protocol::new::<&str>("", "TLS1.2", &[]).unwrap();
        assert_eq!(old.versions(), [&version::TLS12]);
    }

    #[test]
    fn a_list_restricts_tls_1_2_only() {
        let list = Protocol::new("", "", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).unwrap();
        let suites = &list.provider().cipher_suites;
        let of = |version| {
            let of = |suite: &&SupportedCipherSuite| suite.version().version == version;
            suites.iter().filter(of).count()
        };
        assert_eq!(
            (of(ProtocolVersion::TLSv1_2), of(ProtocolVersion::TLSv1_3)),
            (1, 3)
        );
        assert!(list.check_http2().is_ok());

        // Names of TLS 1.3 alone leave nothing for TLS 1.2.
        let only13 = Protocol::new("", "", &["TLS_AES_128_GCM_SHA256"]).unwrap();
        assert_eq!(only13.versions(), [&version::TLS13]);
        assert_eq!(only13.check_http2(), Err(Error::SuiteOfHttp2));
    }
}

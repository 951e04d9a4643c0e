//! What a certificate says, as far as TLS asks.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{
    FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Version,
};

use crate::refusal::Refusal;

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// By a server.
    Server,
    /// By a client.
    Client,
}

/// A parsed certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) x509: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Parses a certificate that fills the bytes.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        match X509Certificate::from_der(der) {
            Ok(([], x509)) => Ok(Self { der, x509 }),
            _ => Err(Refusal::malformed()),
        }
    }

    pub(crate) fn is_v3(&self) -> bool {
        self.x509.version() == X509Version::V3
    }

    /// The extension `basicConstraints`: is an authority, and how many intermediates may stand below.
    pub(crate) fn authority(&self) -> Option<(bool, Option<u32>)> {
        let constraints = self.x509.basic_constraints().ok()??.value;
        Some((constraints.ca, constraints.path_len_constraint))
    }

    /// May have signed other certificates. Those of version 1 cannot say so and are believed, as in Go.
    pub(crate) fn may_sign(&self) -> bool {
        if self.is_v3() && !matches!(self.authority(), Some((true, _))) {
            return false;
        }
        match self.x509.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Checks the time.
    pub(crate) fn check_time(&self, now: i64) -> Result<(), Refusal> {
        let (not_before, not_after) = (self.not_before(), self.not_after());
        if now < not_before {
            return Err(Refusal::NotYet { now, not_before });
        }
        if now > not_after {
            return Err(Refusal::Expired { now, not_after });
        }
        Ok(())
    }

    pub(crate) fn not_before(&self) -> i64 {
        self.x509.validity().not_before.timestamp()
    }

    pub(crate) fn not_after(&self) -> i64 {
        self.x509.validity().not_after.timestamp()
    }

    /// Checks what it is for: no word about it allows everything.
    pub(crate) fn check_usage(&self, usage: Usage) -> Result<(), Refusal> {
        let allowed = match self.x509.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(extension)) => {
                let usages = extension.value;
                usages.any
                    || match usage {
                        Usage::Server => usages.server_auth,
                        Usage::Client => usages.client_auth,
                    }
            }
            Err(_) => return Err(Refusal::malformed()),
        };
        if allowed { Ok(()) } else { Err(Refusal::Usage) }
    }

    /// Refuses critical extensions nobody here looks at.
    pub(crate) fn check_critical(&self) -> Result<(), Refusal> {
        let unknown = self.x509.iter_extensions().any(|extension| {
            extension.critical
                && !matches!(
                    extension.parsed_extension(),
                    ParsedExtension::BasicConstraints(_)
                        | ParsedExtension::KeyUsage(_)
                        | ParsedExtension::ExtendedKeyUsage(_)
                        | ParsedExtension::SubjectAlternativeName(_)
                        | ParsedExtension::NameConstraints(_)
                )
        });
        if unknown {
            return Err(Refusal::critical_extension());
        }
        Ok(())
    }

    /// The last common name of the subject, which is the one Go takes; empty if there is none.
    pub(crate) fn common_name(&self) -> String {
        let Some(attribute) = self.x509.subject().iter_common_name().last() else {
            return String::new();
        };
        if let Ok(text) = attribute.as_str() {
            return text.to_owned();
        }
        // BMPString: UTF-16.
        let data = attribute.attr_value().data;
        let units: Vec<u16> = data
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    }

    /// The host names and addresses it is valid for.
    pub(crate) fn names(&self) -> Names {
        let mut names = Names::default();
        let Ok(Some(extension)) = self.x509.subject_alternative_name() else {
            return names;
        };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The host names and addresses of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) dns: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.addresses.is_empty()
    }

    /// Checks that the certificate is valid for a host name or an address (also in brackets), in Go's words.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), String> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.check_address(address);
        }
        if self.dns.iter().any(|pattern| matches(pattern, host)) {
            return Ok(());
        }
        if self.dns.is_empty() {
            return Err(format!(
                "x509: certificate is not valid for any names, but wanted to match {host}"
            ));
        }
        Err(format!(
            "x509: certificate is valid for {}, not {host}",
            self.dns.join(", ")
        ))
    }

    /// Checks that the certificate is valid for an address.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        if self
            .addresses
            .iter()
            .any(|known| known.to_canonical() == address)
        {
            return Ok(());
        }
        if self.addresses.is_empty() {
            return Err(format!(
                "x509: cannot validate certificate for {address} because it doesn't contain any IP SANs"
            ));
        }
        let known: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        Err(format!(
            "x509: certificate is valid for {}, not {address}",
            known.join(", ")
        ))
    }
}

/// Compares a host with a name of a certificate. A star stands for the whole first label and nothing else.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_host_name(pattern, true) || !is_host_name(host, false) {
        return false;
    }
    let (pattern_first, pattern_rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    let (host_first, host_rest) = host.split_once('.').unwrap_or((host, ""));
    (pattern_first == "*" || pattern_first.eq_ignore_ascii_case(host_first))
        && pattern_rest.eq_ignore_ascii_case(host_rest)
}

fn is_host_name(name: &str, star: bool) -> bool {
    if name.is_empty() || name == "*" {
        return false;
    }
    name.split('.').enumerate().all(|(place, label)| {
        (star && place == 0 && label == "*")
            || (!label.is_empty()
                && !label.starts_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
    })
}

/// When the first of a chain to end ends.
pub(crate) fn first_end(chain: &[CertificateDer<'_>]) -> Option<i64> {
    chain
        .iter()
        .filter_map(|der| Some(Certificate::parse(der).ok()?.not_after()))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dns: &[&str], addresses: &[&str]) -> Names {
        Names {
            dns: dns.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_star_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("a.example", "A.Example", true),
            ("a.example", "a.example.", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("a.*", "a.example", false),
            ("a*.example", "ab.example", false),
            ("*", "example", false),
            ("exa mple", "exa mple", false),
            ("", "", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn hosts_are_refused_in_gos_words() {
        let both = names(&["a.example", "b.example"], &["10.9.9.9", "::1"]);
        assert!(both.check_host("b.example").is_ok());
        assert!(both.check_host("10.9.9.9").is_ok());
        assert!(both.check_host("[::1]").is_ok());
        assert!(both.check_host("::ffff:10.9.9.9").is_ok());
        assert_eq!(
            both.check_host("c.example").unwrap_err(),
            "x509: certificate is valid for a.example, b.example, not c.example"
        );
        assert_eq!(
            both.check_host("127.0.0.1").unwrap_err(),
            "x509: certificate is valid for 10.9.9.9, ::1, not 127.0.0.1"
        );
        assert_eq!(
            names(&[], &[]).check_host("a").unwrap_err(),
            "x509: certificate is not valid for any names, but wanted to match a"
        );
        assert_eq!(
            names(&["a"], &[]).check_host("1.2.3.4").unwrap_err(),
            "x509: cannot validate certificate for 1.2.3.4 because it doesn't contain any IP SANs"
        );
    }
}

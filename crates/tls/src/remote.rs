//! Whether a certificate fits the address a connection comes from.

use std::net::IpAddr;

use crate::certificate::Names;
use crate::go;
use crate::resolver::Resolver;

/// Names looked up for one certificate, at most.
const MAX_LOOKUPS: usize = 64;

/// Checks that a certificate names the remote address: as an address, through the names that address has, or through
/// the addresses its own names have. A certificate without names fits everywhere. Rules and words are etcd's
/// (`docs/tls.md`).
pub(crate) async fn check(
    names: &Names,
    remote: Option<IpAddr>,
    resolver: &dyn Resolver,
) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    let Some(remote) = remote.map(|address| address.to_canonical()) else {
        return Err("address @: missing port in address".to_owned());
    };
    if !names.addresses.is_empty() {
        match names.check_address(remote) {
            Ok(()) => return Ok(()),
            Err(error) if names.dns.is_empty() => return Err(error),
            Err(_) => {}
        }
    }
    if let Ok(found) = resolver.names(remote).await
        && found.iter().any(|host| names_host(&names.dns, host))
    {
        return Ok(());
    }
    let error = match resolves_to(&names.dns, remote, resolver).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let list = go::quoted_list(&names.dns);
    let why = error.map_or_else(String::new, |error| format!(" ({error})"));
    Err(format!(
        "tls: {} does not match any of DNSNames {list}{why}",
        gotext::quote(&remote.to_string())
    ))
}

/// A host is named exactly, or by `*.` and what follows its first dot.
fn names_host(names: &[String], host: &str) -> bool {
    let host = host.trim_end_matches('.');
    names.iter().any(|name| {
        name.eq_ignore_ascii_case(host)
            || name.strip_prefix("*.").is_some_and(|suffix| {
                host.split_once('.')
                    .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(suffix))
            })
    })
}

/// Looks for a name with this address; else returns the last error, if there was one.
async fn resolves_to(
    names: &[String],
    remote: IpAddr,
    resolver: &dyn Resolver,
) -> Result<(), Option<String>> {
    let mut error = None;
    let names = names.iter().filter(|name| !name.starts_with("*."));
    for name in names.take(MAX_LOOKUPS) {
        match resolver.addresses(name.clone()).await {
            Ok(found) if found.iter().any(|ip| ip.to_canonical() == remote) => return Ok(()),
            Ok(_) => {}
            Err(why) => error = Some(why),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::LookupFuture;

    /// 10.0.0.1 is a.example and back; b.example is 10.0.0.2, whose name is another.
    struct Table;

    impl Resolver for Table {
        fn names(&self, address: IpAddr) -> LookupFuture<Vec<String>> {
            let answer = match address.to_string().as_str() {
                "10.0.0.1" => Ok(vec!["a.example.".to_owned()]),
                "10.0.0.2" => Ok(vec!["host-2.internal.".to_owned()]),
                other => Err(format!("lookup {other}: no such host")),
            };
            Box::pin(std::future::ready(answer))
        }

        fn addresses(&self, name: String) -> LookupFuture<Vec<IpAddr>> {
            let answer = match name.as_str() {
                "b.example" => Ok(vec!["10.0.0.2".parse().unwrap()]),
                other => Err(format!("lookup {other}: no such host")),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    async fn ask(dns: &[&str], addresses: &[&str], remote: &str) -> Result<(), String> {
        let names = Names {
            dns: dns.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        check(&names, remote.parse().ok(), &Table).await
    }

    #[tokio::test]
    async fn a_certificate_fits_by_address_by_name_or_by_lookup() {
        assert_eq!(ask(&[], &[], "10.9.9.9").await, Ok(()));
        assert_eq!(ask(&[], &["10.0.0.1"], "10.0.0.1").await, Ok(()));
        assert_eq!(ask(&[], &["10.0.0.1"], "::ffff:10.0.0.1").await, Ok(()));
        assert_eq!(ask(&["a.example"], &[], "10.0.0.1").await, Ok(()));
        assert_eq!(ask(&["*.example"], &["10.5.5.5"], "10.0.0.1").await, Ok(()));
        assert_eq!(ask(&["b.example"], &[], "10.0.0.2").await, Ok(()));
    }

    #[tokio::test]
    async fn others_are_refused_in_etcds_words() {
        assert_eq!(
            ask(&[], &["10.9.9.9"], "127.0.0.1").await.unwrap_err(),
            "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"
        );
        assert_eq!(
            ask(&["c.example", "d.example"], &[], "10.0.0.1")
                .await
                .unwrap_err(),
            "tls: \"10.0.0.1\" does not match any of DNSNames [\"c.example\" \"d.example\"] (lookup d.example: no such host)"
        );
        assert_eq!(
            ask(&["b.example"], &[], "10.0.0.1").await.unwrap_err(),
            "tls: \"10.0.0.1\" does not match any of DNSNames [\"b.example\"]"
        );
        // A star stands for one label.
        assert!(ask(&["*.le"], &[], "10.0.0.1").await.is_err());
        // No address, as on a socket in the file system.
        assert!(ask(&["b.example"], &[], "").await.is_err());
    }
}

//! Whether two lists of URLs mean the same places.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;

/// Compares two lists of URLs, literally first and then by the addresses behind their names.
/// `localhost` is not resolved, as in etcd.
pub(crate) fn same_urls(a: &[String], b: &[String]) -> Result<(), String> {
    let (mut left, mut right) = (a.to_vec(), b.to_vec());
    left.sort_unstable();
    right.sort_unstable();
    if left == right {
        return Ok(());
    }
    let (left, right) = (resolve_all(&left)?, resolve_all(&right)?);
    if left == right {
        Ok(())
    } else {
        let quoted = |urls: &BTreeSet<String>| {
            urls.iter()
                .map(|u| gotext::quote(u))
                .collect::<Vec<_>>()
                .join(" ")
        };
        Err(format!(
            "resolved urls: {} != {}",
            quoted(&left),
            quoted(&right)
        ))
    }
}

fn resolve_all(urls: &[String]) -> Result<BTreeSet<String>, String> {
    urls.iter().map(|url| resolve(url)).collect()
}

fn resolve(url: &str) -> Result<String, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok(url.to_owned());
    };
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Ok(url.to_owned());
    };
    if scheme.starts_with("unix")
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok()
    {
        return Ok(url.to_owned());
    }
    let address = rest
        .to_socket_addrs()
        .map_err(|e| format!("failed to resolve {url}: {e}"))?
        .next()
        .ok_or_else(|| format!("failed to resolve {url}: no address"))?;
    let ip = address.ip();
    Ok(if ip.is_ipv6() {
        format!("{scheme}://[{ip}]:{port}")
    } else {
        format!("{scheme}://{ip}:{port}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(|u| (*u).to_owned()).collect()
    }

    #[test]
    fn the_order_of_urls_does_not_matter_and_addresses_are_compared() {
        let one = urls(&["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let other = urls(&["http://127.0.0.1:2", "http://127.0.0.1:1"]);
        assert!(same_urls(&one, &other).is_ok());
        let wrong = same_urls(&one, &urls(&["http://127.0.0.1:3"])).unwrap_err();
        assert!(wrong.starts_with("resolved urls: "), "{wrong}");
    }
}

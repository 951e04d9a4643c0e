//! The headers members put on their requests, and what they must say to be heard.

use std::str::FromStr as _;

use cluster::Version;
use gotext::Hex;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::Config;

pub(crate) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(crate) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(crate) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(crate) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
pub(crate) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");

/// Body of the refusal of another release.
pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";
/// Body of the refusal of another cluster.
pub(crate) const CLUSTER_MISMATCH: &str = "cluster ID mismatch";

/// What a member without a version header is: etcd 2.0 had none.
const NO_VERSION: Version = Version::new(2, 0, 0);

/// A value that is made of digits, letters and URL characters.
pub(crate) fn value(text: &(impl ToString + ?Sized)) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// The headers of everything this member sends to raft paths.
pub(crate) fn own(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(SERVER_FROM, value(&config.id_text()));
    headers.insert(SERVER_VERSION, value(&config.version));
    headers.insert(MIN_CLUSTER_VERSION, value(&config.min_cluster_version));
    headers.insert(CLUSTER_ID, value(&config.cluster_text()));
    headers.insert(PEER_URLS, value(&config.peer_urls.join(",")));
    headers
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The version under `name`. One that cannot be read counts as the oldest: Go crashes on it.
pub(crate) fn version(headers: &HeaderMap, name: &HeaderName) -> Version {
    Version::from_str(text(headers, name)).unwrap_or(NO_VERSION)
}

/// Who sent the request, as far as it says.
pub(crate) fn sender(headers: &HeaderMap) -> Option<u64> {
    Hex::parse(text(headers, &SERVER_FROM))
}

/// Where the sender says it can be reached.
pub(crate) fn sender_urls(headers: &HeaderMap) -> Vec<String> {
    text(headers, &PEER_URLS)
        .split(',')
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Refuses what comes from another cluster or from a release that cannot work with ours; returns the text of the
/// answer.
pub(crate) fn check(config: &Config, headers: &HeaderMap) -> Result<(), &'static str> {
    let theirs = version(headers, &SERVER_VERSION);
    let their_minimum = version(headers, &MIN_CLUSTER_VERSION);
    let name = text(headers, &SERVER_FROM);
    let (id, cluster_id) = (config.id_text(), config.cluster_text());
    let error = if theirs.cluster() < config.min_cluster_version.cluster() {
        "remote version is too low"
    } else if their_minimum.cluster() > config.version.cluster() {
        "local version is too low"
    } else {
        ""
    };
    if !error.is_empty() {
        tracing::warn!(
            "local-member-id" = %id,
            "local-member-cluster-id" = %cluster_id,
            "local-member-server-version" = %config.version,
            "local-member-server-minimum-cluster-version" = %config.min_cluster_version,
            "remote-peer-server-name" = name,
            "remote-peer-server-version" = %theirs,
            "remote-peer-server-minimum-cluster-version" = %their_minimum,
            error = %format_args!("{error}: remote[{name}]={theirs}, local={}", config.version),
            "failed version compatibility check"
        );
        return Err(INCOMPATIBLE_VERSION);
    }
    let their_cluster = text(headers, &CLUSTER_ID);
    if their_cluster != cluster_id.to_string() {
        tracing::warn!(
            "local-member-id" = %id,
            "local-member-cluster-id" = %cluster_id,
            "local-member-server-version" = %config.version,
            "local-member-server-minimum-cluster-version" = %config.min_cluster_version,
            "remote-peer-server-name" = name,
            "remote-peer-server-version" = %theirs,
            "remote-peer-server-minimum-cluster-version" = %their_minimum,
            "remote-peer-cluster-id" = their_cluster,
            "request cluster ID mismatch"
        );
        return Err(CLUSTER_MISMATCH);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(0xa, 0xc1, Version::new(3, 7, 3), vec!["http://h:1".into()])
    }

    fn headers(version: &str, minimum: &str, cluster: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_VERSION, value(version));
        headers.insert(MIN_CLUSTER_VERSION, value(minimum));
        headers.insert(CLUSTER_ID, value(cluster));
        headers
    }

    #[test]
    fn own_headers_are_accepted_by_ourselves() {
        let headers = own(&config());
        assert_eq!(check(&config(), &headers), Ok(()));
        assert_eq!(sender(&headers), Some(0xa));
        assert_eq!(sender_urls(&headers), ["http://h:1"]);
    }

    #[test]
    fn versions_are_compared_without_patch() {
        let check = |version, minimum| check(&config(), &headers(version, minimum, "c1"));
        assert_eq!(check("3.5.35", "3.0.0"), Ok(()));
        assert_eq!(check("3.8.0", "3.7.9"), Ok(()));
        assert_eq!(check("3.7.0", "3.8.0"), Err(INCOMPATIBLE_VERSION));
        assert_eq!(check("2.3.8", "2.1.0"), Err(INCOMPATIBLE_VERSION));
        assert_eq!(check("no version", "3.0.0"), Err(INCOMPATIBLE_VERSION));
        assert_eq!(
            super::check(&config(), &HeaderMap::new()),
            Err(INCOMPATIBLE_VERSION)
        );
    }

    #[test]
    fn cluster_id_is_compared_as_text() {
        let check = |cluster| check(&config(), &headers("3.7.0", "3.0.0", cluster));
        assert_eq!(check("c1"), Ok(()));
        assert_eq!(check("0c1"), Err(CLUSTER_MISMATCH));
        assert_eq!(check("C1"), Err(CLUSTER_MISMATCH));
        assert_eq!(check(""), Err(CLUSTER_MISMATCH));
    }
}

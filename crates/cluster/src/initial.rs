use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gotext::{Hex, Url, UrlError, parse_url_list};

use crate::{Member, Membership, is_valid_member_id};

/// Decides whether two lists of URLs mean the same places, by resolving their names. `Err` carries
/// the reason why not.
pub type SameUrls<'a> = &'a mut dyn FnMut(&[String], &[String]) -> Result<(), String>;

/// The founding members: names and peer URLs, from `--initial-cluster` or a discovery service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<Url>>,
}

/// Why an initial cluster does not work; `Display` is etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitialClusterError {
    /// The own name is not listed.
    #[error("couldn't find local name {} in the initial cluster configuration", gotext::quote(.0))]
    LocalNameMissing(String),
    /// A URL is listed twice.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// Nobody is listed and no discovery service is given.
    #[error("initial cluster unset and no discovery endpoints found")]
    Empty,
    /// The own URLs are not those that are advertised.
    #[error("{0}")]
    AdvertisedUrls(String),
    /// Two members have the same URLs.
    #[error("member exists with identical ID {}", Hex(*.0))]
    SameId(u64),
    /// The URLs give an id that raft reserves.
    #[error("cannot use {} as member id", Hex(*.0))]
    ReservedId(u64),
}

impl InitialCluster {
    /// Reads `name=url,name=url2,…`. A name may come more than once; items without a name are
    /// skipped, as etcd does.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (name, url) = item.split_once('=').unwrap_or((item, ""));
            texts.entry(name).or_default().push(url);
        }
        let urls = |(name, urls): (&str, Vec<&str>)| Ok((name.to_owned(), parse_url_list(urls)?));
        Ok(Self {
            members: texts
                .into_iter()
                .map(urls)
                .collect::<Result<_, UrlError>>()?,
        })
    }

    /// Adds or replaces a member.
    pub fn insert(&mut self, name: &str, urls: Vec<Url>) {
        self.members.insert(name.to_owned(), urls);
    }

    /// The URLs of a member.
    pub fn get(&self, name: &str) -> Option<&[Url]> {
        self.members.get(name).map(Vec::as_slice)
    }

    /// Names and URLs in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Url])> {
        self.members
            .iter()
            .map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// Whether nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members are listed.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The peer URLs of everybody but `name`, sorted and without duplicates.
    pub fn other_urls(&self, name: &str) -> Vec<String> {
        let others = self
            .iter()
            .filter(|(n, _)| *n != name)
            .flat_map(|(_, urls)| texts(urls));
        others.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The founding members with their ids, in the order of the names.
    pub fn members(&self, token: &str) -> Result<Vec<Member>, InitialClusterError> {
        let mut members: Vec<Member> = Vec::with_capacity(self.len());
        for (name, urls) in self.iter() {
            let member = Member::new(name, &texts(urls), token, None);
            if !is_valid_member_id(member.id) {
                return Err(InitialClusterError::ReservedId(member.id));
            }
            if members.iter().any(|m| m.id == member.id) {
                return Err(InitialClusterError::SameId(member.id));
            }
            members.push(member);
        }
        Ok(members)
    }

    /// The checks before a new cluster is founded.
    pub fn verify_bootstrap(
        &self,
        name: &str,
        advertised: &[Url],
        has_discovery: bool,
        same: SameUrls<'_>,
    ) -> Result<(), InitialClusterError> {
        self.verify_local_name(name)?;
        self.verify_advertised(name, advertised, same)?;
        self.verify_no_duplicates()?;
        if self.is_empty() && !has_discovery {
            return Err(InitialClusterError::Empty);
        }
        Ok(())
    }

    /// The checks before an existing cluster is joined.
    pub fn verify_join(
        &self,
        name: &str,
        advertised: &[Url],
        same: SameUrls<'_>,
    ) -> Result<(), InitialClusterError> {
        self.verify_local_name(name)?;
        self.verify_no_duplicates()?;
        self.verify_advertised(name, advertised, same)
    }

    fn verify_local_name(&self, name: &str) -> Result<(), InitialClusterError> {
        match self.get(name) {
            Some(_) => Ok(()),
            None => Err(InitialClusterError::LocalNameMissing(name.to_owned())),
        }
    }

    fn verify_no_duplicates(&self) -> Result<(), InitialClusterError> {
        let mut seen = BTreeSet::new();
        if self
            .members
            .values()
            .flatten()
            .all(|url| seen.insert(url.to_string()))
        {
            return Ok(());
        }
        Err(InitialClusterError::DuplicateUrl(self.to_string()))
    }

    /// The URLs listed under the own name must be those that are advertised, literally or after
    /// their names are resolved.
    fn verify_advertised(
        &self,
        name: &str,
        advertised: &[Url],
        same: SameUrls<'_>,
    ) -> Result<(), InitialClusterError> {
        let mut listed = texts(self.get(name).unwrap_or_default());
        let mut own = texts(advertised);
        listed.sort_unstable();
        own.sort_unstable();
        if listed == own {
            return Ok(());
        }
        let Err(cause) = same(&own, &listed) else {
            return Ok(());
        };
        let minus = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|url| !b.contains(url)).cloned().collect()
        };
        let own_as_cluster = || {
            own.iter()
                .map(|url| format!("{name}={url}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let only_listed = minus(&listed, &own);
        let only_own = minus(&own, &listed);
        Err(InitialClusterError::AdvertisedUrls(
            if !only_listed.is_empty() {
                let missing: Vec<String> = only_listed
                    .iter()
                    .map(|url| format!("{name}={url}"))
                    .collect();
                format!(
                    "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({cause})",
                    missing.join(","),
                    own.join(",")
                )
            } else if !only_own.is_empty() {
                format!(
                    "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                    only_own.join(","),
                    own_as_cluster()
                )
            } else {
                format!(
                    "failed to resolve {} to match --initial-cluster={} ({cause})",
                    own.join(","),
                    own_as_cluster()
                )
            },
        ))
    }
}

impl fmt::Display for InitialCluster {
    /// `name=url,name=url2`, sorted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = self
            .iter()
            .flat_map(|(name, urls)| {
                texts(urls)
                    .into_iter()
                    .map(move |url| format!("{name}={url}"))
            })
            .collect();
        pairs.sort_unstable();
        f.write_str(&pairs.join(","))
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

/// Joins an existing cluster: gives the locally listed members the ids (and the learner flags) of
/// the members the cluster already has. Every one of them must match a listed one by its URLs.
pub fn adopt_existing(
    cluster_id: u64,
    mut listed: Vec<Member>,
    existing: &[Member],
    same: SameUrls<'_>,
) -> Result<Vec<Member>, String> {
    let fail = |cause: &str| {
        let cluster = Membership::describe(cluster_id, existing.iter());
        Err(format!("error validating peerURLs {cluster}: {cause}"))
    };
    if listed.len() != existing.len() {
        return fail("member count is unequal");
    }
    listed.sort_unstable_by_key(|m| m.id);
    let mut matched = vec![false; listed.len()];
    for member in existing {
        let mut last_error = String::new();
        let found = listed.iter().position(|own| {
            own.peer_urls == member.peer_urls
                || same(&member.peer_urls, &own.peer_urls)
                    .inspect_err(|e| e.clone_into(&mut last_error))
                    .is_ok()
        });
        match found {
            Some(at) => {
                listed[at].id = member.id;
                listed[at].is_learner = member.is_learner;
                matched[at] = true;
            }
            None => {
                return fail(&format!(
                    "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error ({last_error})",
                    member.id,
                    member.peer_urls.join(" ")
                ));
            }
        }
    }
    if matched.contains(&false) {
        return fail("PeerURLs: two existing members match the same listed one");
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: &[String], _: &[String]) -> Result<(), String> {
        Err("no resolver".to_owned())
    }

    fn urls(text: &str) -> Vec<Url> {
        parse_url_list(text.split(',')).unwrap()
    }

    #[test]
    fn lists_are_read_and_printed() {
        let text = "b=http://b:1,a=http://a:2,a=http://a:1";
        let cluster = InitialCluster::parse(text).unwrap();
        assert_eq!(
            cluster.to_string(),
            "a=http://a:1,a=http://a:2,b=http://b:1"
        );
        assert_eq!(cluster.other_urls("a"), ["http://b:1"]);
        assert!(InitialCluster::parse("").unwrap().is_empty());
        for (text, want) in [
            ("a", "URL scheme must be http, https, unix, or unixs: "),
            ("a=b", "URL scheme must be http, https, unix, or unixs: b"),
            (
                "a=http://b",
                "URL address does not have the form \"host:port\": http://b",
            ),
        ] {
            assert_eq!(InitialCluster::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn ids_come_from_urls_and_token() {
        let cluster = InitialCluster::parse("x=http://127.0.0.1:21411").unwrap();
        assert_eq!(cluster.members("tok").unwrap()[0].id, 0x1954_7793_d818_bab2);
        let twins = InitialCluster::parse("a=http://h:1,b=http://h:1").unwrap();
        assert!(matches!(
            twins.members("t"),
            Err(InitialClusterError::SameId(_))
        ));
    }

    #[test]
    fn bootstrap_checks_have_etcds_texts() {
        let two = "a=http://a:1,b=http://b:1";
        for (cluster, name, advertised, want) in [
            (two, "a", "http://a:1", None),
            (
                two,
                "c",
                "http://a:1",
                Some("couldn't find local name \"c\" in the initial cluster configuration"),
            ),
            (
                two,
                "a",
                "http://x:1",
                Some(
                    "--initial-cluster has a=http://a:1 but missing from \
                     --initial-advertise-peer-urls=http://x:1 (no resolver)",
                ),
            ),
            (
                two,
                "a",
                "http://a:1,http://x:1",
                Some(
                    "--initial-advertise-peer-urls has http://x:1 but missing from \
                     --initial-cluster=a=http://a:1,a=http://x:1",
                ),
            ),
            (
                "a=http://a:1,b=http://a:1",
                "a",
                "http://a:1",
                Some("initial cluster a=http://a:1,b=http://a:1 has duplicate url"),
            ),
        ] {
            let cluster = InitialCluster::parse(cluster).unwrap();
            let got = cluster.verify_bootstrap(name, &urls(advertised), false, &mut never);
            assert_eq!(got.err().map(|e| e.to_string()).as_deref(), want);
        }
        let resolved = InitialCluster::parse(two).unwrap();
        assert_eq!(
            resolved.verify_join("a", &urls("http://x:1"), &mut |_, _| Ok(())),
            Ok(())
        );
    }

    #[test]
    fn joining_takes_ids_from_the_cluster() {
        let cluster = InitialCluster::parse("a=http://a:1,b=http://b:1").unwrap();
        let existing = [
            Member {
                id: 7,
                peer_urls: vec!["http://a:1".to_owned()],
                ..Member::default()
            },
            Member {
                id: 8,
                peer_urls: vec!["http://b:1".to_owned()],
                is_learner: true,
                name: "bb".to_owned(),
                ..Member::default()
            },
        ];
        let listed = cluster.members("t").unwrap();
        let mut joined = adopt_existing(1, listed.clone(), &existing, &mut never).unwrap();
        joined.sort_by_key(|m| m.id);
        let brief: Vec<_> = joined
            .iter()
            .map(|m| (m.id, m.name.as_str(), m.is_learner))
            .collect();
        assert_eq!(brief, [(7, "a", false), (8, "b", true)]);

        let fewer = adopt_existing(0xc1, listed.clone(), &existing[..1], &mut never);
        assert_eq!(
            fewer.unwrap_err(),
            "error validating peerURLs {ClusterID:c1 Members:[&{ID:7 RaftAttributes:\
             {PeerURLs:[http://a:1] IsLearner:false} Attributes:{Name: ClientURLs:[]}}] \
             RemovedMemberIDs:[]}: member count is unequal"
        );
        let other = [
            existing[0].clone(),
            Member {
                id: 9,
                ..Member::default()
            },
        ];
        let unmatched = adopt_existing(1, listed, &other, &mut never).unwrap_err();
        assert!(unmatched.ends_with(
            "PeerURLs: no match found for existing member (9, []), last resolver error (no resolver)"
        ));
    }
}

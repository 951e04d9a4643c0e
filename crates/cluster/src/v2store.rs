//! The JSON dump of the v2 store. etcd keeps the data field of disk and network snapshots in this
//! form; today it holds membership and cluster version only.

use std::collections::{BTreeMap, BTreeSet};

use gotext::{Escape, Hex, push_json_string};
use serde_json::{Map, Value};

use crate::json::{bool_field, field, object, string_field, strings_field};
use crate::member::{attributes_json, raft_attributes_json};
use crate::{Member, Membership, Version};

const NEVER: &str = "0001-01-01T00:00:00Z";

/// The dump is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("v2 store: {0}")]
pub struct V2StoreError(String);

/// What a dump says about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V2Membership {
    /// In the order of their ids.
    pub members: Vec<Member>,
    /// Removed ids.
    pub removed: BTreeSet<u64>,
    /// `None` when the cluster had not agreed on one.
    pub version: Option<Version>,
    /// Users have kept data of their own in the v2 store (possible up to 3.5).
    pub has_custom_content: bool,
}

#[derive(Default)]
struct Node {
    created: u64,
    value: String,
    /// `None` for a leaf.
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn directory(created: u64) -> Self {
        Self {
            created,
            children: Some(BTreeMap::new()),
            ..Self::default()
        }
    }

    /// Creates a leaf below this directory, with the directories on its way.
    fn create(&mut self, path: &[&str], index: u64, value: String) {
        let mut node = self;
        for part in &path[..path.len() - 1] {
            let children = node.children.get_or_insert_default();
            node = children
                .entry((*part).to_owned())
                .or_insert_with(|| Self::directory(index));
        }
        let leaf = Self {
            created: index,
            value,
            children: None,
        };
        node.children
            .get_or_insert_default()
            .insert(path[path.len() - 1].to_owned(), leaf);
    }

    fn push_json(&self, out: &mut String, path: &str) {
        out.push_str("{\"Path\":");
        push_json_string(out, if path.is_empty() { "/" } else { path }, Escape::Html);
        let created = self.created.to_string();
        for (key, value) in [
            ("CreatedIndex", created.as_str()),
            ("ModifiedIndex", &created),
        ] {
            out.push_str(",\"");
            out.push_str(key);
            out.push_str("\":");
            out.push_str(value);
        }
        out.push_str(",\"ExpireTime\":\"");
        out.push_str(NEVER);
        out.push_str("\",\"Value\":");
        push_json_string(out, &self.value, Escape::Html);
        out.push_str(",\"Children\":");
        match &self.children {
            None => out.push_str("null"),
            Some(children) => {
                out.push('{');
                for (at, (name, child)) in children.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    push_json_string(out, name, Escape::Html);
                    out.push(':');
                    child.push_json(out, &format!("{path}/{name}"));
                }
                out.push('}');
            }
        }
        out.push('}');
    }
}

/// The dump of a membership, in the shortest form that 3.5 and 3.6 load: tree, index and format
/// version, without event history and statistics.
pub fn v2_store_json(membership: &Membership) -> Vec<u8> {
    let mut root = Node::directory(0);
    let mut index = 0;
    for name in ["0", "1"] {
        let top = Node::directory(0);
        root.children
            .get_or_insert_default()
            .insert(name.to_owned(), top);
    }
    let mut create = |path: &[&str], value: String| {
        index += 1;
        root.create(path, index, value);
    };
    for member in membership.members() {
        let id = Hex(member.id).to_string();
        create(
            &["0", "members", &id, "raftAttributes"],
            raft_attributes_json(member),
        );
        if !member.client_urls.is_empty() {
            let attributes = attributes_json(&member.name, &member.client_urls);
            create(&["0", "members", &id, "attributes"], attributes);
        }
    }
    for id in membership.removed() {
        create(
            &["0", "removed_members", &Hex(id).to_string()],
            String::new(),
        );
    }
    if let Some(version) = membership.version() {
        create(&["0", "version"], version.to_string());
    }
    let mut out = String::from("{\"Root\":");
    root.push_json(&mut out, "");
    out.push_str(",\"CurrentIndex\":");
    out.push_str(&index.to_string());
    out.push_str(",\"CurrentVersion\":2}");
    out.into_bytes()
}

/// Reads a dump written by any version.
pub fn parse_v2_store(data: &[u8]) -> Result<V2Membership, V2StoreError> {
    let dump = object(data).map_err(V2StoreError)?;
    let root = field(&dump, "Root").and_then(Value::as_object);
    let root = root.ok_or_else(|| V2StoreError("no root".to_owned()))?;
    let cluster = child(root, "0");
    let mut parsed = V2Membership {
        has_custom_content: has_custom_content(root),
        ..V2Membership::default()
    };
    for (name, node) in entries(cluster.and_then(|c| child(c, "members"))) {
        parsed
            .members
            .push(read_member(name, node).map_err(V2StoreError)?);
    }
    parsed.members.sort_unstable_by_key(|m| m.id);
    for (name, _) in entries(cluster.and_then(|c| child(c, "removed_members"))) {
        let id = Hex::parse(name).ok_or_else(|| V2StoreError(format!("removed member {name}")))?;
        parsed.removed.insert(id);
    }
    if let Some(node) = cluster.and_then(|c| child(c, "version")) {
        let text = string_field(node, "Value").map_err(V2StoreError)?;
        parsed.version = Some(
            text.parse()
                .map_err(|e| V2StoreError(format!("version: {e}")))?,
        );
    }
    Ok(parsed)
}

fn read_member(name: &str, node: &Map<String, Value>) -> Result<Member, String> {
    let id = Hex::parse(name).ok_or_else(|| format!("member {name}: no id"))?;
    let value = |key: &str| {
        child(node, key)
            .map(|leaf| string_field(leaf, "Value").and_then(|text| object(text.as_bytes())))
            .transpose()
            .map_err(|e| format!("member {name}, {key}: {e}"))
    };
    let raft = value("raftAttributes")?.ok_or_else(|| format!("member {name}: no peer URLs"))?;
    let published = value("attributes")?.unwrap_or_default();
    Ok(Member {
        id,
        peer_urls: strings_field(&raft, "peerURLs")?,
        is_learner: bool_field(&raft, "isLearner")?,
        name: string_field(&published, "name")?,
        client_urls: strings_field(&published, "clientURLs")?,
    })
}

type Object = Map<String, Value>;

/// Sub-nodes of a directory.
fn entries(node: Option<&Object>) -> impl Iterator<Item = (&str, &Object)> {
    node.and_then(|n| field(n, "Children"))
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, node)| Some((name.as_str(), node.as_object()?)))
}

fn child<'a>(node: &'a Object, name: &str) -> Option<&'a Object> {
    entries(Some(node))
        .find(|(n, _)| *n == name)
        .map(|(_, node)| node)
}

/// Anything outside `/0` but empty directories, where `/2/users` and `/2/roles` are the shells that
/// old authentication left behind.
fn has_custom_content(root: &Object) -> bool {
    entries(Some(root)).any(|(name, node)| match name {
        "0" => false,
        "2" => entries(Some(node)).any(|(shell, node)| {
            !matches!(shell, "users" | "roles") || entries(Some(node)).next().is_some()
        }),
        _ => field(node, "Children").is_none() || entries(Some(node)).next().is_some(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::testing::MapRecords;
    use crate::{Change, Persist, Settings};

    fn sample() -> Membership {
        let mut membership = Membership::new(Settings {
            local_id: 1,
            cluster_id: 1,
            max_learners: 1,
            server_version: Version::new(3, 7, 3),
        });
        let mut records = MapRecords::default();
        let member = |id: u64, learner| Change::Add {
            member: Member {
                id,
                peer_urls: vec![format!("http://m{id}:1")],
                is_learner: learner,
                ..Member::default()
            },
            as_learner: learner,
        };
        for change in [
            member(1, false),
            member(0xab, true),
            member(3, false),
            Change::Remove(3),
        ] {
            membership.apply(&change, Persist::Backend(&mut records));
        }
        let clients = ["http://c:1".to_owned()];
        membership
            .set_attributes(1, "m1", &clients, Persist::MemoryOnly)
            .unwrap();
        membership
            .set_version("3.7.0", Persist::MemoryOnly)
            .unwrap();
        membership
    }

    #[test]
    fn dump_has_the_form_3_5_and_3_6_load() {
        let text = String::from_utf8(v2_store_json(&sample())).unwrap();
        let leaf = |path: &str, index: u64, value: &str| {
            format!(
                r#"{{"Path":"{path}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"{NEVER}","Value":{value},"Children":null}}"#
            )
        };
        let dir = |path: &str, index: u64, children: &str| {
            format!(
                r#"{{"Path":"{path}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"{NEVER}","Value":"","Children":{{{children}}}}}"#
            )
        };
        let m1 = format!(
            r#""attributes":{},"raftAttributes":{}"#,
            leaf(
                "/0/members/1/attributes",
                2,
                r#""{\"name\":\"m1\",\"clientURLs\":[\"http://c:1\"]}""#
            ),
            leaf(
                "/0/members/1/raftAttributes",
                1,
                r#""{\"peerURLs\":[\"http://m1:1\"]}""#
            ),
        );
        let ab = format!(
            r#""raftAttributes":{}"#,
            leaf(
                "/0/members/ab/raftAttributes",
                3,
                r#""{\"peerURLs\":[\"http://m171:1\"],\"isLearner\":true}""#
            )
        );
        let members = format!(
            r#""1":{},"ab":{}"#,
            dir("/0/members/1", 1, &m1),
            dir("/0/members/ab", 3, &ab)
        );
        let cluster = format!(
            r#""members":{},"removed_members":{},"version":{}"#,
            dir("/0/members", 1, &members),
            dir(
                "/0/removed_members",
                4,
                &format!(r#""3":{}"#, leaf("/0/removed_members/3", 4, r#""""#))
            ),
            leaf("/0/version", 5, r#""3.7.0""#)
        );
        let root = format!(r#""0":{},"1":{}"#, dir("/0", 0, &cluster), dir("/1", 0, ""));
        let want = format!(
            r#"{{"Root":{},"CurrentIndex":5,"CurrentVersion":2}}"#,
            dir("/", 0, &root)
        );
        assert_eq!(text, want);
    }

    #[test]
    fn dump_is_read_back() {
        let membership = sample();
        let parsed = parse_v2_store(&v2_store_json(&membership)).unwrap();
        let members: Vec<&Member> = membership.members().collect();
        assert_eq!(parsed.members.iter().collect::<Vec<_>>(), members);
        assert_eq!(parsed.removed, BTreeSet::from([3]));
        assert_eq!(parsed.version, membership.version());
        assert!(!parsed.has_custom_content);
    }

    #[test]
    fn user_data_are_noticed() {
        let custom = |children: &str| {
            let dump = format!(r#"{{"Root":{{"Path":"/","Children":{{{children}}}}}}}"#);
            parse_v2_store(dump.as_bytes()).unwrap().has_custom_content
        };
        assert!(!custom(r#""0":{"Children":{}},"1":{"Children":{}}"#));
        assert!(!custom(
            r#""2":{"Children":{"users":{"Children":{}},"roles":{"Children":{}}}}"#
        ));
        assert!(custom(
            r#""1":{"Children":{"foo":{"Value":"bar","Children":null}}}"#
        ));
        assert!(custom(
            r#""2":{"Children":{"users":{"Children":{"root":{"Children":null}}}}}"#
        ));
        assert!(custom(r#""3":{"Value":"x","Children":null}"#));
    }

    #[test]
    fn damaged_dumps_are_refused() {
        let member = |children: &str| {
            format!(
                r#"{{"Root":{{"Children":{{"0":{{"Children":{{"members":{{"Children":{{{children}}}}}}}}}}}}}}}"#
            )
        };
        for bad in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"Root":{"Children":{"0":{"Children":{"version":{"Value":"x"}}}}}}"#.to_owned(),
            member(r#""zz":{"Children":{}}"#),
            member(r#""1":{"Children":{}}"#),
            member(r#""1":{"Children":{"raftAttributes":{"Value":"{"}}}"#),
        ] {
            assert!(parse_v2_store(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_v2_store(&bytes);
        }
    }
}

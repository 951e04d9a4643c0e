use gotext::{Escape, push_json_string};
use serde_json::{Map, Value};

use crate::json::{bool_field, object, push_strings, string_field, strings_field, u64_field};
use crate::member_id;

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Never 0 for a real member.
    pub id: u64,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// A learner gets the log but has no vote.
    pub is_learner: bool,
    /// Empty until the member has published itself: it was added but never started.
    pub name: String,
    /// Where clients reach it; empty until published.
    pub client_urls: Vec<String>,
}

impl Member {
    /// A voter with an id made from its URLs; see [`member_id`]. The URLs are kept sorted.
    pub fn new(name: &str, peer_urls: &[String], token: &str, added_at: Option<i64>) -> Self {
        let mut sorted = peer_urls.to_vec();
        sorted.sort_unstable();
        Self {
            id: member_id(&sorted, token, added_at),
            peer_urls: sorted,
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Whether the member has ever run: it has a name.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The record as etcd stores and sends it, byte for byte: `{"id":…,"peerURLs":[…],…}`.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(128);
        self.push_json(&mut out);
        out
    }

    pub(crate) fn push_json(&self, out: &mut String) {
        self.push_open_json(out);
        out.push('}');
    }

    /// The object without its closing brace, for keys that follow.
    pub(crate) fn push_open_json(&self, out: &mut String) {
        out.push_str("{\"id\":");
        out.push_str(&self.id.to_string());
        out.push_str(",\"peerURLs\":");
        push_strings(out, &self.peer_urls);
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            push_json_string(out, &self.name, Escape::Html);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            push_strings(out, &self.client_urls);
        }
    }

    /// Reads the JSON record; unknown keys are ignored, missing ones are empty.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        Self::from_map(&object(bytes)?)
    }

    pub(crate) fn from_map(map: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            id: u64_field(map, "id")?.unwrap_or(0),
            peer_urls: strings_field(map, "peerURLs")?,
            is_learner: bool_field(map, "isLearner")?,
            name: string_field(map, "name")?,
            client_urls: strings_field(map, "clientURLs")?,
        })
    }

    /// Reads a JSON list of members, as other members answer `/members`.
    pub fn list_from_json(bytes: &[u8]) -> Result<Vec<Self>, String> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_object().ok_or("not a JSON object".to_owned()))
                .map(|map| map.and_then(Self::from_map))
                .collect(),
            Ok(_) => Err("not a JSON list".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A JSON list of members in the given order, without a newline.
    pub fn list_to_json<'a>(members: impl IntoIterator<Item = &'a Self>) -> String {
        let mut out = String::from("[");
        for member in members {
            if out.len() > 1 {
                out.push(',');
            }
            member.push_json(&mut out);
        }
        out.push(']');
        out
    }

    /// The member as Go's `%+v` prints it inside error texts.
    pub(crate) fn go_text(&self) -> String {
        format!(
            "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            self.id,
            self.peer_urls.join(" "),
            self.is_learner,
            self.name,
            self.client_urls.join(" ")
        )
    }
}

/// `{"name":…,"clientURLs":[…]}` as Go writes a member's published half.
pub(crate) fn attributes_json(name: &str, client_urls: &[String]) -> String {
    let mut out = String::from("{");
    if !name.is_empty() {
        out.push_str("\"name\":");
        push_json_string(&mut out, name, Escape::Html);
    }
    if !client_urls.is_empty() {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str("\"clientURLs\":");
        push_strings(&mut out, client_urls);
    }
    out.push('}');
    out
}

/// `{"peerURLs":[…],"isLearner":true}` as Go writes the half that raft agrees on.
pub(crate) fn raft_attributes_json(member: &Member) -> String {
    let mut out = String::from("{\"peerURLs\":");
    push_strings(&mut out, &member.peer_urls);
    if member.is_learner {
        out.push_str(",\"isLearner\":true");
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_those_of_etcd() {
        let mut member = Member {
            id: 10_276_657_743_932_975_437,
            peer_urls: vec!["http://localhost:2380".to_owned()],
            ..Member::default()
        };
        assert_eq!(
            member.to_json(),
            r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}"#
        );
        member.is_learner = true;
        member.name = "a<&>\u{2028}\"".to_owned();
        member.client_urls = vec!["http://h:1?a&b".to_owned(), "unix://s".to_owned()];
        assert_eq!(
            member.to_json(),
            concat!(
                r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"isLearner":true,"#,
                r#""name":"a\u003c\u0026\u003e\u2028\"","#,
                r#""clientURLs":["http://h:1?a\u0026b","unix://s"]}"#
            )
        );
    }

    #[test]
    fn reading_is_as_lenient_as_gos() {
        let member = Member::from_json(
            br#"{"ID":18446744073709551615,"peerURLs":null,"new":{"x":[1]},"NAME":"n"}"#,
        );
        let want = Member {
            id: u64::MAX,
            name: "n".to_owned(),
            ..Member::default()
        };
        assert_eq!(member, Ok(want));
        for bad in [
            "",
            "[]",
            "{",
            r#"{"id":-1}"#,
            r#"{"id":1.5}"#,
            r#"{"peerURLs":[1]}"#,
        ] {
            assert!(Member::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_go_both_ways() {
        let members = [
            Member::new("a", &["http://a:1".to_owned()], "t", None),
            Member::default(),
        ];
        let json = Member::list_to_json(&members);
        assert_eq!(Member::list_from_json(json.as_bytes()).unwrap(), members);
        assert_eq!(Member::list_from_json(b"null\n").unwrap(), []);
        assert!(Member::list_from_json(b"[null]").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id: u64, learner: bool, name in ".{0,12}",
            peers in prop::collection::vec(".{0,12}", 0..3),
            clients in prop::collection::vec(".{0,12}", 0..3),
        ) {
            let member = Member {
                id, peer_urls: peers, is_learner: learner, name, client_urls: clients,
            };
            prop_assert_eq!(Member::from_json(member.to_json().as_bytes()), Ok(member));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Member::from_json(&bytes);
            let _ = Member::list_from_json(&bytes);
        }
    }
}

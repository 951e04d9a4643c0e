use api::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use prost::Message as _;

use crate::Member;

/// What a founding member finds in its log before its first election.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// One conf change per founding member, term 1, in the order of their ids: the same on every
    /// member.
    pub entries: Vec<Entry>,
    /// Term 1, all entries committed, no vote.
    pub hard_state: HardState,
}

/// The log of a new cluster with these members. Client URLs and learner flags are not part of it.
pub fn bootstrap(members: &[Member]) -> Bootstrap {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_unstable_by_key(|m| m.id);
    let entries: Vec<Entry> = sorted
        .iter()
        .zip(1..)
        .map(|(member, index)| founding_entry(member, index))
        .collect();
    let hard_state = HardState {
        term: 1,
        vote: 0,
        commit: entries.len() as u64,
    };
    Bootstrap {
        entries,
        hard_state,
    }
}

fn founding_entry(member: &Member, index: u64) -> Entry {
    let change = ConfChange {
        id: 0,
        r#type: ConfChangeType::AddNode as i32,
        node_id: member.id,
        context: member.to_json().into(),
    };
    Entry {
        r#type: EntryType::ConfChange as i32,
        term: 1,
        index,
        data: change.encode_to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    #[test]
    fn founding_members_come_in_order_of_their_ids() {
        let url = |text: &str| vec![text.to_owned()];
        let members = [
            Member::new("a", &url("http://a:1"), "t", None),
            Member::new("b", &url("http://b:1"), "t", None),
        ];
        let start = bootstrap(&members);
        assert_eq!(
            start.hard_state,
            HardState {
                term: 1,
                vote: 0,
                commit: 2
            }
        );
        let reversed: Vec<Member> = members.iter().rev().cloned().collect();
        assert_eq!(bootstrap(&reversed), start);
        let mut ids = Vec::new();
        for (entry, index) in start.entries.iter().zip(1..) {
            assert_eq!((entry.term, entry.index, entry.r#type), (1, index, 1));
            let change = ConfChange::decode(entry.data.clone()).unwrap();
            assert_eq!(change.id, 0);
            let Change::Add { member, as_learner } = Change::decode(&change).unwrap() else {
                panic!("founding entries add members");
            };
            assert!(!as_learner && members.contains(&member));
            ids.push(member.id);
        }
        assert!(ids.is_sorted());
    }

    #[test]
    fn a_founding_entry_is_written_as_observed() {
        let member = Member {
            id: 5,
            name: "m1".to_owned(),
            ..Member::default()
        };
        let mut want = vec![0x08, 0, 0x10, 0, 0x18, 5, 0x22, 36];
        want.extend_from_slice(br#"{"id":5,"peerURLs":[],"name":"m1"}"#);
        want[7] = (want.len() - 8) as u8;
        assert_eq!(bootstrap(&[member]).entries[0].data, want);
    }
}

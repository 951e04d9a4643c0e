//! The state machine: a hash chain over applied entries, and the members.

use api::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType};
use prost::Message as _;

use crate::rng::mix;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub applied: u64,
    pub term: u64,
    pub chain: u64,
    pub members: ConfState,
}

/// A change of the members, or the reason why an entry is none.
pub fn conf_change(entry: &Entry) -> Option<ConfChange> {
    (entry.r#type == EntryType::ConfChange as i32)
        .then(|| ConfChange::decode(entry.data.clone()).unwrap())
}

impl Machine {
    /// Whether the change makes sense for these members; the same answer everywhere.
    pub fn allows(&self, change: &ConfChange) -> bool {
        let id = change.node_id;
        let voter = self.members.voters.contains(&id);
        let learner = self.members.learners.contains(&id);
        match change.r#type() {
            // Founders are added again when their log is applied.
            ConfChangeType::AddNode => true,
            ConfChangeType::AddLearnerNode => !voter && !learner,
            ConfChangeType::RemoveNode => learner || (voter && self.members.voters.len() > 1),
            ConfChangeType::UpdateNode => voter || learner,
        }
    }

    /// Keeps the members as the server's membership does.
    pub fn change_members(&mut self, change: &ConfChange) {
        let id = change.node_id;
        let ConfState {
            voters, learners, ..
        } = &mut self.members;
        if change.r#type() != ConfChangeType::UpdateNode {
            voters.retain(|voter| *voter != id);
            learners.retain(|learner| *learner != id);
        }
        match change.r#type() {
            ConfChangeType::AddNode => voters.push(id),
            ConfChangeType::AddLearnerNode => learners.push(id),
            ConfChangeType::RemoveNode | ConfChangeType::UpdateNode => {}
        }
        voters.sort_unstable();
        learners.sort_unstable();
    }

    pub fn apply(&mut self, entry: &Entry) {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "entries applied out of order"
        );
        self.applied = entry.index;
        self.term = entry.term;
        let mut bytes = entry.data.to_vec();
        bytes.extend(entry.term.to_le_bytes());
        bytes.push(entry.r#type as u8);
        self.chain = mix(self.chain, &bytes);
    }
}

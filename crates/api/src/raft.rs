//! Raft messages with the field numbers and enum values of etcd's `raftpb`.
//!
//! `required` below means "written even when zero", as etcd 3.5 and 3.6 do (3.7 leaves unset fields out and reads
//! both). Decoding never demands a field.

use bytes::Bytes;

/// What a log entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EntryType {
    /// An encoded `InternalRaftRequest`, or nothing: the first entry of a term.
    Normal = 0,
    /// An encoded [`ConfChange`].
    ConfChange = 1,
    /// An encoded [`ConfChangeV2`]; etcd never writes one.
    ConfChangeV2 = 2,
}

/// One entry of the raft log.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Entry {
    /// An [`EntryType`].
    #[prost(enumeration = "EntryType", required, tag = "1")]
    pub r#type: i32,
    /// Term of the leader that appended it.
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
    /// Place in the log, from 1 on.
    #[prost(uint64, required, tag = "3")]
    pub index: u64,
    /// What is proposed; empty for the first entry of a term.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// What a member must remember before it answers anyone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct HardState {
    /// Current term.
    #[prost(uint64, required, tag = "1")]
    pub term: u64,
    /// Who got our vote in it; 0 if nobody.
    #[prost(uint64, required, tag = "2")]
    pub vote: u64,
    /// Highest entry known to be committed.
    #[prost(uint64, required, tag = "3")]
    pub commit: u64,
}

/// Who takes part in consensus. The lists are written unpacked and read in both forms.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ConfState {
    /// Members that vote.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub voters: Vec<u64>,
    /// Members that only listen.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
    /// Old voters of a joint configuration; etcd never has one.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub voters_outgoing: Vec<u64>,
    /// Learners once the joint configuration ends.
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub learners_next: Vec<u64>,
    /// Whether the joint configuration ends by itself.
    #[prost(bool, required, tag = "5")]
    pub auto_leave: bool,
}

/// Where in the log a snapshot stands.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SnapshotMetadata {
    /// Members at that point.
    #[prost(message, required, tag = "1")]
    pub conf_state: ConfState,
    /// Last entry it contains.
    #[prost(uint64, required, tag = "2")]
    pub index: u64,
    /// Term of that entry.
    #[prost(uint64, required, tag = "3")]
    pub term: u64,
}

/// A raft snapshot; in etcd `data` is the JSON of the v2 store, the key-value data travel beside it.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Snapshot {
    /// The v2 store.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Where it stands.
    #[prost(message, required, tag = "2")]
    pub metadata: SnapshotMetadata,
}

/// Kinds of [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MessageType {
    /// Local: start a campaign.
    MsgHup = 0,
    /// Local: the leader's heartbeat is due.
    MsgBeat = 1,
    /// A proposal, forwarded to the leader.
    MsgProp = 2,
    /// Entries to append.
    MsgApp = 3,
    /// Answer to entries.
    MsgAppResp = 4,
    /// Asks for a vote.
    MsgVote = 5,
    /// A vote.
    MsgVoteResp = 6,
    /// A snapshot instead of entries.
    MsgSnap = 7,
    /// The leader lives.
    MsgHeartbeat = 8,
    /// Answer to a heartbeat.
    MsgHeartbeatResp = 9,
    /// Local: a peer cannot be reached.
    MsgUnreachable = 10,
    /// Local: how the sending of a snapshot ended.
    MsgSnapStatus = 11,
    /// Local: the leader checks its quorum.
    MsgCheckQuorum = 12,
    /// Asks the leader to step aside.
    MsgTransferLeader = 13,
    /// Tells the next leader to campaign at once.
    MsgTimeoutNow = 14,
    /// Asks the leader for its commit index.
    MsgReadIndex = 15,
    /// The leader's commit index.
    MsgReadIndexResp = 16,
    /// Asks whether a vote could be won.
    MsgPreVote = 17,
    /// Answer to that.
    MsgPreVoteResp = 18,
    /// Local to Go's asynchronous storage; never between etcd members.
    MsgStorageAppend = 19,
    /// As above.
    MsgStorageAppendResp = 20,
    /// As above.
    MsgStorageApply = 21,
    /// As above.
    MsgStorageApplyResp = 22,
    /// Not used by etcd.
    MsgForgetLeader = 23,
}

/// What members tell each other. Zero fields are left out, as 3.7 does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// A [`MessageType`].
    #[prost(enumeration = "MessageType", tag = "1")]
    pub r#type: i32,
    /// Receiver.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// Sender.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// The sender's term; 0 in forwarded proposals and read requests.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Term of the entry at `index`.
    #[prost(uint64, tag = "5")]
    pub log_term: u64,
    /// The entry before `entries`, or the last one of the sender.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// Entries to append, a proposal, or the context of a read request.
    #[prost(message, repeated, tag = "7")]
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    #[prost(uint64, tag = "8")]
    pub commit: u64,
    /// Only with [`MessageType::MsgSnap`]; 3.5 sends an empty one with every message.
    #[prost(message, optional, tag = "9")]
    pub snapshot: Option<Snapshot>,
    /// The answer is no.
    #[prost(bool, tag = "10")]
    pub reject: bool,
    /// Where the leader should look for the last common entry.
    #[prost(uint64, tag = "11")]
    pub reject_hint: u64,
    /// Context of reads, or the text that marks an election by transfer.
    #[prost(bytes = "bytes", tag = "12")]
    pub context: Bytes,
    /// Since 3.6, local to Go's asynchronous storage.
    #[prost(uint64, tag = "13")]
    pub vote: u64,
    /// As above.
    #[prost(message, repeated, tag = "14")]
    pub responses: Vec<Message>,
}

/// Kinds of [`ConfChange`]. The numbers differ from those of the crate `raft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeType {
    /// A voter joins, or a learner becomes one.
    AddNode = 0,
    /// A member leaves for good.
    RemoveNode = 1,
    /// The attributes of a member change.
    UpdateNode = 2,
    /// A learner joins.
    AddLearnerNode = 3,
}

/// A change of one member, the data of an entry of type [`EntryType::ConfChange`].
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ConfChange {
    /// Id under which the proposer waits; 0 at bootstrap.
    #[prost(uint64, required, tag = "1")]
    pub id: u64,
    /// A [`ConfChangeType`].
    #[prost(enumeration = "ConfChangeType", required, tag = "2")]
    pub r#type: i32,
    /// The member.
    #[prost(uint64, required, tag = "3")]
    pub node_id: u64,
    /// JSON of the member; empty for a removal.
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
}

/// How a [`ConfChangeV2`] is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeTransition {
    /// As the changes demand.
    Auto = 0,
    /// By a joint configuration that ends by itself.
    JointImplicit = 1,
    /// By a joint configuration that someone must end.
    JointExplicit = 2,
}

/// One step of a [`ConfChangeV2`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ConfChangeSingle {
    /// A [`ConfChangeType`].
    #[prost(enumeration = "ConfChangeType", required, tag = "1")]
    pub r#type: i32,
    /// The member.
    #[prost(uint64, required, tag = "2")]
    pub node_id: u64,
}

/// Several changes at once; read, never written by etcd.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ConfChangeV2 {
    /// A [`ConfChangeTransition`].
    #[prost(enumeration = "ConfChangeTransition", required, tag = "1")]
    pub transition: i32,
    /// The steps.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<ConfChangeSingle>,
    /// As in [`ConfChange`].
    #[prost(bytes = "bytes", tag = "3")]
    pub context: Bytes,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn no_op_entry_is_written_as_3_6_writes_it_and_read_from_both() {
        let entry = Entry {
            r#type: 0,
            term: 2,
            index: 2,
            data: Bytes::new(),
        };
        assert_eq!(entry.encode_to_vec(), [0x08, 0, 0x10, 2, 0x18, 2]);
        assert_eq!(Entry::decode(&[0x10, 2, 0x18, 2][..]).unwrap(), entry);
    }

    #[test]
    fn conf_change_matches_observed_bytes() {
        let change = ConfChange {
            id: 5,
            r#type: ConfChangeType::RemoveNode as i32,
            node_id: 9,
            context: Bytes::new(),
        };
        assert_eq!(change.encode_to_vec(), [0x08, 5, 0x10, 1, 0x18, 9]);
        let learner = ConfChange::decode(&[0x08, 1, 0x10, 3, 0x18, 2, 0x22, 1, b'{'][..]).unwrap();
        assert_eq!(learner.r#type(), ConfChangeType::AddLearnerNode);
        assert_eq!(learner.context, "{");
    }

    #[test]
    fn conf_state_is_unpacked_and_read_packed_too() {
        let state = ConfState {
            voters: vec![1, 2, 3],
            learners: vec![4],
            ..ConfState::default()
        };
        assert_eq!(
            state.encode_to_vec(),
            [0x08, 1, 0x08, 2, 0x08, 3, 0x10, 4, 0x28, 0]
        );
        assert_eq!(
            ConfState::decode(&[0x0a, 3, 1, 2, 3, 0x10, 4][..]).unwrap(),
            state
        );
    }

    #[test]
    fn heartbeats_of_three_releases_decode() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect()
        };
        let new = Message::decode(&hex("0808")[..]).unwrap();
        let middle =
            Message::decode(&hex("0808 1000 1800 2000 2800 3000 4000 5000 5800 6800")[..]).unwrap();
        let old = Message::decode(
            &hex("0808 1000 1800 2000 2800 3000 4000 4a0a12080a02280010001800 5000 5800")[..],
        )
        .unwrap();
        assert_eq!(new, middle);
        assert_eq!(new.r#type(), MessageType::MsgHeartbeat);
        assert_eq!(old.snapshot, Some(Snapshot::default()));
        assert_eq!(new.encode_to_vec(), hex("0808"));
    }

    #[test]
    fn append_and_pre_vote_match_observed_bytes() {
        let entry = Entry {
            r#type: 0,
            term: 2,
            index: 4,
            data: Bytes::new(),
        };
        let append = Message {
            r#type: MessageType::MsgApp as i32,
            to: 7,
            from: 8,
            term: 2,
            log_term: 1,
            index: 3,
            entries: vec![entry],
            commit: 3,
            ..Message::default()
        };
        let bytes = [
            8, 3, 0x10, 7, 0x18, 8, 0x20, 2, 0x28, 1, 0x30, 3, 0x3a, 4, 0x10, 2, 0x18, 4, 0x40, 3,
        ];
        assert_eq!(Message::decode(&bytes[..]).unwrap(), append);
        let vote =
            Message::decode(&[8, 0x11, 0x10, 7, 0x18, 8, 0x20, 2, 0x28, 1, 0x30, 3][..]).unwrap();
        assert_eq!(vote.r#type(), MessageType::MsgPreVote);
        assert_eq!((vote.term, vote.log_term, vote.index), (2, 1, 3));
    }
}

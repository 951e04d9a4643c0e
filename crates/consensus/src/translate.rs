//! Between etcd's `raftpb` and the types of crate `raft`, and the checks that stand before its panics.
//!
//! The two agree in field numbers but not in meaning everywhere. What must not get through:
//!
//! * Conf changes. A leading `raft` parses them with its own enum, where etcd's "add learner" does not exist and
//!   "update" means learner. Inside `raft` the data of such an entry is `ConfChange { context: <etcd's bytes> }`,
//!   which it always understands and which costs two bytes; [`entry_in`] wraps, [`entry_out`] unwraps.
//! * Fields 13 to 16 of a message, which mean other things on both sides. Our `raftpb` has none that `raft` reads.
//! * Messages that break an assertion of `raft`: a peer must not be able to kill the process. [`message_in`] checks
//!   what can be seen from the message alone, the core checks the rest against its log.

use api::raftpb;
use bytes::{BufMut as _, Bytes, BytesMut};
use raft::eraftpb::{self, MessageType as Type};

use crate::StepError;

/// Highest index and term believed from outside; leaves room to count on without overflow.
pub(crate) const MAX_NUMBER: u64 = u64::MAX >> 1;

/// Longest context of a read request or heartbeat, in bytes. etcd's have 8.
const MAX_CONTEXT: usize = 1024;

/// Key of field 4 (`context`) of a `ConfChange`.
const CONTEXT_KEY: u8 = 0x22;

/// Puts etcd's conf change where `raft` does not look.
fn wrap(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 11);
    out.put_u8(CONTEXT_KEY);
    prost::encode_length_delimiter(data.len(), &mut out).expect("a buffer that grows has room");
    out.put_slice(data);
    out.freeze()
}

/// Takes it out again, without a copy. Entries of that type are only ever made by [`wrap`].
fn unwrap(data: &Bytes) -> Bytes {
    let Some((&CONTEXT_KEY, mut rest)) = data.split_first() else {
        return data.clone();
    };
    match prost::decode_length_delimiter(&mut rest) {
        Ok(length) if length == rest.len() => data.slice(data.len() - length..),
        _ => data.clone(),
    }
}

/// An entry of the log or of a message, for `raft`.
pub(crate) fn entry_in(entry: raftpb::Entry) -> eraftpb::Entry {
    let (term, index) = (entry.term, entry.index);
    if entry.r#type == raftpb::EntryType::Normal as i32 {
        return eraftpb::Entry {
            term,
            index,
            data: entry.data,
            ..Default::default()
        };
    }
    let entry_type = eraftpb::EntryType::EntryConfChange;
    eraftpb::Entry {
        entry_type,
        term,
        index,
        data: wrap(&entry.data),
        ..Default::default()
    }
}

/// An entry for the log, a peer or the apply thread.
pub(crate) fn entry_out(entry: &eraftpb::Entry) -> raftpb::Entry {
    let conf_change = entry.entry_type != eraftpb::EntryType::EntryNormal;
    raftpb::Entry {
        r#type: if conf_change {
            raftpb::EntryType::ConfChange as i32
        } else {
            raftpb::EntryType::Normal as i32
        },
        term: entry.term,
        index: entry.index,
        data: if conf_change {
            unwrap(&entry.data)
        } else {
            entry.data.clone()
        },
    }
}

pub(crate) fn hard_state_in(state: &raftpb::HardState) -> eraftpb::HardState {
    let raftpb::HardState { term, vote, commit } = *state;
    eraftpb::HardState {
        term,
        vote,
        commit,
        ..Default::default()
    }
}

pub(crate) fn hard_state_out(state: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}

pub(crate) fn conf_state_in(state: &raftpb::ConfState) -> eraftpb::ConfState {
    let (voters, learners) = (state.voters.clone(), state.learners.clone());
    eraftpb::ConfState {
        voters,
        learners,
        ..Default::default()
    }
}

/// Members in ascending order, as etcd writes them.
pub(crate) fn conf_state_out(state: &eraftpb::ConfState) -> raftpb::ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    raftpb::ConfState {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        ..raftpb::ConfState::default()
    }
}

pub(crate) fn snapshot_in(snapshot: &raftpb::Snapshot) -> eraftpb::Snapshot {
    let mut out = eraftpb::Snapshot {
        data: snapshot.data.clone(),
        ..Default::default()
    };
    let metadata = out.mut_metadata();
    metadata.index = snapshot.metadata.index;
    metadata.term = snapshot.metadata.term;
    metadata.set_conf_state(conf_state_in(&snapshot.metadata.conf_state));
    out
}

pub(crate) fn snapshot_out(snapshot: &eraftpb::Snapshot) -> raftpb::Snapshot {
    let metadata = snapshot.get_metadata();
    raftpb::Snapshot {
        data: snapshot.data.clone(),
        metadata: raftpb::SnapshotMetadata {
            conf_state: conf_state_out(metadata.get_conf_state()),
            index: metadata.index,
            term: metadata.term,
        },
    }
}

/// A member list raft can work with: every id once, none of them 0, no joint configuration (etcd has none).
pub(crate) fn check_conf_state(state: &raftpb::ConfState) -> Result<(), String> {
    if !state.voters_outgoing.is_empty() || !state.learners_next.is_empty() || state.auto_leave {
        return Err("joint configuration".to_owned());
    }
    let mut ids: Vec<u64> = state
        .voters
        .iter()
        .chain(&state.learners)
        .copied()
        .collect();
    ids.sort_unstable();
    if ids.first() == Some(&0) {
        return Err("member id 0".to_owned());
    }
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a member is listed twice".to_owned());
    }
    if state.voters.is_empty() && !state.learners.is_empty() {
        return Err("learners without voters".to_owned());
    }
    Ok(())
}

/// Which types may come from a peer, as `raft` names them.
fn message_type(number: i32) -> Option<Type> {
    Some(match raftpb::MessageType::try_from(number).ok()? {
        raftpb::MessageType::MsgProp => Type::MsgPropose,
        raftpb::MessageType::MsgApp => Type::MsgAppend,
        raftpb::MessageType::MsgAppResp => Type::MsgAppendResponse,
        raftpb::MessageType::MsgVote => Type::MsgRequestVote,
        raftpb::MessageType::MsgVoteResp => Type::MsgRequestVoteResponse,
        raftpb::MessageType::MsgSnap => Type::MsgSnapshot,
        raftpb::MessageType::MsgHeartbeat => Type::MsgHeartbeat,
        raftpb::MessageType::MsgHeartbeatResp => Type::MsgHeartbeatResponse,
        raftpb::MessageType::MsgTransferLeader => Type::MsgTransferLeader,
        raftpb::MessageType::MsgTimeoutNow => Type::MsgTimeoutNow,
        raftpb::MessageType::MsgReadIndex => Type::MsgReadIndex,
        raftpb::MessageType::MsgReadIndexResp => Type::MsgReadIndexResp,
        raftpb::MessageType::MsgPreVote => Type::MsgRequestPreVote,
        raftpb::MessageType::MsgPreVoteResp => Type::MsgRequestPreVoteResponse,
        // Local to a member, to Go's asynchronous storage, or unused.
        _ => return None,
    })
}

/// Checks and translates a message from a peer.
pub(crate) fn message_in(
    message: raftpb::Message,
    local: u64,
) -> Result<eraftpb::Message, StepError> {
    let kind = message_type(message.r#type).ok_or(StepError::Type(message.r#type))?;
    if message.to != local {
        return Err(StepError::NotForUs(message.to));
    }
    // These keep their sender when they are passed on, and may come back to it.
    let passed_on = matches!(
        kind,
        Type::MsgPropose | Type::MsgReadIndex | Type::MsgTransferLeader
    );
    if message.from == 0 || (message.from == local && !passed_on) {
        return Err(StepError::Sender(message.from));
    }
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.reject_hint,
    ];
    if numbers.into_iter().any(|number| number > MAX_NUMBER) {
        return Err(StepError::Malformed("number out of range"));
    }
    if message.context.len() > MAX_CONTEXT {
        return Err(StepError::Malformed("context too long"));
    }
    check_kind(kind, &message)?;

    let mut out = eraftpb::Message::default();
    out.set_msg_type(kind);
    out.to = message.to;
    out.from = message.from;
    // These two are passed on by followers, and `raft` refuses to send them with a term.
    if !matches!(kind, Type::MsgPropose | Type::MsgReadIndex) {
        out.term = message.term;
    }
    out.log_term = message.log_term;
    out.index = message.index;
    out.commit = message.commit;
    out.reject = message.reject;
    out.reject_hint = message.reject_hint;
    out.context = message.context;
    if kind == Type::MsgSnapshot {
        // Present: `check_kind` saw it.
        out.set_snapshot(snapshot_in(&message.snapshot.unwrap_or_default()));
    }
    out.set_entries(
        message
            .entries
            .into_iter()
            .map(entry_in)
            .collect::<Vec<_>>()
            .into(),
    );
    Ok(out)
}

/// Whether it is of one of the two types etcd has.
pub(crate) fn known_type(entry: &raftpb::Entry) -> bool {
    [
        raftpb::EntryType::Normal as i32,
        raftpb::EntryType::ConfChange as i32,
    ]
    .contains(&entry.r#type)
}

/// What each type needs so that `raft` does not stumble.
fn check_kind(kind: Type, message: &raftpb::Message) -> Result<(), StepError> {
    if !message.entries.iter().all(known_type) {
        return Err(StepError::Malformed("entry type"));
    }
    match kind {
        Type::MsgPropose if message.entries.is_empty() => {
            return Err(StepError::Malformed("proposal without entries"));
        }
        Type::MsgReadIndex | Type::MsgReadIndexResp => match message.entries.as_slice() {
            [entry] if entry.data.len() <= MAX_CONTEXT => {}
            _ => return Err(StepError::Malformed("read index needs one entry")),
        },
        Type::MsgAppend => check_append(message)?,
        Type::MsgSnapshot => check_snapshot(message)?,
        _ => {}
    }
    // Only what is passed on to the leader has no term; in anything else `raft` takes 0 for "our own".
    if message.term == 0 && !matches!(kind, Type::MsgPropose | Type::MsgReadIndex) {
        return Err(StepError::Malformed("term 0"));
    }
    Ok(())
}

/// Entries must continue each other from `index` on, with terms that do not fall and do not exceed the sender's.
fn check_append(message: &raftpb::Message) -> Result<(), StepError> {
    // `raft` takes term 0 for the term of every entry it does not have.
    if (message.index == 0) != (message.log_term == 0) {
        return Err(StepError::Malformed("append behind an impossible entry"));
    }
    let (mut index, mut term) = (message.index, message.log_term.max(1));
    for entry in &message.entries {
        if entry.index != index + 1 || entry.term < term {
            return Err(StepError::Malformed(
                "entries of an append do not follow each other",
            ));
        }
        (index, term) = (entry.index, entry.term);
    }
    if !message.entries.is_empty() && term > message.term {
        return Err(StepError::Malformed("entry newer than its sender's term"));
    }
    Ok(())
}

fn check_snapshot(message: &raftpb::Message) -> Result<(), StepError> {
    let Some(snapshot) = &message.snapshot else {
        return Err(StepError::Malformed("snapshot message without snapshot"));
    };
    let metadata = &snapshot.metadata;
    if metadata.index == 0
        || metadata.index > MAX_NUMBER
        || metadata.term == 0
        || metadata.term > message.term
    {
        return Err(StepError::Malformed("impossible snapshot position"));
    }
    if metadata.conf_state.voters.is_empty() {
        return Err(StepError::Malformed("snapshot without voters"));
    }
    check_conf_state(&metadata.conf_state).map_err(StepError::ConfState)
}

/// A message for a peer: only the fields etcd 3.7 sets for its type.
pub(crate) fn message_out(mut message: eraftpb::Message) -> raftpb::Message {
    let kind = message.get_msg_type();
    let commit = match kind {
        Type::MsgAppend | Type::MsgHeartbeat => message.commit,
        _ => 0,
    };
    let snapshot = (kind == Type::MsgSnapshot).then(|| snapshot_out(message.get_snapshot()));
    raftpb::Message {
        r#type: kind as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.take_entries().iter().map(entry_out).collect(),
        commit,
        snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        vote: 0,
        responses: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn entry(index: u64, term: u64) -> raftpb::Entry {
        raftpb::Entry {
            r#type: 0,
            term,
            index,
            data: Bytes::from_static(b"x"),
        }
    }

    fn append(index: u64, log_term: u64, entries: Vec<raftpb::Entry>) -> raftpb::Message {
        raftpb::Message {
            r#type: raftpb::MessageType::MsgApp as i32,
            to: 1,
            from: 2,
            term: 5,
            log_term,
            index,
            entries,
            ..raftpb::Message::default()
        }
    }

    #[test]
    fn add_learner_survives_the_crate_that_does_not_know_it() {
        let change = raftpb::ConfChange {
            id: 7,
            r#type: raftpb::ConfChangeType::AddLearnerNode as i32,
            node_id: 9,
            context: Bytes::from_static(b"{}"),
        };
        let entry = raftpb::Entry {
            r#type: raftpb::EntryType::ConfChange as i32,
            term: 1,
            index: 1,
            data: change.encode_to_vec().into(),
        };
        let inside = entry_in(entry.clone());
        // What a leading `raft` does with it.
        let mut parsed = eraftpb::ConfChange::default();
        protobuf_merge(&mut parsed, &inside.data);
        assert_eq!(parsed.context, entry.data);
        assert_eq!(parsed.node_id, 0);
        assert_eq!(entry_out(&inside), entry);
    }

    /// Reads a `ConfChange` of the crate the way a foreign parser would: only field 4 is there.
    fn protobuf_merge(into: &mut eraftpb::ConfChange, data: &Bytes) {
        let foreign = raftpb::ConfChange::decode(data.clone()).unwrap();
        into.context = foreign.context;
        into.node_id = foreign.node_id;
    }

    #[test]
    fn appends_with_holes_or_impossible_terms_are_refused() {
        assert!(message_in(append(3, 2, vec![entry(4, 2), entry(5, 5)]), 1).is_ok());
        assert!(message_in(append(0, 0, vec![entry(1, 1)]), 1).is_ok());
        for bad in [
            append(3, 2, vec![entry(4, 2), entry(6, 2)]),
            append(3, 2, vec![entry(5, 2)]),
            append(3, 2, vec![entry(4, 1)]),
            append(3, 2, vec![entry(4, 6)]),
            append(3, 0, vec![]),
            append(0, 3, vec![]),
            append(u64::MAX, 3, vec![]),
        ] {
            assert!(matches!(message_in(bad, 1), Err(StepError::Malformed(_))));
        }
    }

    #[test]
    fn local_and_foreign_messages_are_refused() {
        let with = |kind: i32, to: u64, from: u64| raftpb::Message {
            r#type: kind,
            to,
            from,
            term: 1,
            ..Default::default()
        };
        for kind in [0, 1, 10, 11, 12, 19, 20, 21, 22, 23, 24, -1] {
            assert_eq!(message_in(with(kind, 1, 2), 1), Err(StepError::Type(kind)));
        }
        assert_eq!(message_in(with(8, 3, 2), 1), Err(StepError::NotForUs(3)));
        assert_eq!(message_in(with(8, 1, 1), 1), Err(StepError::Sender(1)));
        assert_eq!(message_in(with(8, 1, 0), 1), Err(StepError::Sender(0)));
        for kind in [2, 7, 15, 16] {
            assert!(matches!(
                message_in(with(kind, 1, 2), 1),
                Err(StepError::Malformed(_))
            ));
        }
    }

    #[test]
    fn responses_leave_without_the_fields_go_does_not_know() {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(Type::MsgAppendResponse);
        message.commit = 7;
        message.commit_term = 3;
        message.request_snapshot = 4;
        message.index = 9;
        let out = message_out(message);
        assert_eq!(out.commit, 0);
        assert_eq!(out.index, 9);
    }

    proptest! {
        #[test]
        fn any_conf_change_data_comes_back_byte_for_byte(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let entry = raftpb::Entry { r#type: 1, term: 3, index: 4, data: data.into() };
            prop_assert_eq!(entry_out(&entry_in(entry.clone())), entry);
        }
    }
}

//! Whatever a peer sends, and in whatever role it arrives: the process lives. The log may be led astray by a peer that
//! lies (raft trusts its members), but nothing panics and nothing overflows.

use api::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, HardState, Message, MessageType, Snapshot,
    SnapshotMetadata,
};
use bytes::Bytes;
use consensus::{Config, Core, Position, Proposal, Role, Start};
use proptest::prelude::*;

/// What state the core is brought to before the messages arrive.
#[derive(Clone, Copy, Debug)]
enum Scene {
    Follower,
    Unpersisted,
    Compacted,
    SnapshotUnderWay,
    PreCandidate,
    Candidate,
    Leader,
    LeaderAlone,
    LeaderRemoved,
    Learner,
    Joining,
}

const SCENES: [Scene; 11] = [
    Scene::Follower,
    Scene::Unpersisted,
    Scene::Compacted,
    Scene::SnapshotUnderWay,
    Scene::PreCandidate,
    Scene::Candidate,
    Scene::Leader,
    Scene::LeaderAlone,
    Scene::LeaderRemoved,
    Scene::Learner,
    Scene::Joining,
];

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range
        .map(|index| Entry {
            r#type: 0,
            term,
            index,
            data: Bytes::from_static(b"data"),
        })
        .collect()
}

fn members(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..ConfState::default()
    }
}

/// Member 1 with entries 1 to 10 of term 2, eight of them committed.
fn start(conf_state: ConfState) -> Start {
    Start {
        conf_state,
        hard_state: HardState {
            term: 2,
            vote: 0,
            commit: 8,
        },
        entries: entries(1..=10, 2),
        ..Start::default()
    }
}

fn message(kind: MessageType, term: u64) -> Message {
    Message {
        r#type: kind as i32,
        to: 1,
        from: 2,
        term,
        ..Message::default()
    }
}

/// Polls until nothing is left, with everything written and applied.
fn settle(core: &mut Core) {
    loop {
        let out = core.poll();
        for job in &out.persist {
            core.persisted(job.epoch, job.number);
        }
        for batch in &out.apply {
            let last = batch.entries.last().map(|entry| entry.index);
            let snapshot = batch
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.metadata.index);
            core.applied(last.or(snapshot).unwrap_or(0));
        }
        if out.is_empty() {
            return;
        }
    }
}

fn scene(scene: Scene) -> Core {
    let config = Config {
        pre_vote: !matches!(scene, Scene::Candidate),
        ..Config::new(1)
    };
    let voters = match scene {
        Scene::LeaderAlone => members(&[1], &[2]),
        Scene::Learner => members(&[2, 3], &[1]),
        _ => members(&[1, 2, 3], &[4]),
    };
    let begin = match scene {
        Scene::Joining => Start::default(),
        Scene::Compacted => Start {
            conf_state: voters,
            hard_state: HardState {
                term: 2,
                vote: 0,
                commit: 8,
            },
            snapshot: Position { index: 5, term: 2 },
            entries: entries(6..=10, 2),
            applied: 5,
            ..Start::default()
        },
        _ => start(voters),
    };
    let mut core = Core::new(config, begin, 1).unwrap();
    settle(&mut core);
    match scene {
        Scene::Follower | Scene::Compacted | Scene::Learner | Scene::Joining => {}
        Scene::Unpersisted => {
            let append = Message {
                index: 10,
                log_term: 2,
                entries: entries(11..=13, 3),
                commit: 12,
                ..message(MessageType::MsgApp, 3)
            };
            core.step(append).unwrap();
            core.poll();
        }
        Scene::SnapshotUnderWay => {
            core.step(snapshot_message(20, 3)).unwrap();
            core.poll();
        }
        Scene::PreCandidate | Scene::Candidate => {
            core.campaign();
            core.poll();
        }
        Scene::Leader | Scene::LeaderAlone | Scene::LeaderRemoved => lead(&mut core),
    }
    if matches!(scene, Scene::LeaderRemoved) {
        core.propose([Proposal {
            id: 1,
            data: Bytes::from_static(b"unwritten"),
        }]);
        core.poll();
        let change = ConfChange {
            r#type: ConfChangeType::RemoveNode as i32,
            node_id: 1,
            ..Default::default()
        };
        core.apply_conf_change(11, Some(&change)).unwrap();
    }
    core
}

/// Wins an election with the vote of member 2, if one is needed.
fn lead(core: &mut Core) {
    core.campaign();
    settle(core);
    if core.leadership().role == Role::PreCandidate {
        core.step(message(MessageType::MsgPreVoteResp, 3)).unwrap();
        settle(core);
        core.step(message(MessageType::MsgVoteResp, 3)).unwrap();
        settle(core);
    }
    assert_eq!(core.leadership().role, Role::Leader);
}

fn snapshot_message(index: u64, term: u64) -> Message {
    let conf_state = members(&[1, 2, 3], &[4]);
    let metadata = SnapshotMetadata {
        conf_state,
        index,
        term,
    };
    Message {
        snapshot: Some(Snapshot {
            data: Bytes::from_static(b"{}"),
            metadata,
        }),
        ..message(MessageType::MsgSnap, term)
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0u64..16,
        2 => 0u64..40,
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX >> 1), Just((u64::MAX >> 1) + 1), any::<u64>()],
    ]
}

fn term() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0u64..6, 1 => Just(u64::MAX), 1 => Just(u64::MAX >> 1)]
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let data = proptest::collection::vec(any::<u8>(), 0..12);
    proptest::collection::vec((-1i32..4, term(), number(), data), 0..4).prop_map(|list| {
        list.into_iter()
            .map(|(kind, term, index, data)| Entry {
                r#type: kind,
                term,
                index,
                data: data.into(),
            })
            .collect()
    })
}

fn any_snapshot() -> impl Strategy<Value = Option<Snapshot>> {
    let ids = || proptest::collection::vec(0u64..6, 0..4);
    proptest::option::of((ids(), ids(), number(), term(), any::<bool>())).prop_map(|parts| {
        parts.map(|(voters, learners, index, term, auto_leave)| Snapshot {
            data: Bytes::new(),
            metadata: SnapshotMetadata {
                conf_state: ConfState {
                    voters,
                    learners,
                    auto_leave,
                    ..ConfState::default()
                },
                index,
                term,
            },
        })
    })
}

prop_compose! {
    fn any_message()(
        kind in -1i32..25,
        to in prop_oneof![20 => Just(1u64), 1 => 0u64..3],
        from in 0u64..6,
        term in term(),
        log_term in term(),
        index in number(),
        mut entries in any_entries(),
        commit in number(),
        snapshot in any_snapshot(),
        flags in any::<(bool, bool)>(),
        reject_hint in number(),
        context in proptest::collection::vec(any::<u8>(), 0..20),
    ) -> Message {
        // Half of the appends are well-formed, so that they get further.
        if flags.1 {
            for (entry, offset) in entries.iter_mut().zip(1..) {
                entry.index = index.wrapping_add(offset);
                entry.term = log_term.max(1).min(term);
                entry.r#type &= 1;
            }
        }
        let context = if flags.0 && kind == 5 { b"CampaignTransfer".to_vec() } else { context };
        Message {
            r#type: kind, to, from, term, log_term, index, entries, commit, snapshot,
            reject: flags.0, reject_hint, context: context.into(), ..Message::default()
        }
    }
}

/// What happens between messages.
#[derive(Clone, Debug)]
enum Act {
    Step(Box<Message>),
    Tick(u8),
    Persist,
    Settle,
    Propose,
    Read,
    Change(i32, u64),
    Transfer(u64),
    Report(u64, bool),
    Campaign,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => any_message().prop_map(|message| Act::Step(Box::new(message))),
        2 => (1u8..12).prop_map(Act::Tick),
        2 => Just(Act::Persist),
        1 => Just(Act::Settle),
        1 => Just(Act::Propose),
        1 => Just(Act::Read),
        1 => (0i32..4, 0u64..6).prop_map(|(kind, id)| Act::Change(kind, id)),
        1 => (0u64..6).prop_map(Act::Transfer),
        1 => (0u64..6, any::<bool>()).prop_map(|(id, ok)| Act::Report(id, ok)),
        1 => Just(Act::Campaign),
    ]
}

fn act(core: &mut Core, act: Act, jobs: &mut Vec<(u64, u64)>) {
    match act {
        // Refusals are what is wanted.
        Act::Step(message) => drop(core.step(*message)),
        Act::Tick(count) => (0..count).for_each(|_| core.tick()),
        Act::Persist => {
            if let Some((epoch, number)) = jobs.pop() {
                jobs.clear();
                core.persisted(epoch, number);
            }
        }
        Act::Settle => settle(core),
        Act::Propose => core.propose([Proposal {
            id: 7,
            data: Bytes::from_static(b"x"),
        }]),
        Act::Read => core.read_index(&[8]),
        Act::Change(kind, node_id) => {
            let change = ConfChange {
                id: 9,
                r#type: kind,
                node_id,
                ..ConfChange::default()
            };
            core.propose_conf_change(&change);
            // Also as if it had been committed; removing the last voter is an error.
            drop(core.apply_conf_change(core.applied_index() + 1, Some(&change)));
        }
        Act::Transfer(to) => core.transfer_leader(to),
        Act::Report(id, ok) => {
            core.report_unreachable(id);
            core.report_snapshot(id, ok);
        }
        Act::Campaign => core.campaign(),
    }
}

/// 1500 cases, or `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        default.cases
    } else {
        1500
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_message_kills_a_member(
        at in 0usize..SCENES.len(),
        acts in proptest::collection::vec(any_act(), 1..40),
    ) {
        let mut core = scene(SCENES[at]);
        let mut jobs = Vec::new();
        for next in acts {
            act(&mut core, next, &mut jobs);
            let out = core.poll();
            jobs.extend(out.persist.iter().filter(|job| job.number > 0).map(|job| (job.epoch, job.number)));
        }
        settle(&mut core);
    }
}

#[test]
fn messages_that_panic_the_crate_are_refused() {
    let heartbeat = Message {
        commit: 11,
        ..message(MessageType::MsgHeartbeat, 3)
    };
    assert!(scene(Scene::Follower).step(heartbeat).is_err());
    let hole = Message {
        index: 10,
        log_term: 2,
        entries: vec![entries(11..=11, 3).remove(0), entries(13..=13, 3).remove(0)],
        ..message(MessageType::MsgApp, 3)
    };
    assert!(scene(Scene::Follower).step(hole).is_err());
    let read = message(MessageType::MsgReadIndex, 0);
    assert!(scene(Scene::Leader).step(read).is_err());
    let proposal = message(MessageType::MsgProp, 0);
    assert!(scene(Scene::Leader).step(proposal).is_err());
    let unsent = Message {
        index: 99,
        ..message(MessageType::MsgAppResp, 3)
    };
    assert!(scene(Scene::Leader).step(unsent).is_err());
}

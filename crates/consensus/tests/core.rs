//! Rules of the core, each by itself. The letters are the rows of the table in `docs/consensus.md`.

use api::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot, SnapshotMetadata,
};
use bytes::Bytes;
use consensus::{
    Config, Core, Error, Output, Persist, Position, Proposal, ReadError, ReadOutcome, Role, Start,
};
use prost::Message as _;

fn members(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..ConfState::default()
    }
}

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

/// Member 1 with ten entries of term 2, all committed and applied.
fn start(conf_state: ConfState) -> Start {
    Start {
        conf_state,
        hard_state: HardState {
            term: 2,
            vote: 0,
            commit: 10,
        },
        entries: entries(1..=10, 2),
        applied: 10,
        ..Start::default()
    }
}

fn core(voters: &[u64], learners: &[u64]) -> Core {
    Core::new(Config::new(1), start(members(voters, learners)), 1).unwrap()
}

fn message(kind: MessageType, from: u64, term: u64) -> Message {
    Message {
        r#type: kind as i32,
        to: 1,
        from,
        term,
        ..Message::default()
    }
}

fn proposals(count: u64) -> Vec<Proposal> {
    (0..count)
        .map(|id| Proposal {
            id,
            data: Bytes::from_static(b"proposal"),
        })
        .collect()
}

fn persist(core: &mut Core, jobs: &[Persist]) {
    for job in jobs.iter().filter(|job| job.number > 0) {
        core.persisted(job.epoch, job.number);
    }
}

/// Polls with an instant disk and state machine; everything that came out on the way, joined.
fn settle(core: &mut Core) -> Output {
    let mut all = Output::default();
    loop {
        let out = core.poll();
        if out.is_empty() {
            return all;
        }
        persist(core, &out.persist);
        if let Some(last) = out
            .apply
            .iter()
            .rev()
            .find_map(|batch| batch.entries.last())
        {
            core.applied(last.index);
        }
        all.messages.extend(out.messages);
        all.persist.extend(out.persist);
        all.apply.extend(out.apply);
        all.reads.extend(out.reads);
        all.dropped.extend(out.dropped);
        all.leadership = out.leadership.or(all.leadership);
        all.first_commit_in_term = out.first_commit_in_term.or(all.first_commit_in_term);
    }
}

fn of_kind(out: &Output, kind: MessageType) -> Vec<&Message> {
    out.messages
        .iter()
        .filter(|message| message.r#type == kind as i32)
        .collect()
}

/// A leader of members 1, 2, 3 in term 3, elected with the vote of 2; entry 11 opens its term.
fn leader() -> Core {
    let mut core = core(&[1, 2, 3], &[]);
    core.campaign();
    settle(&mut core);
    core.step(message(MessageType::MsgPreVoteResp, 2, 3))
        .unwrap();
    settle(&mut core);
    core.step(message(MessageType::MsgVoteResp, 2, 3)).unwrap();
    settle(&mut core);
    assert_eq!(core.leadership().role, Role::Leader);
    core
}

fn acknowledge(core: &mut Core, from: u64, index: u64) {
    core.step(Message {
        index,
        ..message(MessageType::MsgAppResp, from, 3)
    })
    .unwrap();
}

fn add_learner(id: u64) -> ConfChange {
    ConfChange {
        id: 5,
        r#type: ConfChangeType::AddLearnerNode as i32,
        node_id: id,
        context: Bytes::from_static(b"{}"),
    }
}

#[test]
fn a_leader_sends_before_its_own_disk_and_commits_without_it() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    core.propose(proposals(1));
    let out = core.poll();
    assert_eq!(
        of_kind(&out, MessageType::MsgApp).len(),
        1,
        "3 has not answered yet"
    );
    assert_eq!(out.persist.len(), 1);
    acknowledge(&mut core, 2, 12);
    acknowledge(&mut core, 3, 12);
    let early = core.poll();
    assert_eq!(core.committed(), 12);
    assert!(
        early.apply.is_empty(),
        "not applied before it is durable here"
    );
    persist(&mut core, &out.persist);
    assert_eq!(core.poll().apply[0].entries[0].index, 12);
}

#[test]
fn a_follower_answers_when_its_disk_is_done_and_once() {
    let mut core = core(&[1, 2, 3], &[]);
    let mut jobs = Vec::new();
    for (index, term) in [(10, 2), (11, 3), (12, 3)] {
        let entries = entries(index + 1..=index + 1, 3);
        let append = Message {
            index,
            log_term: term,
            entries,
            ..message(MessageType::MsgApp, 2, 3)
        };
        core.step(append).unwrap();
        let out = core.poll();
        assert!(out.messages.is_empty());
        jobs.extend(out.persist);
    }
    core.persisted(1, jobs.last().unwrap().number);
    let out = core.poll();
    let answers = of_kind(&out, MessageType::MsgAppResp);
    assert_eq!(
        answers.len(),
        1,
        "the last acknowledgement covers the others"
    );
    assert_eq!((answers[0].index, answers[0].commit), (13, 0));
}

#[test]
fn a_sole_voter_says_nothing_in_a_term_it_could_forget() {
    let mut core = core(&[1], &[2]);
    core.campaign();
    let out = core.poll();
    assert_eq!(core.leadership().role, Role::Leader);
    assert!(out.messages.is_empty());
    assert_eq!(core.read_index_alone(), None);
    core.propose(proposals(1));
    let more = core.poll();
    assert!(more.messages.is_empty());
    persist(&mut core, &out.persist);
    assert!(!core.poll().messages.is_empty());
    persist(&mut core, &more.persist);
    core.poll();
    assert_eq!(core.read_index_alone(), Some(12));
}

#[test]
fn row_a_a_leader_takes_etcds_add_learner() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    let data = Bytes::from(add_learner(4).encode_to_vec());
    let entry = Entry {
        r#type: EntryType::ConfChange as i32,
        data: data.clone(),
        ..Entry::default()
    };
    let forwarded = Message {
        entries: vec![entry],
        ..message(MessageType::MsgProp, 2, 0)
    };
    core.step(forwarded).unwrap();
    let out = settle(&mut core);
    let sent = of_kind(&out, MessageType::MsgApp)[0]
        .entries
        .last()
        .unwrap();
    assert_eq!(
        (sent.r#type, &sent.data),
        (EntryType::ConfChange as i32, &data)
    );
    assert_eq!(out.persist[0].entries.last().unwrap().data, data);
    acknowledge(&mut core, 2, 12);
    let out = core.poll();
    assert_eq!(out.apply[0].entries.last().unwrap().data, data);
    let now = core.apply_conf_change(12, Some(&add_learner(4))).unwrap();
    assert_eq!(now, members(&[1, 2, 3], &[4]));
}

#[test]
fn a_second_change_of_the_members_waits_for_the_first() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    core.propose_conf_change(&add_learner(4));
    core.propose_conf_change(&add_learner(5));
    let out = core.poll();
    let written = &out.persist[0].entries;
    assert_eq!(written[0].r#type, EntryType::ConfChange as i32);
    assert_eq!(
        (written[1].r#type, written[1].data.len()),
        (EntryType::Normal as i32, 0)
    );
}

#[test]
fn row_b_a_database_ahead_of_the_commit_index_raises_it() {
    let mut begin = start(members(&[1, 2, 3], &[]));
    begin.hard_state.commit = 4;
    begin.applied = 9;
    let mut core = Core::new(Config::new(1), begin, 1).unwrap();
    assert_eq!((core.committed(), core.applied_index()), (9, 9));
    assert!(core.poll().apply.is_empty());
}

#[test]
fn row_d_a_late_report_of_an_earlier_core_counts_for_nothing() {
    let mut core = core(&[1, 2, 3], &[]);
    let append = Message {
        index: 10,
        log_term: 2,
        entries: entries(11..=11, 3),
        ..message(MessageType::MsgApp, 2, 3)
    };
    core.step(append).unwrap();
    let out = core.poll();
    core.persisted(0, u64::MAX);
    assert!(core.poll().messages.is_empty());
    persist(&mut core, &out.persist);
    assert_eq!(core.poll().messages.len(), 1);
}

#[test]
fn row_f_a_stale_rejection_never_moves_next_behind_match() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    core.report_unreachable(2);
    settle(&mut core);
    let next = |core: &Core| {
        core.progress()
            .iter()
            .find(|member| member.id == 2)
            .unwrap()
            .next
    };
    assert_eq!(next(&core), 12);
    for (index, reject_hint, log_term) in [(11, 3, 2), (11, 3, 0), (9, 2, 2)] {
        let stale = Message {
            index,
            reject: true,
            reject_hint,
            log_term,
            ..message(MessageType::MsgAppResp, 2, 3)
        };
        core.step(stale).unwrap();
        let out = settle(&mut core);
        assert_eq!(next(&core), 12);
        assert!(
            out.apply
                .iter()
                .all(|batch| batch.send_snapshots.is_empty())
        );
    }
}

#[test]
fn row_g_proposals_wait_for_a_leader() {
    let mut core = core(&[1, 2, 3], &[]);
    core.propose(proposals(3));
    assert!(settle(&mut core).messages.is_empty());
    core.step(message(MessageType::MsgHeartbeat, 2, 3)).unwrap();
    let out = settle(&mut core);
    let forwarded = of_kind(&out, MessageType::MsgProp);
    assert_eq!(forwarded.len(), 1);
    assert_eq!(
        (
            forwarded[0].to,
            forwarded[0].term,
            forwarded[0].entries.len()
        ),
        (2, 0, 3)
    );
}

#[test]
fn row_g_proposals_wait_while_leadership_moves() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    core.transfer_leader(2);
    assert_eq!(core.transferee(), 2);
    core.propose(proposals(2));
    let out = settle(&mut core);
    assert_eq!(of_kind(&out, MessageType::MsgTimeoutNow).len(), 1);
    assert!(out.persist.is_empty() && out.dropped.is_empty());
    core.step(message(MessageType::MsgHeartbeat, 2, 4)).unwrap();
    assert_eq!(
        of_kind(&settle(&mut core), MessageType::MsgProp)[0]
            .entries
            .len(),
        2
    );
}

#[test]
fn row_i_what_waits_becomes_one_append() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    acknowledge(&mut core, 3, 11);
    settle(&mut core);
    core.propose(proposals(500));
    let out = core.poll();
    let appends = of_kind(&out, MessageType::MsgApp);
    assert_eq!(appends.len(), 2);
    assert!(appends.iter().all(|message| message.entries.len() == 500));
    assert_eq!((out.persist.len(), out.persist[0].entries.len()), (1, 500));
}

fn snapshot_message(index: u64) -> Message {
    let metadata = SnapshotMetadata {
        conf_state: members(&[1, 2, 3], &[4]),
        index,
        term: 3,
    };
    Message {
        snapshot: Some(Snapshot {
            data: Bytes::from_static(b"{}"),
            metadata,
        }),
        ..message(MessageType::MsgSnap, 2, 3)
    }
}

#[test]
fn row_c_a_received_snapshot_is_applied_when_it_is_durable() {
    let mut core = core(&[1, 2, 3], &[]);
    core.step(snapshot_message(50)).unwrap();
    let out = core.poll();
    assert!(out.messages.is_empty() && out.apply.is_empty());
    let [snapshot, rest] = &out.persist[..] else {
        panic!("{:?}", out.persist)
    };
    assert_eq!(snapshot.snapshot.as_ref().unwrap().metadata.index, 50);
    assert_eq!(
        snapshot.hard_state.unwrap().commit,
        50,
        "or a restart ignores the snapshot"
    );
    assert!(snapshot.entries.is_empty() && rest.snapshot.is_none());
    // No election meanwhile, however long the disk takes.
    for _ in 0..100 {
        core.tick();
    }
    assert!(core.poll().messages.is_empty());
    // A change from before the snapshot, still on its way through the state machine, is in it already.
    let now = core.apply_conf_change(11, Some(&add_learner(9))).unwrap();
    assert_eq!(now, members(&[1, 2, 3], &[4]));
    persist(&mut core, &out.persist);
    let out = core.poll();
    assert_eq!(of_kind(&out, MessageType::MsgAppResp)[0].index, 50);
    assert_eq!(out.apply[0].snapshot.as_ref().unwrap().metadata.index, 50);
    assert_eq!(core.log_range(), (51, 50));
}

#[test]
fn a_follower_that_is_too_far_behind_is_offered_a_snapshot() {
    let mut core = leader();
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    core.compact_to(11);
    acknowledge(&mut core, 2, 11);
    settle(&mut core);
    let behind = Message {
        index: 10,
        reject: true,
        reject_hint: 0,
        log_term: 0,
        ..message(MessageType::MsgAppResp, 3, 3)
    };
    core.step(behind).unwrap();
    let out = settle(&mut core);
    let wanted = &out.apply[0].send_snapshots[0];
    assert_eq!(
        (wanted.to, wanted.snapshot.as_ref().unwrap().metadata.index),
        (3, 11)
    );
    assert!(of_kind(&out, MessageType::MsgSnap).is_empty());
    core.report_snapshot(3, true);
    core.propose(proposals(1));
    acknowledge(&mut core, 3, 11);
    let out = settle(&mut core);
    assert!(
        of_kind(&out, MessageType::MsgApp)
            .iter()
            .any(|message| message.to == 3)
    );
}

#[test]
fn reads_share_rounds_and_are_asked_again_after_the_first_commit() {
    let mut core = leader();
    core.read_index(&[1, 2]);
    let out = settle(&mut core);
    assert!(out.reads.is_empty() && of_kind(&out, MessageType::MsgHeartbeat).is_empty());
    acknowledge(&mut core, 2, 11);
    let out = settle(&mut core);
    assert_eq!(out.first_commit_in_term, Some(3));
    let context = of_kind(&out, MessageType::MsgHeartbeat)[0].context.clone();
    assert_eq!(context.len(), 8);
    core.read_index(&[3]);
    assert!(
        settle(&mut core).reads.is_empty(),
        "waits for the next round"
    );
    core.step(Message {
        context,
        ..message(MessageType::MsgHeartbeatResp, 2, 3)
    })
    .unwrap();
    let out = settle(&mut core);
    assert_eq!(
        out.reads,
        [ReadOutcome {
            ids: vec![1, 2],
            result: Ok(11)
        }]
    );
    assert_eq!(
        of_kind(&out, MessageType::MsgHeartbeat).len(),
        2,
        "the round of 3 begins"
    );
    core.step(message(MessageType::MsgHeartbeat, 2, 4)).unwrap();
    let out = settle(&mut core);
    assert_eq!(
        out.reads,
        [ReadOutcome {
            ids: vec![3],
            result: Err(ReadError::LeaderChanged)
        }]
    );
    assert!(out.leadership.unwrap().stepped_down());
}

#[test]
fn a_read_of_a_follower_is_sent_again_after_half_a_second() {
    let mut core = core(&[1, 2, 3], &[]);
    core.step(message(MessageType::MsgHeartbeat, 2, 3)).unwrap();
    settle(&mut core);
    core.read_index(&[7]);
    let first = settle(&mut core);
    let mut asked = of_kind(&first, MessageType::MsgReadIndex).len();
    for _ in 0..5 {
        core.tick();
        asked += of_kind(&settle(&mut core), MessageType::MsgReadIndex).len();
    }
    assert_eq!(asked, 2);
    let request = of_kind(&first, MessageType::MsgReadIndex)[0];
    assert_eq!((request.to, request.term), (2, 0));
    let answer = Message {
        index: 10,
        entries: request.entries.clone(),
        ..message(MessageType::MsgReadIndexResp, 2, 3)
    };
    core.step(answer).unwrap();
    assert_eq!(
        settle(&mut core).reads,
        [ReadOutcome {
            ids: vec![7],
            result: Ok(10)
        }]
    );
}

#[test]
fn a_commit_index_alone_is_written_lazily_and_without_a_sync() {
    let mut core = core(&[1, 2, 3], &[]);
    let entries = entries(11..=11, 3);
    core.step(Message {
        index: 10,
        log_term: 2,
        entries,
        ..message(MessageType::MsgApp, 2, 3)
    })
    .unwrap();
    settle(&mut core);
    core.step(Message {
        commit: 11,
        ..message(MessageType::MsgHeartbeat, 2, 3)
    })
    .unwrap();
    let out = settle(&mut core);
    assert!(out.persist.is_empty() && core.commit_unsaved());
    assert_eq!(of_kind(&out, MessageType::MsgHeartbeatResp).len(), 1);
    let mut written = Vec::new();
    for _ in 0..10 {
        core.tick();
        written.extend(settle(&mut core).persist);
    }
    assert_eq!(written.len(), 1);
    assert_eq!(
        (written[0].sync, written[0].hard_state.unwrap().commit),
        (false, 11)
    );
}

#[test]
fn the_tail_that_a_received_snapshot_replaced_is_not_taken_from_the_wal() {
    // Written in term 2, then a snapshot of term 3 arrived; nothing was appended behind it before the crash.
    let begin = Start {
        conf_state: members(&[1, 2, 3], &[]),
        hard_state: HardState {
            term: 3,
            vote: 0,
            commit: 5,
        },
        snapshot: Position { index: 5, term: 3 },
        entries: entries(6..=9, 2),
        applied: 5,
        ..Start::default()
    };
    let core = Core::new(Config::new(1), begin, 1).unwrap();
    assert_eq!(core.last_position(), Position { index: 5, term: 3 });
}

#[test]
fn damaged_logs_are_errors() {
    let good = || start(members(&[1, 2, 3], &[]));
    let mut hole = good();
    hole.entries.remove(4);
    let mut falling = good();
    falling.entries[7].term = 1;
    let mut beyond = good();
    beyond.hard_state.commit = 11;
    let mut unknown = good();
    unknown.entries[2].r#type = 2;
    let mut joint = good();
    joint.conf_state.voters_outgoing = vec![1];
    let mut twice = good();
    twice.conf_state.learners = vec![2];
    for bad in [hole, falling, beyond, unknown, joint, twice] {
        assert!(matches!(
            Core::new(Config::new(1), bad, 1),
            Err(Error::Start(_))
        ));
    }
    for id in [0, u64::MAX, u64::MAX - 1] {
        assert!(Core::new(Config::new(id), good(), 1).is_err());
    }
}

#[test]
fn the_log_keeps_what_lagging_followers_may_need() {
    let config = Config {
        catchup_entries: 50,
        ..Config::new(1)
    };
    let mut core = Core::new(config, start(members(&[1], &[])), 1).unwrap();
    core.campaign();
    settle(&mut core);
    for _ in 0..40 {
        core.propose(proposals(10));
        settle(&mut core);
    }
    let (first, last) = core.log_range();
    assert_eq!(last, 411);
    assert!((50..200).contains(&(last - first)), "{first} to {last}");
    core.pause_compaction(true);
    for _ in 0..40 {
        core.propose(proposals(10));
        settle(&mut core);
    }
    assert_eq!(core.log_range(), (first, 811));
}

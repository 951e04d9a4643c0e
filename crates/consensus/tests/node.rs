//! The threads: hand-overs, back-pressure, restart from a real WAL, failing disks, small clusters in one process.

// Waits with deadlines.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::raftpb::{
    ConfChange, ConfChangeType, Entry, EntryType, HardState, Message, Snapshot, SnapshotMetadata,
};
use bytes::Bytes;
use consensus::{
    Apply, ApplyBatch, Config, Error, Events, LeadershipChange, LogStore, NoPeers, Node, Proposal,
    ReadOutcome, ReadSink, Role, Start, StoreError, Transport, WalStore, Wiring,
};
use disk::{Fs, RealFs};
use prost::Message as _;
use wal::snap::Snapshotter;
use wal::{NoObserver, Preparation, Wal};

const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a test sees of a member.
#[derive(Default)]
struct Seen {
    /// Data of normal entries in order of application.
    data: Mutex<Vec<Bytes>>,
    reads: Mutex<Vec<ReadOutcome>>,
    leadership: Mutex<Vec<LeadershipChange>>,
    first_commits: Mutex<Vec<u64>>,
    dropped: Mutex<Vec<u64>>,
    fatal: Mutex<Vec<String>>,
}

impl ReadSink for SeenSink {
    fn read_done(&self, outcome: ReadOutcome) {
        self.0.reads.lock().unwrap().push(outcome);
    }
}

struct SeenSink(Arc<Seen>);

impl Events for SeenSink {
    fn leadership(&self, change: LeadershipChange) {
        self.0.leadership.lock().unwrap().push(change);
    }
    fn first_commit_in_term(&self, term: u64) {
        self.0.first_commits.lock().unwrap().push(term);
    }
    fn proposals_dropped(&self, ids: &[u64]) {
        self.0.dropped.lock().unwrap().extend(ids);
    }
    fn fatal(&self, error: &Error) {
        self.0.fatal.lock().unwrap().push(error.to_string());
    }
}

struct ToApply(Sender<ApplyBatch>);

impl Apply for ToApply {
    fn apply(&self, batch: ApplyBatch) {
        // The apply thread of a stopped member is gone.
        let _ = self.0.send(batch);
    }
}

/// A log in memory; what it does can be changed by the test.
#[derive(Clone, Default)]
struct TestLog {
    state: Arc<Mutex<TestLogState>>,
}

#[derive(Default)]
struct TestLogState {
    entries: Vec<Entry>,
    hard_state: HardState,
    syncs: usize,
    sync_takes: Duration,
    fail: bool,
}

impl LogStore for TestLog {
    fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        state.entries.extend_from_slice(entries);
        state.hard_state = hard_state.copied().unwrap_or(state.hard_state);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let (takes, fail) = {
            let mut state = self.state.lock().unwrap();
            state.syncs += 1;
            (state.sync_takes, state.fail)
        };
        std::thread::sleep(takes);
        if fail {
            Err("disk on fire".into())
        } else {
            Ok(())
        }
    }

    fn save_snapshot(&mut self, _: &Snapshot) -> Result<(), StoreError> {
        Ok(())
    }

    fn release_to(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Applies what it gets, as the server's apply thread would.
fn apply_all(node: &Node, batches: &Receiver<ApplyBatch>, seen: &Seen) {
    for batch in batches {
        let mut last = 0;
        for entry in batch.entries {
            last = entry.index;
            if entry.r#type == EntryType::ConfChange as i32 {
                let change = ConfChange::decode(entry.data).unwrap();
                if node.apply_conf_change(entry.index, Some(change)).is_err() {
                    return;
                }
            } else if !entry.data.is_empty() {
                seen.data.lock().unwrap().push(entry.data);
            }
        }
        node.applied(last);
    }
}

/// A member without an apply thread: the test plays it.
fn start_manual(
    config: Config,
    start: Start,
    log: Box<dyn LogStore>,
    transport: Box<dyn Transport>,
) -> (Node, Arc<Seen>, Receiver<ApplyBatch>) {
    let seen = Arc::new(Seen::default());
    let (to_apply, batches) = channel();
    let wiring = Wiring {
        log,
        transport,
        apply: Box::new(ToApply(to_apply)),
        reads: Box::new(SeenSink(Arc::clone(&seen))),
        events: Arc::new(SeenSink(Arc::clone(&seen))),
    };
    (Node::start(config, start, wiring).unwrap(), seen, batches)
}

fn start(
    config: Config,
    start: Start,
    log: Box<dyn LogStore>,
    transport: Box<dyn Transport>,
) -> (Node, Arc<Seen>) {
    let (node, seen, batches) = start_manual(config, start, log, transport);
    let (apply_node, apply_seen) = (node.clone(), Arc::clone(&seen));
    std::thread::Builder::new()
        .spawn(move || apply_all(&apply_node, &batches, &apply_seen))
        .unwrap();
    (node, seen)
}

fn config(id: u64) -> Config {
    Config {
        tick: Duration::from_millis(10),
        seed: id,
        ..Config::new(id)
    }
}

fn founders(count: u64) -> Start {
    let list: Vec<_> = (1..=count)
        .map(|id| (id, Bytes::from_static(b"{}")))
        .collect();
    Start::bootstrap(&list)
}

/// A sole voter that leads.
fn single(config: Config, log: &TestLog) -> (Node, Arc<Seen>) {
    let (node, seen) = start(
        config,
        founders(1),
        Box::new(log.clone()),
        Box::new(NoPeers),
    );
    node.campaign().unwrap();
    until("it leads", || node.read_index_now().is_some());
    (node, seen)
}

fn proposals(range: std::ops::Range<u64>) -> Vec<Proposal> {
    range
        .map(|id| Proposal {
            id,
            data: Bytes::copy_from_slice(&id.to_be_bytes()),
        })
        .collect()
}

fn ids(seen: &Seen) -> Vec<u64> {
    let data = seen.data.lock().unwrap();
    data.iter()
        .map(|data| u64::from_be_bytes(data[..].try_into().unwrap()))
        .collect()
}

#[test]
fn a_single_member_applies_proposals_in_order_and_stops_cleanly() {
    let log = TestLog::default();
    let (node, seen) = single(config(1), &log);
    for at in 0..100 {
        node.propose(proposals(at * 10..at * 10 + 10)).unwrap();
    }
    until("all is applied", || ids(&seen).len() == 1000);
    assert_eq!(ids(&seen), (0..1000).collect::<Vec<_>>());
    let status = node.status();
    assert_eq!(
        (status.role, status.leader, status.term),
        (Role::Leader, 1, 2)
    );
    assert_eq!(status.committed, 1002);
    assert_eq!(*seen.first_commits.lock().unwrap(), [2]);
    node.stop();
    assert!(node.is_stopped());
    assert!(node.propose(proposals(0..1)).unwrap_err().stopped);
    assert!(node.read_index(&[1]).is_err());
    let state = log.state.lock().unwrap();
    assert_eq!(state.entries.len(), 1001);
    assert_eq!((state.hard_state.term, state.hard_state.commit), (2, 1002));
    assert!(seen.fatal.lock().unwrap().is_empty());
}

#[test]
fn waiting_steps_share_a_sync() {
    let log = TestLog::default();
    let (node, seen) = single(config(1), &log);
    let before = {
        let mut state = log.state.lock().unwrap();
        state.sync_takes = Duration::from_millis(30);
        state.syncs
    };
    for id in 0..200 {
        node.propose(proposals(id..id + 1)).unwrap();
        std::thread::sleep(Duration::from_micros(300));
    }
    until("all is applied", || ids(&seen).len() == 200);
    let syncs = log.state.lock().unwrap().syncs - before;
    assert!(syncs < 50, "{syncs} syncs for 200 proposals");
    node.stop();
}

#[test]
fn reads_of_a_single_member_need_no_round_and_see_what_was_acknowledged() {
    let log = TestLog::default();
    let (node, seen) = single(config(1), &log);
    node.propose(proposals(0..5)).unwrap();
    until("applied", || ids(&seen).len() == 5);
    assert_eq!(node.read_index_now(), Some(7));
    node.read_index(&[11, 12]).unwrap();
    until("answered", || !seen.reads.lock().unwrap().is_empty());
    assert_eq!(
        *seen.reads.lock().unwrap(),
        [ReadOutcome {
            ids: vec![11, 12],
            result: Ok(7)
        }]
    );
    node.stop();
    assert_eq!(node.read_index_now(), None);
}

#[test]
fn a_stuck_state_machine_stops_neither_the_log_nor_the_clock() {
    let log = TestLog::default();
    let limits = Config {
        max_applying_entries: 10,
        ..config(1)
    };
    let (node, seen, batches) = start_manual(
        limits,
        founders(1),
        Box::new(log.clone()),
        Box::new(NoPeers),
    );
    node.applied(
        batches
            .recv_timeout(PATIENCE)
            .unwrap()
            .entries
            .last()
            .unwrap()
            .index,
    );
    node.campaign().unwrap();
    node.propose(proposals(0..500)).unwrap();
    until("all is committed", || node.status().committed == 502);
    // Leader, though nothing is applied for many election timeouts.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(node.status().role, Role::Leader);
    let waiting: usize = batches.try_iter().map(|batch| batch.entries.len()).sum();
    assert!(waiting <= 11, "{waiting} entries handed over");
    node.applied(1 + waiting as u64);
    apply_the_rest(&node, &batches, 502);
    assert_eq!(node.status().applied, 502);
    assert!(seen.dropped.lock().unwrap().is_empty());
    node.stop();
}

fn apply_the_rest(node: &Node, batches: &Receiver<ApplyBatch>, end: u64) {
    let mut expected = node.status().applied + 1;
    while expected <= end {
        let batch = batches.recv_timeout(PATIENCE).unwrap();
        for entry in &batch.entries {
            assert_eq!(entry.index, expected);
            expected += 1;
        }
        node.applied(expected - 1);
    }
}

/// Few entries are written by the consensus thread, many by the log thread.
#[test]
fn a_failing_disk_stops_the_member_and_acknowledges_nothing() {
    for count in [3, 300] {
        let log = TestLog::default();
        let (node, seen) = single(config(1), &log);
        log.state.lock().unwrap().fail = true;
        node.propose(proposals(0..count)).unwrap();
        until("it stops", || node.is_stopped());
        assert_eq!(*seen.fatal.lock().unwrap(), ["log failed: disk on fire"]);
        assert!(ids(&seen).is_empty());
        assert!(node.propose(proposals(0..1)).is_err());
        assert!(node.apply_conf_change(9, None).is_err());
        assert_eq!(node.read_index_now(), None);
        node.stop();
        assert_eq!(seen.fatal.lock().unwrap().len(), 1);
    }
}

#[test]
fn proposals_without_a_leader_are_held_and_then_dropped() {
    let hold = Config {
        hold_proposals: Duration::from_millis(200),
        ..config(1)
    };
    let (node, seen) = start(
        hold,
        founders(3),
        Box::new(TestLog::default()),
        Box::new(NoPeers),
    );
    node.propose(proposals(5..7)).unwrap();
    until("dropped", || seen.dropped.lock().unwrap().len() == 2);
    assert_eq!(*seen.dropped.lock().unwrap(), [5, 6]);
    node.stop();
}

#[test]
fn a_full_queue_gives_proposals_back() {
    let tight = Config {
        max_queued_items: 10,
        tick: Duration::from_secs(5),
        ..config(1)
    };
    let log = TestLog::default();
    let (node, _seen, batches) = start_manual(tight, founders(1), Box::new(log), Box::new(NoPeers));
    let refused = node.propose(proposals(0..11)).unwrap_err();
    assert_eq!((refused.proposals.len(), refused.stopped), (11, false));
    node.propose(proposals(0..10)).unwrap();
    drop(batches);
    node.stop();
}

#[test]
fn the_last_handle_takes_the_threads_with_it() {
    struct Gone(Sender<()>);
    impl Transport for Gone {
        fn send(&self, _: Vec<Message>) {}
    }
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (gone, hear) = channel();
    let (node, _seen, _batches) = start_manual(
        config(1),
        founders(1),
        Box::new(TestLog::default()),
        Box::new(Gone(gone)),
    );
    drop(node);
    hear.recv_timeout(PATIENCE).unwrap();
}

fn wal_options() -> wal::Options {
    wal::Options {
        preparation: Preparation::OnDemand,
        segment_size: 100_000,
        ..wal::Options::default()
    }
}

/// Opens or creates the WAL in `dir`, as start-up does.
fn wal_store(fs: &Arc<dyn Fs>, dir: &Path) -> (WalStore, Start) {
    let snapshotter = Snapshotter::new(Arc::clone(fs), dir, Arc::new(NoObserver));
    if !wal::exists(fs.as_ref(), dir) {
        let mut wal = Wal::create(Arc::clone(fs), dir, b"meta", wal_options()).unwrap();
        let start = founders(1);
        wal.save(Some(&start.hard_state), &start.entries).unwrap();
        return (WalStore::new(wal, snapshotter), start);
    }
    let newest = wal::valid_snapshots(fs.as_ref(), dir)
        .unwrap()
        .pop()
        .unwrap_or_default();
    let (wal, recovered) = Wal::open(Arc::clone(fs), dir, &newest, wal_options()).unwrap();
    let members = founders(1).conf_state;
    let consistent = recovered.hard_state.commit;
    (
        WalStore::new(wal, snapshotter),
        Start::recovered(recovered, members, consistent),
    )
}

#[test]
fn a_restarted_member_gets_its_log_back_from_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut all = 0;
    let mut term = 1;
    for round in 0..3 {
        let (store, begin) = wal_store(&fs, dir.path());
        assert_eq!(begin.hard_state.term, term);
        let redelivered = begin.hard_state.commit - begin.snapshot.index;
        let (node, seen) = start(config(1), begin, Box::new(store), Box::new(NoPeers));
        until("what was committed is applied again", || {
            node.status().applied >= redelivered && (round == 0 || ids(&seen).len() as u64 >= all)
        });
        node.campaign().unwrap();
        until("it leads", || node.read_index_now().is_some());
        term = node.status().term;
        node.propose(proposals(all..all + 500)).unwrap();
        all += 500;
        until("all is applied", || ids(&seen).last() == Some(&(all - 1)));
        node.stop();
    }
    assert_eq!(term, 4);
}

#[test]
fn a_saved_snapshot_is_where_the_next_start_begins() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let (store, begin) = wal_store(&fs, dir.path());
    let (node, seen) = start(config(1), begin, Box::new(store), Box::new(NoPeers));
    node.campaign().unwrap();
    node.propose(proposals(0..1000)).unwrap();
    until("all is applied", || ids(&seen).len() == 1000);
    let status = node.status();
    let metadata = SnapshotMetadata {
        conf_state: founders(1).conf_state,
        index: status.applied,
        term: status.term,
    };
    let snapshot = Snapshot {
        data: Bytes::from_static(b"{}"),
        metadata,
    };
    node.save_snapshot(snapshot).unwrap().wait().unwrap();
    node.propose(proposals(1000..1010)).unwrap();
    until("all is applied", || ids(&seen).len() == 1010);
    node.stop();

    let (_store, begin) = wal_store(&fs, dir.path());
    assert_eq!((begin.snapshot.index, begin.applied), (1002, 1002));
    assert_eq!(begin.entries.len(), 10);
    assert_eq!(begin.hard_state.commit, 1012);
}

/// Delivers messages between members of this process.
#[derive(Clone, Default)]
struct Net {
    nodes: Arc<Mutex<HashMap<u64, Node>>>,
}

impl Transport for Net {
    fn send(&self, messages: Vec<Message>) {
        let nodes = self.nodes.lock().unwrap();
        for message in messages {
            if let Some(node) = nodes.get(&message.to) {
                // Lost if it stopped.
                let _ = node.step(message);
            }
        }
    }
}

type Members = BTreeMap<u64, (Node, Arc<Seen>)>;

fn join(net: &Net, members: &mut Members, id: u64, begin: Start) {
    let (node, seen) = start(
        config(id),
        begin,
        Box::new(TestLog::default()),
        Box::new(net.clone()),
    );
    net.nodes.lock().unwrap().insert(id, node.clone());
    members.insert(id, (node, seen));
}

fn leader(members: &Members) -> Option<u64> {
    let leaders: Vec<_> = members
        .values()
        .map(|(node, _)| node.status().leader)
        .collect();
    let first = *leaders.first()?;
    (first != 0 && leaders.iter().all(|leader| *leader == first)).then_some(first)
}

#[test]
fn three_members_elect_forward_transfer_read_and_take_a_learner() {
    let net = Net::default();
    let mut members = Members::new();
    for id in 1..=3 {
        join(&net, &mut members, id, founders(3));
    }
    until("all know one leader", || leader(&members).is_some());
    let first = leader(&members).unwrap();
    let follower = (1..=3).find(|id| *id != first).unwrap();

    members[&follower].0.propose(proposals(0..100)).unwrap();
    for (_, seen) in members.values() {
        until("a forwarded proposal is applied everywhere", || {
            ids(seen).len() == 100
        });
    }

    members[&follower].0.read_index(&[1]).unwrap();
    let seen = &members[&follower].1;
    until("the follower knows an index", || {
        let mut reads = seen.reads.lock().unwrap();
        // An election meanwhile is no answer; ask again.
        if reads.pop_if(|outcome| outcome.result.is_err()).is_some() {
            members[&follower].0.read_index(&[1]).unwrap();
        }
        reads
            .last()
            .is_some_and(|outcome| outcome.result.is_ok_and(|index| index >= 103))
    });
    assert_eq!(members[&first].0.read_index_now(), None);

    until("leadership moved", || {
        if let Some(now) = leader(&members).filter(|now| *now != follower) {
            members[&now].0.transfer_leader(follower).unwrap();
        }
        leader(&members) == Some(follower)
    });

    // The kind of change that a leading crate `raft` cannot read.
    let change = ConfChange {
        id: 77,
        r#type: ConfChangeType::AddLearnerNode as i32,
        node_id: 4,
        context: Bytes::from_static(b"{\"id\":4}"),
    };
    join(&net, &mut members, 4, Start::default());
    members[&follower].0.propose_conf_change(change).unwrap();
    let learner = Arc::clone(&members[&4].1);
    until("the learner has everything", || ids(&learner).len() == 100);
    until("the leader knows it", || {
        let progress = members[&follower].0.progress().unwrap();
        let last = members[&follower].0.status().last_index;
        progress
            .iter()
            .any(|member| member.id == 4 && member.learner && member.matched == last)
    });
    for (node, seen) in members.values() {
        node.stop();
        assert!(seen.fatal.lock().unwrap().is_empty());
    }
}

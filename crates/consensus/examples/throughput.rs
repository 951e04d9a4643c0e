//! Cost of consensus alone: one voter, a log that discards, a state machine that counts.
//!
//! `cargo run --release -p consensus --example throughput [entries] [batch] [bytes] [in flight] [directory]`; with a
//! directory, the WAL is written there.

// Measures time.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use api::raftpb::{Entry, HardState, Snapshot};
use bytes::Bytes;
use consensus::{
    Apply, ApplyBatch, Config, Core, Error, Events, LogStore, NoPeers, Node, Output, Proposal,
    ReadOutcome, ReadSink, Role, Start, StoreError, WalStore, Wiring,
};
use disk::{Fs, RealFs};
use wal::Wal;
use wal::snap::Snapshotter;

struct NullLog;

impl LogStore for NullLog {
    fn append(&mut self, _: Option<&HardState>, _: &[Entry]) -> Result<(), StoreError> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn save_snapshot(&mut self, _: &Snapshot) -> Result<(), StoreError> {
        Ok(())
    }
    fn release_to(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Applies on the consensus thread: counting costs nothing.
#[derive(Clone, Default)]
struct Counter {
    node: Arc<OnceLock<Node>>,
    applied: Arc<(Mutex<u64>, Condvar)>,
}

impl Counter {
    fn wait(&self, index: u64) {
        let applied = self.applied.0.lock().expect("no panic");
        drop(
            self.applied
                .1
                .wait_while(applied, |applied| *applied < index)
                .expect("no panic"),
        );
    }
}

impl Apply for Counter {
    fn apply(&self, batch: ApplyBatch) {
        let Some(last) = batch.entries.last() else {
            return;
        };
        *self.applied.0.lock().expect("no panic") = last.index;
        self.applied.1.notify_all();
        if let Some(node) = self.node.get() {
            node.applied(last.index);
        }
    }
}

impl ReadSink for Counter {
    fn read_done(&self, _: ReadOutcome) {}
}

impl Events for Counter {
    fn fatal(&self, error: &Error) {
        panic!("{error}");
    }
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        args.get(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (entries, batch) = (number(0, 1_000_000), number(1, 64));
    let size = number(2, 300) as usize;
    let in_flight = number(3, 4 * batch);
    let start = Start::bootstrap(&[(1, Bytes::new())]);
    let log: Box<dyn LogStore> = match args.get(4) {
        None => {
            core_alone(entries, batch, size);
            Box::new(NullLog)
        }
        Some(dir) => Box::new(real_log(Path::new(dir), &start)),
    };
    whole_node(log, start, [entries, batch, in_flight], size);
}

/// A WAL as the server writes it.
fn real_log(dir: &Path, start: &Start) -> WalStore {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let options = wal::Options::default();
    let mut wal = Wal::create(Arc::clone(&fs), dir, b"metadata", options).expect("a new WAL");
    wal.save(Some(&start.hard_state), &start.entries)
        .expect("written");
    WalStore::new(wal, Snapshotter::new(fs, dir, Arc::new(wal::NoObserver)))
}

/// The state machine without threads.
fn core_alone(entries: u64, batch: u64, size: usize) {
    let mut core =
        Core::new(Config::new(1), Start::bootstrap(&[(1, Bytes::new())]), 1).expect("a core");
    let settle = |core: &mut Core| {
        loop {
            let out: Output = core.poll();
            if let Some(job) = out.persist.iter().rfind(|job| job.number > 0) {
                core.persisted(job.epoch, job.number);
            }
            if let Some(last) = out.apply.last().and_then(|batch| batch.entries.last()) {
                core.applied(last.index);
            }
            if out.is_empty() {
                return;
            }
        }
    };
    core.campaign();
    settle(&mut core);
    assert_eq!(core.leadership().role, Role::Leader);
    let data = Bytes::from(vec![7; size]);
    let (wall, before) = (Instant::now(), processor_time());
    for _ in 0..entries / batch {
        core.propose((0..batch).map(|id| Proposal {
            id,
            data: data.clone(),
        }));
        settle(&mut core);
    }
    report(
        "core alone",
        entries,
        wall.elapsed(),
        processor_time().saturating_sub(before),
    );
}

/// Both threads and the hand-overs between them.
fn whole_node(log: Box<dyn LogStore>, start: Start, numbers: [u64; 3], size: usize) {
    let [entries, batch, in_flight] = numbers;
    let counter = Counter::default();
    let wiring = Wiring {
        log,
        transport: Box::new(NoPeers),
        apply: Box::new(counter.clone()),
        reads: Box::new(counter.clone()),
        events: Arc::new(counter.clone()),
    };
    let node = Node::start(Config::new(1), start, wiring).expect("a node");
    counter.node.set(node.clone()).expect("set once");
    node.applied(1);
    node.campaign().expect("running");
    counter.wait(2);
    let first = 2;
    let data = Bytes::from(vec![7; size]);
    let (wall, before) = (Instant::now(), processor_time());
    let mut sent = 0;
    while sent < entries {
        counter.wait((first + sent + batch).saturating_sub(in_flight));
        node.propose(
            (0..batch)
                .map(|id| Proposal {
                    id,
                    data: data.clone(),
                })
                .collect(),
        )
        .expect("room");
        sent += batch;
    }
    counter.wait(first + sent);
    report(
        "whole node",
        entries,
        wall.elapsed(),
        processor_time().saturating_sub(before),
    );
    node.stop();
}

fn report(what: &str, entries: u64, wall: Duration, cpu: Duration) {
    let per = |time: Duration| time.as_secs_f64() * 1e6 / entries as f64;
    println!(
        "{what}: {entries} entries, {:.2} µs wall and {:.2} µs processor time each, {:.0} entries/s",
        per(wall),
        per(cpu),
        entries as f64 / wall.as_secs_f64()
    );
}

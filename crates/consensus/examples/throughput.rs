//! Cost of consensus alone: one voter, a log that discards, a state machine that counts.
//!
//! `cargo run --release -p consensus --example throughput [entries] [batch] [bytes]`

// Measures time.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use api::raftpb::{Entry, HardState, Snapshot};
use bytes::Bytes;
use consensus::{
    Apply, ApplyBatch, Config, Core, Error, Events, LogStore, NoPeers, Node, Output, Proposal,
    ReadOutcome, ReadSink, Role, Start, StoreError, Wiring,
};

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
    applied: Arc<AtomicU64>,
}

impl Apply for Counter {
    fn apply(&self, batch: ApplyBatch) {
        let Some(last) = batch.entries.last() else {
            return;
        };
        self.applied.store(last.index, Ordering::Release);
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
    let mut args = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("a number"));
    let entries = args.next().unwrap_or(1_000_000);
    let batch = args.next().unwrap_or(64);
    let size = args.next().unwrap_or(300) as usize;
    core_alone(entries, batch, size);
    whole_node(entries, batch, size);
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
fn whole_node(entries: u64, batch: u64, size: usize) {
    let counter = Counter::default();
    let wiring = Wiring {
        log: Box::new(NullLog),
        transport: Box::new(NoPeers),
        apply: Box::new(counter.clone()),
        reads: Box::new(counter.clone()),
        events: Arc::new(counter.clone()),
    };
    let node = Node::start(
        Config::new(1),
        Start::bootstrap(&[(1, Bytes::new())]),
        wiring,
    )
    .expect("a node");
    counter.node.set(node.clone()).expect("set once");
    node.applied(1);
    node.campaign().expect("running");
    while node.status().role != Role::Leader {
        std::thread::sleep(Duration::from_millis(1));
    }
    let first = counter.applied.load(Ordering::Acquire).max(2);
    let data = Bytes::from(vec![7; size]);
    let (wall, before) = (Instant::now(), processor_time());
    let mut sent = 0;
    while sent < entries {
        // As many as a busy server has in flight.
        while sent
            > counter
                .applied
                .load(Ordering::Acquire)
                .saturating_sub(first)
                + 4 * batch
        {
            std::thread::yield_now();
        }
        let proposals = (0..batch)
            .map(|id| Proposal {
                id,
                data: data.clone(),
            })
            .collect();
        node.propose(proposals).expect("room");
        sent += batch;
    }
    while counter.applied.load(Ordering::Acquire) < first + sent - 1 {
        std::thread::yield_now();
    }
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

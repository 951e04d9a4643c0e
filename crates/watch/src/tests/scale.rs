//! Many watchers: what is counted is work, not time.

use bytes::Bytes;

use super::sim::{Sim, drain, watch};
use crate::{StreamConfig, StreamReceiver, WatchSpec};

const WATCHERS: usize = 10_000;

fn name(n: usize) -> Bytes {
    Bytes::from(format!("key/{n:05}"))
}

fn open(sim: &mut Sim, spec: impl Fn(usize) -> WatchSpec) -> Vec<StreamReceiver> {
    let mut receivers = Vec::new();
    for stream in 0..100 {
        let config = StreamConfig {
            requests: WATCHERS,
            ..StreamConfig::default()
        };
        let (control, receiver) = sim.stream_with(config);
        for n in 0..WATCHERS / 100 {
            control.create(spec(stream * WATCHERS / 100 + n)).unwrap();
        }
        receivers.push(receiver);
    }
    sim.settle();
    for receiver in &mut receivers {
        assert_eq!(drain(receiver).len(), WATCHERS / 100);
    }
    receivers
}

#[test]
fn ten_thousand_watchers_of_one_key() {
    let mut sim = Sim::new();
    let mut receivers = open(&mut sim, |_| watch(0, "a", 0));
    sim.put("a");
    sim.put("b");
    // One round, one answer each.
    assert!(!sim.round());
    let got: usize = receivers
        .iter_mut()
        .map(|receiver| drain(receiver).len())
        .sum();
    assert_eq!(got, WATCHERS);
    assert_eq!(sim.shared.stats.snapshot().events, WATCHERS as u64);
    drop(receivers);
    sim.settle();
    assert_eq!(sim.shared.stats.snapshot().watchers, 0);
}

#[test]
fn ten_thousand_watchers_of_ten_thousand_keys_and_prefixes() {
    for prefixes in [false, true] {
        let mut sim = Sim::new();
        let mut receivers = open(&mut sim, |n| WatchSpec {
            key: name(n),
            end: if prefixes { name(n + 1) } else { Bytes::new() },
            ..WatchSpec::default()
        });
        for n in (0..WATCHERS).step_by(100) {
            sim.write(&[(name(n), Some(Bytes::new()))]);
        }
        sim.settle();
        // Every hundredth watcher got its own event and nobody anything else.
        for receiver in &mut receivers {
            assert_eq!(drain(receiver).len(), 1);
        }
        assert_eq!(sim.shared.stats.snapshot().events, WATCHERS as u64 / 100);
    }
}

/// All of them fall behind at once and come back in groups, each with one answer for all it missed.
#[test]
fn ten_thousand_watchers_behind() {
    let mut sim = Sim::new();
    let mut receivers = open(&mut sim, |_| watch(0, "a", 0));
    for _ in 0..50 {
        sim.write_unseen(&[(Bytes::from_static(b"a"), Some(Bytes::new()))]);
    }
    sim.restored();
    let mut reads = 0;
    while sim.round() || sim.read_history() {
        reads += 1;
        assert!(reads < 200);
    }
    for receiver in &mut receivers {
        assert_eq!(drain(receiver).len(), WATCHERS / 100);
    }
    assert_eq!(sim.shared.stats.snapshot().behind, 0);
    assert_eq!(sim.shared.stats.snapshot().events, 50 * WATCHERS as u64);
}

//! Bugs of etcd that this design must make impossible, each by its number in upstream's tracker.

use super::sim::{Sim, brief, drain, key, watch};
use crate::{LogLimits, StreamConfig, WatchSpec};

/// A log that keeps only the newest revision, so that catching up always reads the store.
fn short_log() -> Sim {
    Sim::with(
        LogLimits {
            revisions: 1,
            bytes: usize::MAX,
        },
        usize::MAX,
    )
}

/// 15220: the answer to a progress request overtook events. Here it is put into the same queue
/// after them, and only if every watcher of the stream has been given everything.
#[test]
fn issue_15220_progress_never_overtakes_events() {
    let mut sim = short_log();
    for _ in 0..3 {
        sim.put("a");
    }
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 2)).unwrap();
    control.create(watch(0, "b", 0)).unwrap();
    control.progress().unwrap();
    sim.round();
    // The first watcher needs the store, which has not answered: no progress.
    control.progress().unwrap();
    sim.round();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @4", "1 created @4"]
    );
    sim.put("a");
    control.progress().unwrap();
    sim.settle();
    control.progress().unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 events 2 3 4 @5", "0 events 5 @5", "-1 progress @5"]
    );
}

/// 15220, the slow receiver: what does not fit into the queue counts as not sent.
#[test]
fn issue_15220_progress_waits_for_a_full_queue() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream_with(StreamConfig {
        items: 1,
        ..Default::default()
    });
    control
        .create(WatchSpec {
            progress_notify: true,
            ..watch(0, "a", 0)
        })
        .unwrap();
    sim.settle();
    sim.put("a");
    sim.put("a");
    sim.settle();
    control.progress().unwrap();
    control.tick_progress();
    control.tick_progress();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @1", "0 events 2 @2"]
    );
    sim.settle();
    control.progress().unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 events 3 @3", "-1 progress @3"]
    );
}

/// 17507: a new watcher on the current revision of a quiet key was never answered a progress
/// request until something happened to the key.
#[test]
fn issue_17507_a_quiet_new_watcher_gets_progress() {
    let mut sim = Sim::new();
    let revision = sim.put("bar");
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "foo", revision)).unwrap();
    control.progress().unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @2", "-1 progress @2"]
    );

    // The same when the revision is no longer in the log: silence first, then an answer.
    let mut sim = short_log();
    let revision = sim.put("bar");
    sim.put("bar");
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "foo", revision)).unwrap();
    control.progress().unwrap();
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["0 created @3"]);
    control.progress().unwrap();
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["-1 progress @3"]);
}

/// 15271: after a member got a snapshot from its leader, its watchers saw old events again.
#[test]
fn issue_15271_a_snapshot_does_not_take_watchers_back() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 0)).unwrap();
    sim.settle();
    for _ in 0..3 {
        sim.put("a");
    }
    sim.settle();
    let before = [
        "0 created @1",
        "0 events 2 @2",
        "0 events 3 @3",
        "0 events 4 @4",
    ];
    assert_eq!(brief(&drain(&mut receiver)), before);
    for _ in 0..3 {
        sim.write_unseen(&[(key("a"), Some(key("x")))]);
    }
    sim.restored();
    control.progress().unwrap();
    sim.settle();
    sim.put("a");
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 events 5 6 7 @7", "0 events 8 @8"]
    );
}

/// The same with a snapshot that is compacted beyond what a watcher needs: it is told, the others
/// go on.
#[test]
fn issue_15271_a_compacted_snapshot_ends_watchers_that_miss_something() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 0)).unwrap();
    control.create(watch(0, "a", 100)).unwrap();
    sim.settle();
    for _ in 0..5 {
        sim.write_unseen(&[(key("a"), Some(key("x")))]);
    }
    sim.store.compact(5);
    sim.restored();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @1", "1 created @1", "0 compacted 5 @0"]
    );
}

/// 20221: a watcher of a future revision got older events, or claims about them, after a
/// snapshot or because it was taken for one that is merely up to date.
#[test]
fn issue_20221_a_future_watcher_gets_nothing_older_than_it_asked_for() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    control
        .create(WatchSpec {
            progress_notify: true,
            ..watch(0, "a", 6)
        })
        .unwrap();
    sim.settle();
    sim.put("a");
    for _ in 0..2 {
        sim.write_unseen(&[(key("a"), Some(key("x")))]);
    }
    sim.restored();
    for _ in 0..2 {
        control.tick_progress();
        control.progress().unwrap();
        sim.settle();
    }
    assert_eq!(brief(&drain(&mut receiver)), ["0 created @1"]);
    sim.put("a");
    sim.put("a");
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["0 events 6 @6"]);

    // A snapshot that jumps over the wanted revision: from there on, nothing before.
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 9)).unwrap();
    sim.settle();
    for _ in 0..5 {
        sim.write_unseen(&[(key("a"), Some(key("x")))]);
    }
    sim.restored();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @6", "0 events 9 10 11 @11"]
    );
}

/// 17529: with more slow watchers on a stream than one pass serves, some starved for minutes, and
/// a compaction then cut a hole into their events without telling them.
#[test]
fn issue_17529_many_watchers_on_a_slow_stream_lose_nothing() {
    let mut sim = Sim::with(
        LogLimits {
            revisions: 8,
            bytes: usize::MAX,
        },
        usize::MAX,
    );
    let config = StreamConfig {
        items: 16,
        requests: 2000,
        ..Default::default()
    };
    let (control, mut receiver) = sim.stream_with(config);
    const WATCHERS: i64 = 800;
    for _ in 0..WATCHERS {
        control
            .create(WatchSpec {
                prev_kv: true,
                ..watch(0, "a", 0)
            })
            .unwrap();
    }
    sim.settle();
    drain(&mut receiver);
    for _ in 0..20 {
        sim.put("a");
    }
    sim.settle();
    // Slowly read: every watcher must be served within one turn of all.
    let mut seen = vec![1i64; WATCHERS as usize];
    let mut turns = 0;
    while seen.iter().any(|&revision| revision < 21) {
        turns += 1;
        assert!(turns < 4 * WATCHERS / 16, "starved");
        for item in drain(&mut receiver) {
            let crate::Body::Events(events) = &item.body else {
                panic!("{item:?}")
            };
            for event in events.iter() {
                let last = &mut seen[item.watch_id as usize];
                assert_eq!(event.kv.mod_revision(), *last + 1);
                *last += 1;
            }
        }
        sim.settle();
    }
}

/// 17529, the second half: whoever is overtaken by a compaction is told so, and gets nothing more.
#[test]
fn issue_17529_a_slow_watcher_overtaken_by_a_compaction_is_told() {
    let mut sim = short_log();
    let (control, mut receiver) = sim.stream_with(StreamConfig {
        items: 1,
        ..Default::default()
    });
    control.create(watch(0, "a", 0)).unwrap();
    sim.settle();
    for _ in 0..9 {
        sim.put("a");
        sim.settle();
    }
    sim.compact(8);
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @1", "0 events 2 @2"]
    );
    sim.settle();
    sim.put("a");
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["0 compacted 8 @0"]);
    sim.settle();
    assert!(drain(&mut receiver).is_empty());
}

/// A compaction runs while the store is being read for a watcher behind: what was read may have
/// holes and must not be delivered.
#[test]
fn a_compaction_during_a_read_ends_the_watcher_instead_of_skipping() {
    let mut sim = short_log();
    for _ in 0..9 {
        sim.put("a");
    }
    let (control, mut receiver) = sim.stream();
    control.create(watch(1, "a", 3)).unwrap();
    control.create(watch(2, "a", 8)).unwrap();
    sim.store.compact_in_next_read(8);
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "1 created @10",
            "2 created @10",
            "1 compacted 8 @0",
            "2 events 8 9 10 @10"
        ]
    );
}

/// 18089 and 19179: a watcher that starts at the compaction revision missed the deletion made by
/// that very revision.
#[test]
fn issue_18089_19179_a_deletion_at_the_compaction_revision_is_delivered() {
    for sim in [&mut Sim::new(), &mut short_log()] {
        sim.put("a");
        sim.put("b");
        let deleted = sim.delete("a");
        sim.put("b");
        sim.compact(deleted);
        let (control, mut receiver) = sim.stream();
        control.create(watch(0, "a", deleted)).unwrap();
        sim.settle();
        assert_eq!(
            brief(&drain(&mut receiver)),
            ["0 created @5", "0 events 4 @5"]
        );
        assert!(matches!(
            sim.store.events(deleted)[..],
            [crate::Event {
                kind: crate::EventKind::Delete,
                ..
            }]
        ));
    }
}

/// 22264, 16839: a receiver that does not read must cost writers and other streams nothing. The
/// work per revision is counted: once the queue is full, the slow stream is not looked at again.
#[test]
fn issue_22264_a_stuck_receiver_is_put_aside() {
    let mut sim = Sim::new();
    let (stuck, _receiver) = sim.stream_with(StreamConfig {
        items: 4,
        ..Default::default()
    });
    for _ in 0..50 {
        stuck.create(watch(0, "a", 0)).unwrap();
    }
    sim.settle();
    for _ in 0..1000 {
        sim.put("a");
    }
    sim.settle();
    let stats = sim.shared.stats.snapshot();
    assert_eq!((stats.behind, stats.full, stats.events), (50, 50, 4));
}

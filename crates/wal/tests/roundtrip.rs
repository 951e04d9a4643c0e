//! What was appended is read back, over any number of segments and restarts.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::raftpb::HardState;
use common::{Call, Driver, METADATA, Model, open, real, segment_names, small};
use disk::{Fs, LockKind, OpenOptions, RealFs};
use proptest::prelude::*;
use wal::{Error, Observer, Options, Preparation, Wal, WalSnapshot};

fn call() -> impl Strategy<Value = Call> {
    let lens = || prop::collection::vec(prop_oneof![8 => 0usize..600, 1 => 0usize..30_000], 0..6);
    prop_oneof![
        4 => (0u64..5, lens(), any::<bool>())
            .prop_map(|(back, lens, new_term)| Call::Save { back, lens, new_term }),
        4 => (0u64..5, lens(), any::<bool>())
            .prop_map(|(back, lens, new_term)| Call::Append { back, lens, new_term }),
        2 => Just(Call::Commit),
        1 => Just(Call::Snapshot),
        1 => Just(Call::Sync),
        1 => Just(Call::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_read_back_as_it_was_appended(
        runs in prop::collection::vec(prop::collection::vec(call(), 0..25), 1..4),
        preparation in prop_oneof![Just(Preparation::OnDemand), Just(Preparation::ZeroFilled), Just(Preparation::Reserved)],
    ) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("wal");
        Wal::create(real(), &dir, METADATA, small(preparation)).unwrap().close().unwrap();
        let mut model = Model::default();
        for calls in &runs {
            let (wal, recovered) =
                Wal::open(real(), &dir, &WalSnapshot::default(), small(preparation)).unwrap();
            prop_assert!(model.agrees(&recovered));
            prop_assert_eq!(&recovered.metadata[..], METADATA);
            let mut driver = Driver::resume(wal, &recovered);
            for call in calls {
                driver.call(call).unwrap();
            }
            model = driver.model();
            driver.wal.close().unwrap();
            let read = wal::read_only(&RealFs, &dir, &WalSnapshot::default()).unwrap();
            prop_assert!(model.agrees(&read));
            let state = wal::verify(&RealFs, &dir, &WalSnapshot::default()).unwrap();
            prop_assert_eq!(state, model.hard_state);
        }
        // Prepared segments are gone after a clean end.
        let names = RealFs.read_dir(&dir).unwrap();
        prop_assert!(names.iter().all(|e| e.name.strip_suffix(".wal").is_some()));
    }
}

#[test]
fn a_new_log_is_a_reserved_segment_and_a_prepared_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    assert!(!wal::exists(&RealFs, &dir));
    let options = Options {
        preparation: Preparation::Reserved,
        ..Options::default()
    };
    let wal = Wal::create(real(), &dir, METADATA, options).unwrap();
    assert!(wal::exists(&RealFs, &dir));
    let first = dir.join("0000000000000000-0000000000000000.wal");
    assert_eq!(std::fs::metadata(&first).unwrap().len(), 64_000_000);
    assert!(!RealFs.exists(&root.path().join("wal.tmp")));
    // Go's locks are of the open-file-description kind.
    let other = RealFs.open(&first, OpenOptions::write()).unwrap();
    assert!(other.try_lock(LockKind::OpenFileWrite).is_err());
    wal.close().unwrap();
    other.try_lock(LockKind::OpenFileWrite).unwrap();
    assert!(!RealFs.exists(&dir.join("0.tmp")));
    drop(other);

    let again = Wal::create(real(), &dir, METADATA, Options::for_tools()).unwrap_err();
    assert_eq!(again.to_string(), "file already exists");
}

#[test]
fn full_segments_are_closed_at_their_exact_length() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let wal = Wal::create(real(), &dir, METADATA, small(Preparation::ZeroFilled)).unwrap();
    let mut driver = Driver::new(wal);
    while driver.steps.len() < 500 {
        driver
            .call(&Call::Save {
                back: 0,
                lens: vec![100; 3],
                new_term: false,
            })
            .unwrap();
    }
    driver.wal.close().unwrap();
    let names = segment_names(&dir);
    assert!(names.len() > 3, "{names:?}");
    for (seq, name) in names.iter().enumerate() {
        assert!(name.starts_with(&format!("{seq:016x}-")));
        let len = std::fs::metadata(dir.join(name)).unwrap().len();
        let last = seq == names.len() - 1;
        assert_eq!(len % 8, 0);
        assert!(
            if last {
                len == 16 * 1024
            } else {
                (16 * 1024..17 * 1024).contains(&len)
            },
            "{len}"
        );
    }
    // The second number is the index of the first entry of the segment.
    let second = u64::from_str_radix(&names[1][17..33], 16).unwrap();
    let start = WalSnapshot {
        index: second - 1,
        ..WalSnapshot::default()
    };
    let (_, recovered) = Wal::open(real(), &dir, &start, small(Preparation::OnDemand)).unwrap();
    assert_eq!(recovered.entries[0].index, second);
}

#[test]
fn only_entries_terms_and_votes_force_a_sync() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
    let state = |term, vote, commit| HardState { term, vote, commit };
    assert!(wal.save(Some(&state(1, 0, 0)), &[]).unwrap());
    assert!(wal.save(Some(&state(1, 5, 0)), &[]).unwrap());
    assert!(!wal.save(Some(&state(1, 5, 0)), &[]).unwrap());
    assert!(wal.save(None, &[common::entry(1, 1, 3)]).unwrap());
    assert!(!wal.save(Some(&state(1, 5, 1)), &[]).unwrap());
    assert!(!wal.save(Some(&HardState::default()), &[]).unwrap());
    assert!(!wal.save(None, &[]).unwrap());
    // A commit index that was not synced is lost with the process, and nothing else is.
    drop(wal);
    let (wal, recovered) = open(&dir).unwrap();
    assert_eq!(recovered.hard_state, state(1, 5, 0));
    assert_eq!(recovered.entries.len(), 1);
    drop(wal);
}

#[test]
fn entries_that_leave_a_gap_are_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
    let gap = wal.append(None, &[common::entry(1, 2, 3)]);
    assert!(matches!(gap, Err(Error::Gap { last: 0, got: 2 })));
    let gap = wal.append(None, &[common::entry(1, 1, 3), common::entry(1, 3, 3)]);
    assert!(matches!(gap, Err(Error::Gap { last: 1, got: 3 })));
    // A snapshot moves the log forward.
    wal.save_snapshot(&common::snapshot(1, 40)).unwrap();
    wal.save(None, &[common::entry(1, 41, 3)]).unwrap();
    assert_eq!(wal.last_index(), 41);
}

#[test]
fn a_snapshot_record_needs_its_members() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
    let bare = WalSnapshot {
        index: 5,
        term: 1,
        conf_state: None,
    };
    let err = wal.save_snapshot(&bare).unwrap_err();
    assert!(
        err.to_string()
            .starts_with("Saved (not-initial) snapshot is missing ConfState")
    );
    // Nothing was written, so the log goes on.
    wal.save_snapshot(&common::snapshot(1, 5)).unwrap();
}

#[test]
fn another_process_cannot_open_a_log_in_use() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
    let err = open(&dir).unwrap_err();
    assert_eq!(err.to_string(), "fileutil: file already locked");
    // Readers are not kept out.
    wal::read_only(&RealFs, &dir, &WalSnapshot::default()).unwrap();
    wal.close().unwrap();
    open(&dir).unwrap();
}

#[test]
fn releasing_and_purging_keep_what_replay_needs() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
    let mut driver = Driver::new(wal);
    while segment_names(&dir).len() < 7 {
        driver
            .call(&Call::Save {
                back: 0,
                lens: vec![900; 3],
                new_term: false,
            })
            .unwrap();
    }
    let names = segment_names(&dir);
    let index = |i: usize| u64::from_str_radix(&names[i][17..33], 16).unwrap();
    // Locked segments stay whatever the limit says.
    assert!(wal::purge::segments(&RealFs, &dir, 1).unwrap().is_empty());
    // Entries from index(4) - 1 on are needed: they begin in segment 3.
    driver.wal.release_to(index(4) - 1);
    let removed = wal::purge::segments(&RealFs, &dir, 5).unwrap();
    assert_eq!(removed.len(), 2);
    assert!(wal::purge::segments(&RealFs, &dir, 0).unwrap().is_empty());
    let removed = wal::purge::segments(&RealFs, &dir, 1).unwrap();
    assert_eq!(removed.len(), 1, "segment 3 is still locked");
    assert_eq!(segment_names(&dir), names[3..]);
    driver.wal.release_to(u64::MAX);
    wal::purge::segments(&RealFs, &dir, 1).unwrap();
    assert_eq!(segment_names(&dir), names[6..]);
    driver.wal.close().unwrap();

    let err = open(&dir).unwrap_err();
    assert_eq!(
        err.to_string(),
        "wal: file not found which matches the snapshot index '0'"
    );
    let start = common::snapshot(1, index(6));
    let (_, recovered) = Wal::open(real(), &dir, &start, small(Preparation::OnDemand)).unwrap();
    assert_eq!(recovered.metadata, METADATA);
}

#[test]
fn snapshots_are_purged_by_kind() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..4 {
        for suffix in ["snap", "snap.db", "snap.broken"] {
            let path = root.path().join(format!("{i:016x}.{suffix}"));
            RealFs.open(&path, OpenOptions::create()).unwrap();
        }
    }
    let removed = wal::purge::snapshots(&RealFs, root.path(), 3).unwrap();
    let names: Vec<_> = removed
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["0000000000000000.snap.db", "0000000000000000.snap"]);
}

#[derive(Debug, Default)]
struct Counter {
    syncs: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

impl Observer for Counter {
    fn wal_synced(&self, _took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn wal_written(&self, bytes: u64, _took: Duration) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn many_appends_share_one_write_and_one_sync() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let counter = Arc::new(Counter::default());
    let options = Options {
        preparation: Preparation::OnDemand,
        observer: counter.clone(),
        ..Options::default()
    };
    let mut wal = Wal::create(real(), &dir, METADATA, options.clone()).unwrap();
    let count = || {
        let get = |n: &AtomicU64| n.swap(0, Ordering::Relaxed);
        (get(&counter.syncs), get(&counter.writes))
    };
    count();
    for i in 1..=100 {
        wal.append(None, &[common::entry(1, i, 300)]).unwrap();
    }
    assert!(wal.needs_sync());
    wal.sync().unwrap();
    assert!(!wal.needs_sync());
    assert_eq!(count(), (1, 1));
    wal.close().unwrap();

    // Without syncs the bytes still get out of the process.
    count();
    let options = Options {
        no_sync: true,
        ..options
    };
    let (mut wal, _) = Wal::open(real(), &dir, &WalSnapshot::default(), options).unwrap();
    wal.save(None, &[common::entry(1, 101, 300)]).unwrap();
    assert_eq!(count(), (0, 1));
    let read = wal::read_only(&RealFs, &dir, &WalSnapshot::default()).unwrap();
    assert_eq!(read.entries.len(), 101);
}

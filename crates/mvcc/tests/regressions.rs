//! Behaviours that were bugs upstream, and rules that are easily got wrong.

#![allow(clippy::disallowed_methods)] // Tests are at the edge.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Member, config, naive_hash_kv, parsed, real, records};
use disk::testing::RecordingFs;
use mvcc::{Config, Error, EventKind, RangeOptions, SortOrder, SortTarget};

fn all(member: &Member, options: &RangeOptions) -> Vec<String> {
    let result = member.store.range(b"\0", b"\0", options).unwrap();
    parsed(&result.kvs)
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}

/// Keys that change, die and come back.
fn history(member: &mut Member) {
    for round in 0..6 {
        for key in ["a", "b", "c", "d", "e"] {
            member.put(key, &format!("{key}{round}"));
        }
        member.delete(["b", "d", "e"][round % 3], "");
    }
}

/// Upstream issue 17780: a member that crashed during a compaction came back with a lower revision, because the
/// newest record was among those deleted.
#[test]
fn issue_17780_the_revision_never_decreases_after_a_crash_in_a_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let revision = {
        let mut member = Member::open(dir.path());
        member.put("a", "1");
        let revision = member.delete("a", "");
        member.put("b", "1");
        let last = member.delete("b", "");
        assert_eq!(last, revision + 2);
        member.compact(last).unwrap();
        last
    };
    let mut member = Member::open(dir.path());
    assert_eq!(member.store.current_revision(), revision);
    assert_eq!(member.put("c", "1"), revision + 1);
}

/// Upstream issues 18089 and 19179: a watcher that starts at the compacted revision must still get the deletion
/// made there.
#[test]
fn issue_18089_a_deletion_at_the_compacted_revision_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    member.put("a", "1");
    let deleted = member.delete("a", "");
    member.compact(deleted).unwrap();
    let batch = member.store.events_since(deleted, 10, 1000).unwrap();
    assert_eq!(batch.transactions.len(), 1);
    assert_eq!(batch.transactions[0].0, deleted);
    assert_eq!(batch.transactions[0].1[0].kind, EventKind::Delete);
    drop(member);
    let mut member = Member::open(dir.path());
    let batch = member.store.events_since(deleted, 10, 1000).unwrap();
    assert_eq!(batch.transactions[0].1[0].kind, EventKind::Delete);
    // And it is gone with the next compaction.
    let next = member.put("b", "1");
    member.compact(next).unwrap();
    assert_eq!(records(&member.backend).len(), 1);
}

/// Upstream issue 18667: a range at a compacted revision within a transaction was checked on some members only. The
/// check is the same for everybody who asks.
#[test]
fn issue_18667_a_range_at_a_compacted_revision_fails_in_transactions_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    history(&mut member);
    let current = member.store.current_revision();
    member.compact(current - 3).unwrap();
    let mut txn = member.writer.begin(&mut member.log);
    for changed in [false, true] {
        let at = |revision| RangeOptions {
            revision,
            ..RangeOptions::default()
        };
        assert!(matches!(
            txn.range(b"a", b"", &at(current - 4)),
            Err(Error::Compacted)
        ));
        assert!(txn.range(b"a", b"", &at(current - 3)).is_ok());
        assert!(matches!(
            txn.range(b"a", b"", &at(current + 2)),
            Err(Error::FutureRev)
        ));
        assert_eq!(txn.range(b"a", b"", &at(current + 1)).is_ok(), changed);
        txn.put("z", "1", 0);
    }
}

/// A compaction is cut short at every commit; after a restart it ends in the same records and hashes.
#[test]
fn a_compaction_interrupted_anywhere_ends_in_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let slow = Config {
        compaction_batch_limit: 2,
        ..config()
    };
    let mut member = Member::open_with(Arc::new(fs.clone()), dir.path(), slow.clone());
    history(&mut member);
    member.backend.flush().unwrap();
    let (begin, current) = (fs.op_count(), member.store.current_revision());
    let revision = current - 4;
    member.compact(revision).unwrap();
    let end = fs.op_count();
    let (expected, hash) = (
        records(&member.backend),
        member.store.hash_kv(current).unwrap(),
    );
    assert_eq!(hash.hash, naive_hash_kv(&member.backend, revision, current));
    drop(member);
    let mut resumed = 0;
    for n in begin..=end {
        let image = tempfile::tempdir().unwrap();
        fs.crash_image(n, 1, image.path()).unwrap();
        let mut member = Member::open_with(real(), image.path(), slow.clone());
        assert_eq!(member.store.current_revision(), current);
        if member.store.compact_revision() == revision {
            resumed += 1;
            assert!(
                member
                    .store
                    .range(
                        b"a",
                        b"",
                        &RangeOptions {
                            revision: revision - 1,
                            ..RangeOptions::default()
                        }
                    )
                    .is_err()
            );
            member.store.wait_compaction(revision).unwrap();
            assert!(matches!(member.compact(revision), Err(Error::Compacted)));
        } else {
            assert_eq!(member.store.compact_revision(), -1);
            member.compact(revision).unwrap();
        }
        assert_eq!(records(&member.backend), expected);
        assert_eq!(member.store.hash_kv(current).unwrap(), hash);
    }
    assert!(resumed > 3, "{resumed}");
}

#[test]
fn a_resumed_compaction_stores_no_hash_but_the_next_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let mut member = Member::open_with(Arc::new(fs.clone()), dir.path(), config());
    history(&mut member);
    let job = member.writer.compact(&mut member.log, 10).unwrap();
    let scheduled = member.log.commit();
    member.end_entry();
    scheduled.wait().unwrap();
    let durable = fs.op_count();
    job.wait().unwrap();
    assert_eq!(member.store.compaction_hashes().len(), 1);
    drop(member);
    let image = tempfile::tempdir().unwrap();
    fs.crash_image(durable, 0, image.path()).unwrap();
    let mut member = Member::open(image.path());
    member.store.wait_compaction(10).unwrap();
    let stored = member.store.compaction_hashes();
    assert!(stored.is_empty() || stored[0].revision != 10, "{stored:?}");
    member.compact(12).unwrap();
    assert_eq!(
        member.store.compaction_hashes().last().unwrap().revision,
        12
    );
}

#[test]
fn compaction_hashes_are_kept_for_the_newest_ten() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    history(&mut member);
    for revision in 2..20 {
        let before = naive_hash_kv(&member.backend, revision - 1, revision);
        let previous = member.store.compact_revision();
        member.compact(revision).unwrap();
        let hash = member.store.hash_kv(revision).unwrap();
        assert_eq!(
            (hash.hash_revision, hash.compact_revision),
            (revision, previous)
        );
        if previous == revision - 1 {
            assert_eq!(hash.hash, before);
        }
    }
    let revisions: Vec<_> = member
        .store
        .compaction_hashes()
        .iter()
        .map(|hash| hash.revision)
        .collect();
    assert_eq!(revisions, (10..20).collect::<Vec<_>>());
}

#[test]
fn a_fresh_store_can_be_compacted_at_zero_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    assert_eq!(
        (
            member.store.current_revision(),
            member.store.compact_revision()
        ),
        (1, -1)
    );
    assert!(matches!(member.compact(-1), Err(Error::Compacted)));
    member.compact(0).unwrap();
    assert!(matches!(member.compact(0), Err(Error::Compacted)));
    assert!(matches!(member.compact(2), Err(Error::FutureRev)));
    assert_eq!(member.store.hash_kv(0).unwrap().compact_revision, 0);
}

/// With an order for something else than the key, the limit applies after sorting; without one, before.
#[test]
fn the_limit_cuts_before_sorting_only_if_no_order_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    for key in ["d", "c", "b", "a"] {
        member.put(key, "x");
    }
    let by_mod = |sort_order| RangeOptions {
        limit: 1,
        sort_order,
        sort_target: SortTarget::Mod,
        ..RangeOptions::default()
    };
    // Of the first two keys, a and b, the lower revision is b's.
    assert_eq!(all(&member, &by_mod(SortOrder::None)), ["b"]);
    assert_eq!(all(&member, &by_mod(SortOrder::Ascend)), ["d"]);
    assert_eq!(all(&member, &by_mod(SortOrder::Descend)), ["a"]);
}

#[test]
fn equal_elements_stay_in_key_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    for i in 0..40 {
        member.put(&format!("{i:02}"), if i % 2 == 0 { "even" } else { "odd" });
    }
    for sort_order in [SortOrder::Ascend, SortOrder::Descend] {
        let options = RangeOptions {
            sort_order,
            sort_target: SortTarget::Value,
            ..RangeOptions::default()
        };
        let keys = all(&member, &options);
        let (first, second) = keys.split_at(20);
        assert!(first.is_sorted() && second.is_sorted());
        assert_eq!(
            first[0],
            if sort_order == SortOrder::Ascend {
                "00"
            } else {
                "01"
            }
        );
    }
}

#[test]
fn keys_only_leaves_the_lease_out_unless_sorted_by_value() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    let mut txn = member.writer.begin(&mut member.log);
    txn.put("a", "1", 7);
    txn.finish();
    member.end_entry();
    for (sort_target, lease) in [
        (SortTarget::Key, 0),
        (SortTarget::Mod, 0),
        (SortTarget::Value, 7),
    ] {
        let options = RangeOptions {
            keys_only: true,
            sort_target,
            ..RangeOptions::default()
        };
        let kv = member.store.range(b"a", b"", &options).unwrap().kvs[0].to_kv();
        assert_eq!(
            (kv.lease, kv.value.len(), kv.version, kv.create_revision),
            (lease, 0, 1, 2)
        );
    }
}

#[test]
fn a_transaction_that_is_dropped_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    member.put("a", "1");
    let before = records(&member.backend);
    let mut txn = member.writer.begin(&mut member.log);
    txn.put("a", "2", 0);
    txn.delete_range(b"a", b"");
    drop(txn);
    member.end_entry();
    assert_eq!(records(&member.backend), before);
    assert_eq!(member.put("b", "1"), 3);
}

/// `restore --bump-revision` leaves a record with an empty value.
#[test]
fn an_empty_record_moves_the_revision_and_is_seen_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut member = Member::open(dir.path());
        member.put("a", "1");
        let mut key = 1000_i64.to_be_bytes().to_vec();
        key.extend(b"_\0\0\0\0\0\0\0\0");
        member
            .log
            .put(backend::Bucket::Key, key, bytes::Bytes::new());
        member.end_entry();
    }
    let mut member = Member::open(dir.path());
    assert_eq!(member.store.current_revision(), 1000);
    assert_eq!(all(&member, &RangeOptions::default()), ["a"]);
    assert_eq!(
        member.store.hash_kv(0).unwrap().hash,
        naive_hash_kv(&member.backend, -1, 1000)
    );
    member.compact(1000).unwrap();
    assert_eq!(records(&member.backend).len(), 2);
    assert_eq!(
        member.store.hash_kv(0).unwrap().hash,
        naive_hash_kv(&member.backend, 1000, 1000)
    );
}

#[test]
fn damaged_records_are_an_error_not_a_panic() {
    for (key, value) in [
        (&b"short"[..], &b""[..]),
        (&[0; 17], b""),
        (&[0xff; 17], b""),
        (b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", b"\x0a\xff"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (backend, mut log) = common::open_backend(real(), dir.path());
        log.put(
            backend::Bucket::Key,
            key,
            bytes::Bytes::copy_from_slice(value),
        );
        log.end_entry(backend::Position { index: 1, term: 1 });
        assert!(matches!(
            mvcc::open(backend, config()),
            Err(Error::Damaged(_))
        ));
    }
}

/// A large transaction becomes visible all at once, though the lock is let go in between.
#[test]
fn a_large_transaction_is_visible_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open_with(
        real(),
        dir.path(),
        Config {
            value_cache_bytes: 1 << 20,
            ..config()
        },
    );
    let key = |i: i32| format!("k{i:05}");
    for round in 0..5 {
        let store = member.store.clone();
        let reader = std::thread::spawn(move || {
            for _ in 0..300 {
                let result = store
                    .range(
                        b"k",
                        b"l",
                        &RangeOptions {
                            count_only: true,
                            ..RangeOptions::default()
                        },
                    )
                    .unwrap();
                assert!([0, 5000].contains(&result.count), "{}", result.count);
                let list = store
                    .range(
                        b"k",
                        b"l",
                        &RangeOptions {
                            revision: result.revision,
                            ..RangeOptions::default()
                        },
                    )
                    .unwrap();
                assert_eq!(list.count, result.count);
                assert_eq!(list.kvs.len() as i64, result.count);
            }
        });
        let mut txn = member.writer.begin(&mut member.log);
        if round % 2 == 0 {
            for i in 0..5000 {
                txn.put(key(i), "x", 0);
            }
        } else {
            assert_eq!(txn.delete_range(b"k", b"l").len(), 5000);
        }
        txn.finish();
        member.end_entry();
        reader.join().unwrap();
    }
}

#[test]
fn the_content_can_be_replaced() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut member = Member::open(dir.path());
    history(&mut member);
    member.compact(5).unwrap();
    let (backend, mut log) = common::open_backend(real(), other.path());
    let mut fresh = mvcc::open(backend.clone(), config()).unwrap();
    let mut txn = fresh.writer.begin(&mut log);
    txn.put("new", "1", 9);
    txn.finish();
    log.end_entry(backend::Position { index: 1, term: 1 });
    drop(fresh);
    let leases = member.writer.restore(backend).unwrap();
    assert_eq!(leases, [(9, bytes::Bytes::from_static(b"new"))]);
    assert_eq!(all(&member, &RangeOptions::default()), ["new"]);
    assert_eq!(
        (
            member.store.current_revision(),
            member.store.compact_revision()
        ),
        (2, -1)
    );
    assert!(member.store.compaction_hashes().is_empty());
}

/// A list takes several steps; it never mixes the content before a snapshot from the leader with the one after it.
#[test]
fn a_list_never_mixes_two_contents() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut members = dirs.each_ref().map(|dir| Member::open(dir.path()));
    for (member, letter) in members.iter_mut().zip(["a", "b"]) {
        let mut txn = member.writer.begin(&mut member.log);
        for i in 0..2000 {
            txn.put(format!("{i:04}{letter}"), letter, 0);
        }
        txn.finish();
        member.end_entry();
    }
    let [mut member, other] = members;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, stop) = (member.store.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let result = store.range(b"0", b"\0", &RangeOptions::default()).unwrap();
                let first = result.kvs[0].value();
                assert!(result.kvs.iter().all(|kv| kv.value() == first));
                assert_eq!((result.kvs.len(), result.count), (2000, 2000));
            }
        }
    });
    let backends = [other.backend.clone(), member.backend.clone()];
    drop(other);
    for round in 0..30 {
        member.writer.restore(backends[round % 2].clone()).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

#[test]
fn a_compaction_whose_entry_never_ends_does_not_hold_up_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::open(dir.path());
    let last = member.put("a", "1");
    let job = member.writer.compact(&mut member.log, last).unwrap();
    drop(member.writer);
    assert!(matches!(job.wait(), Err(Error::Closed)));
}

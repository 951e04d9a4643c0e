//! Readers on other threads while one thread writes, compacts and rewrites the file.

#![allow(clippy::disallowed_methods)] // Tests are at the edge.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Member, naive_hash_kv, parsed, real};
use mvcc::{Config, Error, RangeOptions, Store};

const KEYS: usize = 700;

fn options(revision: i64, limit: i64) -> RangeOptions {
    RangeOptions {
        revision,
        limit,
        ..RangeOptions::default()
    }
}

/// Every transaction moves one unit between two accounts, so in each revision the sum is the same, and the number of
/// accounts, too. Lists take several steps of the lock, and most values come from the backend.
fn read(store: &Store, stop: &AtomicBool) -> usize {
    let mut lists = 0;
    while !stop.load(Ordering::Relaxed) {
        let first = store.range(b"acct", b"accu", &options(0, 0)).unwrap();
        if first.count == 0 {
            continue;
        }
        let sum: i64 = parsed(&first.kvs)
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.value).parse::<i64>().unwrap())
            .sum();
        assert_eq!(
            (sum, first.kvs.len(), first.count),
            (0, KEYS, KEYS as i64),
            "at {}",
            first.revision
        );
        match store.range(b"acct", b"accu", &options(first.revision, 0)) {
            Ok(again) => assert_eq!(again.kvs, first.kvs, "a list at a revision never changes"),
            Err(Error::Compacted) => {}
            Err(error) => panic!("{error}"),
        }
        paged(store, first.revision, &first.kvs);
        lists += 1;
    }
    lists
}

/// The same list in pages, as Kubernetes reads it.
fn paged(store: &Store, revision: i64, expected: &[api::RawKv]) {
    let mut key = b"acct".to_vec();
    let mut kvs = Vec::new();
    loop {
        let page = match store.range(&key, b"accu", &options(revision, 50)) {
            Ok(page) => page,
            Err(Error::Compacted) => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(page.count as usize, expected.len() - kvs.len());
        kvs.extend(page.kvs);
        if !page.more {
            break;
        }
        key = kvs.last().map(|kv| kv.key().to_vec()).unwrap_or_default();
        key.push(0);
    }
    assert_eq!(kvs, expected);
}

#[test]
fn a_list_at_a_revision_never_changes_whatever_else_happens() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        value_cache_bytes: 20_000,
        compaction_batch_limit: 100,
        compaction_sleep: Duration::ZERO,
    };
    let mut member = Member::open_with(real(), dir.path(), config);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, stop) = (member.store.clone(), stop.clone());
            std::thread::spawn(move || read(&store, &stop))
        })
        .collect();
    let hasher = std::thread::spawn({
        let (store, stop) = (member.store.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let now = store.hash_kv(0).unwrap();
                match store.hash_kv(now.hash_revision) {
                    Ok(again) if again.compact_revision == now.compact_revision => {
                        assert_eq!(again.hash, now.hash);
                    }
                    Ok(_) | Err(Error::Compacted) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    work(&mut member);
    stop.store(true, Ordering::Relaxed);
    let lists: usize = readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .sum();
    hasher.join().unwrap();
    assert!(lists > 0);
    let compacted = member.store.compact_revision();
    member.store.wait_compaction(compacted).unwrap();
    let hash = member.store.hash_kv(0).unwrap();
    let naive = naive_hash_kv(&member.backend, compacted, hash.current_revision);
    assert_eq!(hash.hash, naive);
}

fn work(member: &mut Member) {
    let mut balance = vec![0_i64; KEYS];
    let mut txn = member.writer.begin(&mut member.log);
    for i in 0..KEYS {
        txn.put(format!("acct{i:04}"), "0", 0);
    }
    txn.finish();
    member.end_entry();
    let mut random = 7_u64;
    for round in 1..=4000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (from, to) = (
            (random >> 33) as usize % KEYS,
            (random >> 48) as usize % KEYS,
        );
        let mut txn = member.writer.begin(&mut member.log);
        for (i, by) in [(from, -1), (to, 1)] {
            balance[i] += by;
            let key = format!("acct{i:04}");
            if round % 3 == 0 {
                // A new life for the key.
                txn.delete_range(key.as_bytes(), b"");
            }
            txn.put(key, balance[i].to_string(), 0);
        }
        txn.put("other", round.to_string(), 0);
        txn.finish();
        if round % 97 == 0 {
            let revision = member.store.current_revision() - 40;
            drop(member.writer.compact(&mut member.log, revision).unwrap());
        }
        member.end_entry();
        if round % 1000 == 0 {
            member.backend.defrag().unwrap();
        }
    }
}

//! Snapshots, hashes and rewriting while the database is in use.

#![allow(clippy::disallowed_methods)] // Tests are at the edge.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backend::{Backend, Bucket, Config, Op, Writer};
use bytes::Bytes;
use common::{at, bytes, config, content, open, real, revision};

fn fill(writer: &mut Writer, from: u64, to: u64) {
    for index in from..=to {
        writer.put(
            Bucket::Key,
            revision(index),
            Bytes::from(vec![index as u8; 200]),
        );
        writer.end_entry(at(index));
    }
}

fn delete_revisions(backend: &Backend, range: std::ops::Range<u64>) {
    let ops = range
        .map(|i| Op::Delete {
            bucket: Bucket::Key,
            key: revision(i).into(),
        })
        .collect();
    backend.background(ops).wait().unwrap();
}

/// The file is a sound database and nothing lies beside it.
fn check_file(dir: &std::path::Path) {
    let db = bbolt::Db::open(real(), &dir.join("db"), bbolt::Options::default()).unwrap();
    let errors = db.read().unwrap().check();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
}

#[test]
fn a_rewrite_gives_the_space_of_deleted_records_back() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    fill(&mut writer, 1, 20_000);
    backend.flush().unwrap();
    delete_revisions(&backend, 1..19_000);
    let (before, size) = (content(&backend), backend.size());
    assert!(!backend.defrag_if(1 << 40).unwrap());
    assert!(backend.defrag_if(1).unwrap());
    assert!(backend.size() < size / 5, "{} of {size}", backend.size());
    assert!(backend.size() - backend.size_in_use() < size / 20);
    assert_eq!(content(&backend), before);
    fill(&mut writer, 20_001, 20_100);
    let after = content(&backend);
    drop((writer, backend));
    check_file(dir.path());
    let (backend, _writer) = open(dir.path());
    assert_eq!(content(&backend), after);
    assert_eq!(backend.position(), Some(at(20_100)));
}

/// All buckets change while the file is rewritten again and again: behind the copy, ahead of it, and under it.
#[test]
fn rewriting_under_load_loses_no_change_and_keeps_serving() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        batch_interval: Duration::from_millis(1),
        ..config(dir.path())
    };
    let (backend, mut writer) = backend::open(real(), config).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let rewriter = std::thread::spawn({
        let (backend, stop) = (backend.clone(), stop.clone());
        move || {
            let mut rounds = 0;
            while !stop.load(Ordering::SeqCst) {
                backend.defrag().unwrap();
                rounds += 1;
            }
            rounds
        }
    });
    let mut model = common::Model::new();
    let mut random = 1_u64;
    for index in 1..=8_000 {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let bucket = Bucket::ALL[(random >> 60) as usize % 9];
        let key = if bucket == Bucket::Key {
            revision(index)
        } else {
            vec![1, (random >> 40) as u8]
        };
        if random.is_multiple_of(5) {
            writer.delete(bucket, &key);
            model.remove(&(bucket, key));
        } else {
            writer.put(bucket, &key, bytes(&index.to_string()));
            model.insert((bucket, key), index.to_string().into_bytes());
        }
        writer.end_entry(at(index));
        if index.is_multiple_of(500) {
            assert_eq!(content(&backend), model);
            backend.flush().unwrap();
        }
    }
    stop.store(true, Ordering::SeqCst);
    assert!(rewriter.join().unwrap() > 0);
    assert_eq!(content(&backend), model);
    drop((writer, backend));
    check_file(dir.path());
    let (backend, _writer) = open(dir.path());
    assert_eq!(content(&backend), model);
}

#[test]
fn a_snapshot_is_the_database_at_one_moment_even_across_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    fill(&mut writer, 1, 500);
    let expected = content(&backend);
    let image = backend.snapshot().unwrap();
    fill(&mut writer, 501, 900);
    backend.flush().unwrap();
    backend.defrag().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut data = vec![0; image.len() as usize];
    let mut done = 0;
    while done < data.len() {
        let end = (done + 1000).min(data.len());
        done += image.read_at(done as u64, &mut data[done..end]).unwrap();
    }
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(copy.path().join("db"))
        .and_then(|mut f| std::io::Write::write_all(&mut f, &data))
        .unwrap();
    check_file(copy.path());
    let (restored, _) = open(copy.path());
    assert_eq!(content(&restored), expected);
    assert_eq!(restored.position(), Some(at(500)));
    assert_eq!(restored.hash().unwrap(), {
        let mut same = common::Model::new();
        same.extend(expected);
        naive_hash(&same)
    });
}

/// The rule of the maintenance hash, written out.
fn naive_hash(content: &common::Model) -> u32 {
    let mut crc = 0;
    for bucket in Bucket::ALL {
        crc = crc32c::crc32c_append(crc, bucket.name().as_bytes());
        for ((_, key), value) in content.iter().filter(|((b, _), _)| *b == bucket) {
            if bucket == Bucket::Meta && key == b"storageVersion" {
                continue;
            }
            crc = crc32c::crc32c_append(crc, key);
            crc = crc32c::crc32c_append(crc, value);
        }
    }
    crc
}

#[test]
fn the_hash_leaves_out_what_differs_between_equal_members() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    let empty = backend.hash().unwrap();
    let names = Bucket::ALL
        .iter()
        .fold(0, |crc, b| crc32c::crc32c_append(crc, b.name().as_bytes()));
    assert_eq!(empty, names);
    writer.end_entry(backend::Position { index: 5, term: 2 });
    writer.put(Bucket::Meta, b"storageVersion", bytes("3.7.0"));
    writer.end_entry(backend::Position { index: 6, term: 2 });
    assert_eq!(backend.hash().unwrap(), empty);
    fill(&mut writer, 10, 20);
    assert_eq!(backend.hash().unwrap(), naive_hash(&content(&backend)));
}

#[test]
fn leftovers_of_an_interrupted_rewrite_are_removed_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for name in ["db.tmp.123", "db.tmp.9"] {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.path().join(name))
            .unwrap();
    }
    drop(open(dir.path()));
    check_file(dir.path());
}

#[test]
fn a_locked_database_is_reported_when_the_caller_does_not_want_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (_backend, _writer) = open(dir.path());
    let mut config = config(dir.path());
    config.bbolt.lock_timeout = Some(Duration::from_millis(60));
    let error = backend::open(real(), config).unwrap_err();
    assert_eq!(error.to_string(), "timeout");
}

#[test]
fn dropping_the_handles_commits_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    fill(&mut writer, 1, 10);
    let pinned = backend.view();
    drop((writer, backend));
    assert_eq!(pinned.position(), Some(at(10)));
    drop(pinned);
    let (backend, _writer) = open(dir.path());
    assert_eq!(content(&backend).len(), 10);
}

//! Readers and the writer beside each other: old states stay readable, pages are used again when nobody needs
//! them, mappings change under open readers, locks and closing.
#![allow(clippy::disallowed_methods)] // threads

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bbolt::{Db, Error, Options};
use disk::RealFs;
use support::{assert_sound, bucket_content, content, open, small_pages};

fn put(db: &Db, key: &[u8], value: &[u8]) {
    let mut tx = db.write().unwrap();
    tx.create_bucket_if_missing(b"b")
        .unwrap()
        .put(key, value)
        .unwrap();
    tx.commit().unwrap();
}

fn db(options: Options) -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("db"), options);
    (dir, db)
}

/// The mapping is exchanged many times while readers hold states in the old ones.
#[test]
fn growth_beyond_the_mapping_leaves_open_readers_their_state() {
    let (_dir, db) = db(small_pages());
    let mut readers = Vec::new();
    for n in 0..60u32 {
        put(&db, &n.to_be_bytes(), &vec![n as u8; 20_000]);
        readers.push((n, db.read().unwrap()));
    }
    assert!(db.size() > 60 * 20_000);
    for (n, tx) in &readers {
        let bucket = tx.bucket(b"b").unwrap().unwrap();
        assert_eq!(bucket.key_count().unwrap(), u64::from(*n) + 1);
        for k in 0..=*n {
            assert_eq!(
                bucket.get(&k.to_be_bytes()).unwrap().unwrap(),
                vec![k as u8; 20_000]
            );
        }
        assert_sound(tx);
    }
}

/// A cursor that has begun goes on in its own state, whatever is committed meanwhile.
#[test]
fn a_cursor_walks_its_own_state_while_others_commit() {
    let (_dir, db) = db(small_pages());
    for n in 0..200u32 {
        put(&db, &n.to_be_bytes(), &[1; 100]);
    }
    let tx = db.read().unwrap();
    let mut cursor = tx.bucket(b"b").unwrap().unwrap().cursor();
    let mut item = cursor.first().unwrap();
    let mut count = 0u32;
    while let Some((key, value)) = item {
        assert_eq!(
            (key, value),
            (&count.to_be_bytes()[..], Some(&[1; 100][..]))
        );
        let mut writer = db.write().unwrap();
        let mut bucket = writer.bucket(b"b").unwrap().unwrap();
        for n in 0..5 {
            bucket.delete(&(count + n).to_be_bytes()).unwrap();
            bucket
                .put(&(1000 + count * 5 + n).to_be_bytes(), &[2; 300])
                .unwrap();
        }
        writer.commit().unwrap();
        count += 1;
        item = cursor.next().unwrap();
    }
    assert_eq!(count, 200);
}

#[test]
fn threads_read_consistent_states_while_one_writes() {
    let (_dir, db) = db(small_pages());
    // Every state has all values equal.
    let write = |round: u32| {
        let mut tx = db.write().unwrap();
        let mut bucket = tx.create_bucket_if_missing(b"b").unwrap();
        for key in 0..50u32 {
            bucket
                .put(
                    &key.to_be_bytes(),
                    &vec![round as u8; 50 + (round as usize * 37) % 900],
                )
                .unwrap();
        }
        tx.commit().unwrap();
    };
    write(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let tx = db.read().unwrap();
                    assert!(tx.id() >= last);
                    last = tx.id();
                    let model = bucket_content(&tx.bucket(b"b").unwrap().unwrap()).unwrap();
                    let mut values = model.items.into_values();
                    let first = values.next().unwrap();
                    assert!(values.all(|value| value == first));
                }
            });
        }
        (1..300).for_each(write);
        stop.store(true, Ordering::Relaxed);
    });
    assert_sound(&db.read().unwrap());
}

#[test]
fn the_file_stops_growing_when_there_are_no_readers() {
    let (_dir, db) = db(small_pages());
    for n in 0..50u32 {
        put(&db, b"same", &n.to_be_bytes());
    }
    let size = db.size();
    for n in 0..200u32 {
        put(&db, b"same", &n.to_be_bytes());
    }
    assert_eq!(db.size(), size);
}

/// Only what the old reader sees is kept from being used again, not all that was freed since.
#[test]
fn an_old_reader_does_not_make_the_file_grow_without_end() {
    let (_dir, db) = db(small_pages());
    put(&db, b"same", b"old");
    let old = db.read().unwrap();
    for n in 0..20u32 {
        put(&db, b"same", &n.to_be_bytes());
    }
    let size = db.size();
    for n in 0..300u32 {
        let short = db.read().unwrap();
        put(&db, b"same", &n.to_be_bytes());
        drop(short);
    }
    assert_eq!(db.size(), size);
    assert_eq!(
        old.bucket(b"b").unwrap().unwrap().get(b"same").unwrap(),
        Some(&b"old"[..])
    );
}

#[test]
fn a_cloned_reader_keeps_its_state_until_the_last_clone_goes() {
    let (_dir, db) = db(small_pages());
    put(&db, b"k", b"1");
    let first = db.read().unwrap();
    let second = first.clone();
    assert_eq!(db.stats().open_readers, 1);
    put(&db, b"k", b"2");
    drop(first);
    put(&db, b"k", b"3");
    assert!(db.stats().pending_pages > 0);
    assert_eq!(
        second.bucket(b"b").unwrap().unwrap().get(b"k").unwrap(),
        Some(&b"1"[..])
    );
    drop(second);
    put(&db, b"k", b"4");
    assert_eq!((db.stats().open_readers, db.stats().pending_pages), (0, 0));
}

#[test]
fn the_copy_is_the_state_of_the_reader_with_its_number_in_the_first_meta() {
    let (dir, db) = db(small_pages());
    for n in 0..100u32 {
        put(&db, &n.to_be_bytes(), &[n as u8; 200]);
    }
    let tx = db.read().unwrap();
    let expected = content(&tx).unwrap();
    put(&db, b"later", b"x");
    let mut bytes = Vec::new();
    assert_eq!(tx.write_to(&mut bytes).unwrap(), tx.size());
    let txid = |page: usize| {
        let at = page * 1024 + 16 + 48;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    assert_eq!((txid(0), txid(1)), (tx.id(), tx.id() - 1));
    let mut piecewise = Vec::new();
    let mut buf = [0; 333];
    loop {
        let n = tx.copy_chunk(piecewise.len() as u64, &mut buf).unwrap();
        if n == 0 {
            break;
        }
        piecewise.extend_from_slice(&buf[..n]);
    }
    // Nothing was committed between the two, so that even unused pages are equal.
    assert_eq!(piecewise, bytes);
    let copy = dir.path().join("copy");
    std::fs::write(&copy, &bytes).unwrap();
    let copy = open(&copy, small_pages());
    assert_eq!(content(&copy.read().unwrap()).unwrap(), expected);
    put(&copy, b"more", b"x");
    assert_sound(&copy.read().unwrap());
    drop(db);
}

#[test]
fn a_write_transaction_waits_for_the_one_before() {
    let (_dir, db) = db(small_pages());
    let first = db.write().unwrap();
    let waiting = std::thread::scope(|scope| {
        let second = scope.spawn(|| db.write().unwrap().commit().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let waiting = !second.is_finished();
        drop(first);
        second.join().unwrap();
        waiting
    });
    assert!(waiting);
}

#[test]
fn nothing_to_commit_writes_nothing() {
    let (_dir, db) = db(small_pages());
    put(&db, b"k", b"v");
    let before = db.stats();
    let mut tx = db.write().unwrap();
    assert!(
        !tx.bucket(b"b")
            .unwrap()
            .unwrap()
            .delete(b"missing")
            .unwrap()
    );
    let stats = tx.commit().unwrap();
    assert_eq!((stats.txid, stats.pages), (before.txid, 0));
    assert_eq!(db.stats(), before);
}

#[test]
fn closing_refuses_what_comes_later_and_leaves_readers_alone() {
    let (dir, db) = db(small_pages());
    put(&db, b"k", b"v");
    let tx = db.read().unwrap();
    let other = db.clone();
    db.close().unwrap();
    assert!(matches!(other.read(), Err(Error::Closed)));
    assert!(matches!(other.write(), Err(Error::Closed)));
    assert_eq!(
        tx.bucket(b"b").unwrap().unwrap().get(b"k").unwrap(),
        Some(&b"v"[..])
    );
    // The lock is free again.
    let again = open(
        &dir.path().join("db"),
        Options {
            lock_timeout: Some(Duration::ZERO),
            ..small_pages()
        },
    );
    assert_eq!(
        content(&again.read().unwrap()).unwrap(),
        content(&tx).unwrap()
    );
}

#[test]
fn the_lock_excludes_a_second_writer_and_lets_readers_share() {
    let (dir, db) = db(small_pages());
    let path = dir.path().join("db");
    let soon = Some(Duration::from_millis(60));
    let options = Options {
        lock_timeout: soon,
        ..small_pages()
    };
    let reading = Options {
        read_only: true,
        ..options.clone()
    };
    let try_open = |options: &Options| Db::open(Arc::new(RealFs), &path, options.clone());
    assert!(matches!(try_open(&options), Err(Error::Timeout)));
    assert!(matches!(try_open(&reading), Err(Error::Timeout)));
    drop(db);
    let one = try_open(&reading).unwrap();
    let _two = try_open(&reading).unwrap();
    assert!(matches!(try_open(&options), Err(Error::Timeout)));
    assert!(matches!(one.write(), Err(Error::ReadOnly)));
}

#[test]
fn opening_a_missing_file_for_reading_fails_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options {
        read_only: true,
        ..small_pages()
    };
    assert!(matches!(
        Db::open(Arc::new(RealFs), &path, options),
        Err(Error::Io { .. })
    ));
    assert!(!path.exists());
}

#[test]
fn a_damaged_newer_meta_page_falls_back_to_the_older_state() {
    let (dir, db) = db(small_pages());
    put(&db, b"k", b"1");
    let expected = content(&db.read().unwrap()).unwrap();
    put(&db, b"k", b"2");
    let newer = db.stats().txid % 2;
    db.close().unwrap();
    let path = dir.path().join("db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[newer as usize * 1024 + 16 + 50] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let db = open(&path, small_pages());
    assert_eq!(content(&db.read().unwrap()).unwrap(), expected);
    put(&db, b"k", b"3");
    db.close().unwrap();
    bytes[16 + 50] ^= 1;
    bytes[1024 + 16 + 4] ^= 4;
    bytes[(1 - newer) as usize * 1024 + 16 + 50] ^= 2;
    std::fs::write(&path, &bytes).unwrap();
    assert!(Db::open(Arc::new(RealFs), &path, small_pages()).is_err());
}

/// The page size is found by the second meta page when the first one is gone.
#[test]
fn the_page_size_comes_from_the_file() {
    for page_size in [1024, 4096, 16384, 65536] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = open(
            &path,
            Options {
                page_size,
                ..small_pages()
            },
        );
        put(&db, b"k", b"1");
        put(&db, b"k", b"2");
        let expected = content(&db.read().unwrap()).unwrap();
        db.close().unwrap();
        let db = open(&path, small_pages());
        assert_eq!(db.page_size(), page_size);
        let meta_1_is_newest = db.stats().txid % 2 == 1;
        db.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..100].fill(0xAA);
        std::fs::write(&path, &bytes).unwrap();
        let db = open(&path, small_pages());
        assert_eq!(db.page_size(), page_size);
        if meta_1_is_newest {
            assert_eq!(content(&db.read().unwrap()).unwrap(), expected);
        }
    }
}

/// What etcd's own options give: a fresh file has the size that etcd's has.
#[test]
fn a_fresh_file_has_the_length_that_gos_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options {
        page_size: 4096,
        initial_mmap: 10 << 30,
        no_sync: true,
        ..Options::default()
    };
    let db = open(&path, options);
    put(&db, b"k", b"v");
    // (high water + 1) pages and 16 MiB.
    let expected = db.size() + 4096 + (16 << 20);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), expected);
}

/// The bytes of small buckets are those that etcd writes: inline pages in the root leaf.
#[test]
fn small_buckets_are_inline_byte_for_byte() {
    let (dir, db) = db(small_pages());
    let mut tx = db.write().unwrap();
    tx.create_bucket(b"alarm").unwrap();
    tx.create_bucket(b"cluster")
        .unwrap()
        .put(b"clusterVersion", b"3.7.0")
        .unwrap();
    tx.commit().unwrap();
    drop(db);
    let bytes = std::fs::read(dir.path().join("db")).unwrap();
    let contains = |hex: &str| {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let wanted: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    // "alarm" and its value.
    assert!(contains(
        "616c61726d 00000000000000000000000000000000 0000000000000000 0200 0000 00000000"
    ));
    // The value of "cluster": header, inline page, one element, its data.
    assert!(contains(
        "00000000000000000000000000000000 0000000000000000 0200 0100 00000000 \
         00000000 10000000 0e000000 05000000 636c757374657256657273696f6e332e372e30"
    ));
}

#[test]
fn keys_and_values_have_limits() {
    let (_dir, db) = db(small_pages());
    let mut tx = db.write().unwrap();
    assert!(matches!(
        tx.create_bucket(b"").map(drop),
        Err(Error::BucketNameRequired)
    ));
    let mut bucket = tx.create_bucket(b"b").unwrap();
    assert!(matches!(bucket.put(b"", b""), Err(Error::KeyRequired)));
    let long = vec![1; bbolt::MAX_KEY_LEN + 1];
    assert!(matches!(bucket.put(&long, b""), Err(Error::KeyTooLarge)));
    bucket.put(&long[1..], b"").unwrap();
    bucket.put(b"big", &vec![3; 3 << 20]).unwrap();
    tx.commit().unwrap();
    let tx = db.read().unwrap();
    assert_sound(&tx);
    let bucket = tx.bucket(b"b").unwrap().unwrap();
    assert_eq!(bucket.get(&long[1..]).unwrap(), Some(&b""[..]));
    assert_eq!(bucket.get(b"big").unwrap().unwrap().len(), 3 << 20);
}

#[test]
fn split_keys_cut_a_bucket_into_similar_parts() {
    let (_dir, db) = db(small_pages());
    let mut tx = db.write().unwrap();
    let mut bucket = tx.create_bucket(b"b").unwrap();
    for n in 0..5000u32 {
        bucket.put(&n.to_be_bytes(), &[0; 50]).unwrap();
    }
    tx.commit().unwrap();
    let tx = db.read().unwrap();
    let bucket = tx.bucket(b"b").unwrap().unwrap();
    let keys = bucket.split_keys(4).unwrap();
    assert_eq!(keys.len(), 3);
    let mut last = 0;
    for key in &keys {
        let n = u32::from_be_bytes((*key).try_into().unwrap());
        assert!((600..2500).contains(&(n - last)), "{keys:?}");
        last = n;
    }
    assert!(bucket.split_keys(1).unwrap().is_empty());
}

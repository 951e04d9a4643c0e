//! Times the engine on a file in the current directory (or in the one given): `cargo bench -p bbolt`.
//! `interop/bin/boltcheck bench FILE N` times Go's on the same load.
#![allow(clippy::disallowed_methods)] // a clock is what it is about

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bbolt::{Db, Options};
use disk::RealFs;

const COUNT: u64 = 100_000;
const BATCH: u64 = 5_000;

fn main() {
    let dir = std::env::args()
        .nth(1)
        .filter(|a| !a.starts_with('-'))
        .map_or(PathBuf::from("."), PathBuf::from);
    let dir = tempfile::tempdir_in(dir).expect("a directory for the files");
    for (name, no_sync) in [("synced", false), ("not synced", true)] {
        for (order, random) in [("ascending", false), ("random", true)] {
            let path = dir.path().join(format!("{order}-{no_sync}"));
            let options = Options {
                no_sync,
                initial_mmap: 1 << 30,
                ..Options::default()
            };
            let db = Db::open(Arc::new(RealFs), &path, options).expect("open");
            let took = fill(&db, random);
            println!(
                "{COUNT} {order} puts, {name}: {took} ns/put, {} bytes",
                db.size()
            );
            single(&db);
            scan(&db);
            drop(db);
            let started = Instant::now();
            let db = Db::open(Arc::new(RealFs), &path, Options::default()).expect("open");
            println!("  open: {:?}", started.elapsed());
            let started = Instant::now();
            let findings = db.read().expect("read").check();
            println!(
                "  check: {:?}, {} findings",
                started.elapsed(),
                findings.len()
            );
        }
    }
}

/// A revision-like key; a bijection on numbers gives random order.
fn key(n: u64, random: bool) -> [u8; 17] {
    let n = if random {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    } else {
        n
    };
    let mut key = *b"12345678_12345678";
    key[..8].copy_from_slice(&n.to_be_bytes());
    key
}

fn fill(db: &Db, random: bool) -> u64 {
    let value = [7; 256];
    let started = Instant::now();
    for batch in 0..COUNT / BATCH {
        let mut tx = db.write().expect("write");
        let mut bucket = tx.create_bucket_if_missing(b"key").expect("bucket");
        if !random {
            bucket.set_fill_percent(0.9);
        }
        for n in batch * BATCH..(batch + 1) * BATCH {
            bucket.put(&key(n, random), &value).expect("put");
        }
        let stats = tx.commit().expect("commit");
        if batch == 10 {
            println!("  {stats:?}");
        }
    }
    started.elapsed().as_nanos() as u64 / COUNT
}

fn single(db: &Db) {
    let started = Instant::now();
    for n in 0..100 {
        let mut tx = db.write().expect("write");
        let mut bucket = tx.bucket(b"key").expect("bucket").expect("bucket");
        bucket
            .put(&key(COUNT * 2 + n, false), &[1; 256])
            .expect("put");
        tx.commit().expect("commit");
    }
    println!("  commit of one put: {:?}", started.elapsed() / 100);
}

fn scan(db: &Db) {
    let tx = db.read().expect("read");
    let started = Instant::now();
    let mut cursor = tx.bucket(b"key").expect("bucket").expect("bucket").cursor();
    let mut item = cursor.first().expect("first");
    let (mut count, mut bytes) = (0, 0);
    while let Some((key, value)) = item {
        count += 1;
        bytes += key.len() + value.map_or(0, <[u8]>::len);
        item = cursor.next().expect("next");
    }
    println!(
        "  scan of {count} keys, {bytes} bytes: {:?}",
        started.elapsed()
    );
}

//! Rough speed of the store by itself: `cargo run --release -p mvcc --example speed [keys] [value bytes]`.
//!
//! Not a test: numbers mean something only side by side on one machine.

#![allow(clippy::disallowed_methods)] // It measures time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend::Position;
use disk::RealFs;
use mvcc::{Config, RangeOptions, Restored};

struct Store {
    backend: Arc<backend::Backend>,
    log: backend::Writer,
    restored: Restored,
    index: u64,
}

fn open(dir: &Path) -> Store {
    let (backend, log) =
        backend::open(Arc::new(RealFs), backend::Config::new(dir.join("db"))).unwrap();
    let start = Instant::now();
    let restored = mvcc::open(backend.clone(), Config::default()).unwrap();
    println!("restore                     {:>10.1?}", start.elapsed());
    let index = backend.position().map_or(0, |position| position.index);
    Store {
        backend,
        log,
        restored,
        index,
    }
}

/// CPU time of this thread: other load on the machine disturbs it less than the clock on the wall.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn report(what: &str, count: usize, since: Duration) {
    let nanos = cpu().saturating_sub(since).as_nanos() / count as u128;
    println!("{what:<32} {nanos:>8} ns CPU each");
}

fn key(i: usize) -> String {
    format!(
        "/registry/pods/namespace-{:03}/pod-{:08}",
        i % 100,
        i.wrapping_mul(7_919) % 10_000_000
    )
}

fn put_all(store: &mut Store, keys: usize, value: &[u8], what: &str) {
    let start = cpu();
    for i in 0..keys {
        let mut txn = store.restored.writer.begin(&mut store.log);
        txn.put(key(i), value, 0);
        txn.finish();
        store.index += 1;
        store.log.end_entry(Position {
            index: store.index,
            term: 1,
        });
    }
    report(what, keys, start);
}

fn read(store: &Store, keys: usize, what: &str) {
    let reader = &store.restored.store;
    let start = cpu();
    let mut bytes = 0;
    for i in 0..keys {
        let result = reader
            .range(key(i).as_bytes(), b"", &RangeOptions::default())
            .unwrap();
        bytes += result.kvs[0].encoded().len();
    }
    report(&format!("get {what}"), keys, start);
    for limit in [0, 500] {
        let start = cpu();
        let mut count = 0;
        for namespace in 0..100 {
            let prefix = format!("/registry/pods/namespace-{namespace:03}");
            let options = RangeOptions {
                limit,
                ..RangeOptions::default()
            };
            let result = reader
                .range(
                    format!("{prefix}/").as_bytes(),
                    format!("{prefix}0").as_bytes(),
                    &options,
                )
                .unwrap();
            count += result.kvs.len();
        }
        report(&format!("listed pair {what}, limit {limit}"), count, start);
    }
    let start = cpu();
    let options = RangeOptions {
        count_only: true,
        ..RangeOptions::default()
    };
    for i in 0..10_000 {
        bytes += reader
            .range(key(i).as_bytes(), b"\0", &options)
            .unwrap()
            .count as usize;
    }
    report("count to the end", 10_000, start);
    assert!(bytes > 0);
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<usize>().ok());
    let (keys, size) = (
        arguments.next().unwrap_or(300_000),
        arguments.next().unwrap_or(512),
    );
    let dir = tempfile::tempdir().unwrap();
    let value = vec![b'v'; size];
    {
        let mut store = open(dir.path());
        put_all(&mut store, keys, &value, "put of a new key");
        read(&store, keys, "from memory");
        put_all(&mut store, keys, &value, "put of an old key");
        let start = Instant::now();
        store.backend.flush().unwrap();
        println!("flush of the rest           {:>10.1?}", start.elapsed());
    }
    let store = open(dir.path());
    read(&store, keys, "from the file");
    let start = Instant::now();
    store.restored.store.hash_kv(0).unwrap();
    println!("HashKV                      {:>10.1?}", start.elapsed());
    let start = Instant::now();
    store.backend.defrag().unwrap();
    println!("defrag                      {:>10.1?}", start.elapsed());
}

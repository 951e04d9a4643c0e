//! Random requests of the raw gRPC API, sent to our server and to real etcd 3.7.
//!
//! `STELE_SEED=n` plays one seed instead of the fixed ones, `STELE_REQUESTS=n` changes their number,
//! `STELE_LONG=1` plays many new seeds.

#![allow(clippy::disallowed_methods)]

use testkit::interop::{self, Version};
use testkit::{grpc, need, own};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seeds: impl IntoIterator<Item = u64>) {
    let theirs = need!(interop::etcd(Version::V37));
    let ours = own::etcd();
    let count = number("STELE_REQUESTS").unwrap_or(400) as usize;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in seeds {
        let found = runtime.block_on(grpc::run(&ours, &theirs, seed, count));
        if let Some(mismatch) = found {
            panic!("seed {seed} (left: ours, right: real etcd): {mismatch}");
        }
    }
}

#[test]
fn random_requests_are_answered_alike_1() {
    match number("STELE_SEED") {
        Some(seed) => play([seed]),
        None => play([1]),
    }
}

#[test]
fn random_requests_are_answered_alike_2() {
    if number("STELE_SEED").is_none() {
        play([2]);
    }
}

#[test]
fn new_seeds_in_long_mode() {
    if number("STELE_LONG").is_some() {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        play((0..30).map(|step| now.as_secs() + step));
    }
}

/// The comparison notices a difference and cuts the list down to what it takes to see it.
#[test]
fn a_server_of_another_release_is_told_apart() {
    let (new, old) = (
        need!(interop::etcd(Version::V37)),
        need!(interop::etcd(Version::V36)),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(grpc::run(&new, &old, 3, 60));
    let mismatch = found.expect("3.6 differs from 3.7");
    println!("{mismatch}");
    assert!(mismatch.requests.len() < 20, "{mismatch}");
}

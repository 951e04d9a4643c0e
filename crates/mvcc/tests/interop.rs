//! Databases of real etcd: what its HashKV answers, ours answers, before and after each of the two compacted.

#![allow(clippy::disallowed_methods)] // Tests are at the edge.

mod common;

use std::path::Path;

use common::{Member, real};
use mvcc::{Config, RangeOptions};
use testkit::grpc::Clients;
use testkit::interop::{self, Version};
use testkit::{Builder, Server, need};

/// Puts, deletions, new lives of keys, leases, transactions of several changes.
async fn fill(clients: &mut Clients, rounds: std::ops::Range<i32>) {
    clients.grant(77, 10_000).await.ok();
    for round in rounds {
        for key in 0..25 {
            clients
                .put(
                    &format!("key{key:02}"),
                    &format!("{round}-{}", "v".repeat(key * 7)),
                )
                .await
                .unwrap();
        }
        for key in (round % 3..25).step_by(4) {
            clients.delete(&format!("key{key:02}")).await.unwrap();
        }
        let request = api::etcdserverpb::PutRequest {
            key: format!("leased{round}").into(),
            value: "x".into(),
            lease: 77,
            ..Default::default()
        };
        clients.kv.put(request).await.unwrap();
    }
}

/// What the server says about some revisions: hash, compacted revision, number of keys.
async fn ask(clients: &mut Clients, revisions: &[i64]) -> Vec<(i64, u32, i64, i64)> {
    let mut answers = Vec::new();
    for revision in revisions {
        let hash = clients.hash_kv(*revision).await.unwrap();
        let range = api::etcdserverpb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision: *revision,
            count_only: true,
            ..Default::default()
        };
        let count = clients.kv.range(range).await.unwrap().into_inner().count;
        answers.push((*revision, hash.hash, hash.compact_revision, count));
    }
    answers
}

fn ask_ours(member: &Member, revisions: &[i64]) -> Vec<(i64, u32, i64, i64)> {
    let answer = |revision: &i64| {
        let hash = member.store.hash_kv(*revision).unwrap();
        let options = RangeOptions {
            revision: *revision,
            count_only: true,
            ..RangeOptions::default()
        };
        let count = member.store.range(b"\0", b"\0", &options).unwrap().count;
        (*revision, hash.hash, hash.compact_revision, count)
    };
    revisions.iter().map(answer).collect()
}

fn copy_of(server: &Server) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(
        server.data_dir().join("member/snap/db"),
        copy.path().join("db"),
    )
    .unwrap();
    copy
}

fn open(dir: &Path) -> Member {
    Member::open_with(real(), dir, Config::default())
}

fn compare(version: Version) {
    let program = need!(interop::etcd(version));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut server = Builder::new(program)
        .data_dir(home.path().join("data"))
        .start()
        .unwrap();
    let mut clients = runtime.block_on(async { Clients::new(&server.url()) });

    // Never compacted.
    runtime.block_on(fill(&mut clients, 0..6));
    let last = runtime.block_on(clients.revision()).unwrap();
    let revisions = [0, last, last - 1, last / 2, 2, 1];
    let theirs = runtime.block_on(ask(&mut clients, &revisions));
    server.stop();
    let before = copy_of(&server);
    let mut ours = open(before.path());
    assert_eq!(
        ask_ours(&ours, &revisions),
        theirs,
        "{version:?}, not compacted"
    );

    // Both compact: the hash of the compaction, and of what is left.
    server.restart().unwrap();
    let mut clients = runtime.block_on(async { Clients::new(&server.url()) });
    let compacted = last / 2 + 3;
    runtime.block_on(clients.compact(compacted, true)).unwrap();
    ours.compact(compacted).unwrap();
    let stored = ours.store.compaction_hashes()[0];
    let theirs = runtime.block_on(clients.hash_kv(compacted)).unwrap();
    assert_eq!(
        (stored.hash, stored.compact_revision),
        (theirs.hash, theirs.compact_revision),
        "{version:?}"
    );
    let revisions = [last, last - 1, compacted + 1];
    let theirs = runtime.block_on(ask(&mut clients, &revisions));
    assert_eq!(
        ask_ours(&ours, &revisions),
        theirs,
        "{version:?}, compacted by both"
    );
    // A stored hash answers for its own revision only.
    let now = runtime.block_on(clients.hash_kv(0)).unwrap();
    assert_eq!(now.hash, ours.store.hash_kv(0).unwrap().hash, "{version:?}");

    // What they compacted and went on with, opened by us.
    runtime.block_on(fill(&mut clients, 6..8));
    server.stop();
    server.restart().unwrap();
    let mut clients = runtime.block_on(async { Clients::new(&server.url()) });
    let last = runtime.block_on(clients.revision()).unwrap();
    let revisions = [0, last, last - 20, compacted + 1, compacted];
    let theirs = runtime.block_on(ask(&mut clients, &revisions));
    server.stop();
    let after = copy_of(&server);
    let mut ours = open(after.path());
    assert_eq!(
        ask_ours(&ours, &revisions),
        theirs,
        "{version:?}, compacted by them"
    );
    assert_eq!(ours.leases.len(), 8);

    // What we compact and rewrite, opened by them.
    ours.compact(last - 10).unwrap();
    ours.backend.defrag().unwrap();
    let revisions = [0, last, last - 5, last - 10];
    let mine = ask_ours(&ours, &revisions[..3]);
    drop(ours);
    std::fs::copy(
        after.path().join("db"),
        server.data_dir().join("member/snap/db"),
    )
    .unwrap();
    server.restart().unwrap();
    let mut clients = runtime.block_on(async { Clients::new(&server.url()) });
    assert_eq!(
        runtime.block_on(ask(&mut clients, &revisions[..3])),
        mine,
        "{version:?}, compacted by us"
    );
    server.stop();
}

#[test]
fn hashes_agree_with_etcd_3_7() {
    compare(Version::V37);
}

#[test]
fn hashes_agree_with_etcd_3_6() {
    compare(Version::V36);
}

#[test]
fn hashes_agree_with_etcd_3_5() {
    compare(Version::V35);
}

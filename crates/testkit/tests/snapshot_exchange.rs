//! Snapshots taken from one server are restored by the other's tools and served by the other.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

use testkit::grpc::{Clients, KvHash};
use testkit::interop::{self, Version};
use testkit::{Etcdctl, Server, need, own};

/// Keys of several sizes, with history, a lease and a compaction behind them.
async fn fill(clients: &mut Clients) {
    clients.grant(7001, 5000).await.unwrap();
    for round in 0..20 {
        for key in 0..20 {
            let value = format!("{round}-{}", "v".repeat(key * 40));
            clients.put(&format!("key/{key:03}"), &value).await.unwrap();
        }
    }
    clients.delete("key/005").await.unwrap();
    clients.compact(150, true).await.unwrap();
    let request = api::etcdserverpb::PutRequest {
        key: "leased".into(),
        value: "v".into(),
        lease: 7001,
        ..Default::default()
    };
    clients.kv.put(request).await.unwrap();
}

async fn history(clients: &mut Clients) -> Vec<KvHash> {
    let mut hashes = Vec::new();
    for revision in [0, 160, 300] {
        hashes.push(clients.hash_kv(revision).await.unwrap());
    }
    hashes
}

fn restore(etcdutl: &Path, snapshot: &Path, into: &Path, more: &[&str]) {
    let snapshot = snapshot.display().to_string();
    let into = into.display().to_string();
    let mut args = vec![
        "snapshot",
        "restore",
        &snapshot,
        "--data-dir",
        &into,
        "--name=m1",
        "--initial-cluster=m1=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    ];
    args.extend(more);
    Etcdctl::offline(etcdutl).run(args).ok();
}

/// Saves a snapshot of `from`, restores it with the real tool and serves it with `to`.
async fn exchange(from: &Path, to: &Path) {
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let etcdutl = need!(interop::etcdutl(Version::V37));
    let source = Server::fresh(from);
    let mut clients = Clients::new(&source.url());
    fill(&mut clients).await;
    let expected = history(&mut clients).await;

    let tool = source.etcdctl(&etcdctl);
    let said = tool.ok(&["snapshot", "save", "s.db"]);
    assert!(said.contains("Snapshot saved at s.db"), "{said}");
    assert!(said.contains("Server version 3.7.0"), "{said}");
    let snapshot = source.home().join("s.db");
    let status = Etcdctl::offline(&etcdutl)
        .run([
            "snapshot",
            "status",
            snapshot.to_str().unwrap(),
            "-w",
            "json",
        ])
        .ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["revision"], expected[0].revision);
    assert_eq!(status["totalKey"], 20);
    assert_eq!(status["version"], "3.7.0");

    let restored = source.home().join("restored");
    restore(&etcdutl, &snapshot, &restored, &[]);
    let target = Server::builder(to).data_dir(&restored).start().unwrap();
    let mut clients = Clients::new(&target.url());
    assert_eq!(history(&mut clients).await, expected);
    let (_, granted, keys) = clients.time_to_live(7001).await.unwrap();
    assert_eq!((granted, keys), (5000, vec!["leased".to_owned()]));
    let next = clients.put("after", "x").await.unwrap();
    assert_eq!(next, expected[0].revision + 1);
    assert!(
        clients.get("key/001", 140).await.is_err(),
        "compacted before"
    );

    // The way back from a disaster that clients with caches survive: revisions jump and old ones are compacted.
    let bumped = source.home().join("bumped");
    restore(
        &etcdutl,
        &snapshot,
        &bumped,
        &["--bump-revision=1000000", "--mark-compacted"],
    );
    let target = Server::builder(to).data_dir(&bumped).start().unwrap();
    let mut clients = Clients::new(&target.url());
    let (kv, revision) = clients.get("key/001", 0).await.unwrap();
    assert_eq!(kv.unwrap().value, format!("19-{}", "v".repeat(40)));
    assert_eq!(revision, expected[0].revision + 1_000_000);
    let refused = clients.get("key/001", revision - 1).await.unwrap_err();
    assert!(refused.message().contains("compacted"), "{refused}");
}

#[tokio::test]
async fn ours_is_restored_by_real_etcdutl_and_served_by_real_etcd() {
    let real = need!(interop::etcd(Version::V37));
    exchange(&own::etcd(), &real).await;
}

#[tokio::test]
async fn a_real_one_is_served_by_ours() {
    let real = need!(interop::etcd(Version::V37));
    exchange(&real, &own::etcd()).await;
}

#[tokio::test]
async fn ours_is_served_by_ours_again() {
    exchange(&own::etcd(), &own::etcd()).await;
}

/// A raw copy of the database file has no checksum behind it and is taken only when told to.
#[tokio::test]
async fn the_database_file_itself_is_a_snapshot_without_checksum() {
    let etcdutl = need!(interop::etcdutl(Version::V37));
    let real = need!(interop::etcd(Version::V37));
    let mut source = Server::fresh(own::etcd());
    let mut clients = Clients::new(&source.url());
    fill(&mut clients).await;
    let expected = history(&mut clients).await;
    source.stop();
    let db = source.data_dir().join("member/snap/db");
    let refused = source.home().join("refused");
    let output = Etcdctl::offline(&etcdutl).run([
        "snapshot",
        "restore",
        db.to_str().unwrap(),
        "--data-dir",
        refused.to_str().unwrap(),
    ]);
    assert_ne!(output.code, 0);
    assert!(
        output.err().contains("snapshot missing hash"),
        "{}",
        output.err()
    );
    let restored = source.home().join("restored");
    restore(&etcdutl, &db, &restored, &["--skip-hash-check"]);
    let target = Server::builder(real).data_dir(&restored).start().unwrap();
    assert_eq!(history(&mut Clients::new(&target.url())).await, expected);
}

/// A snapshot taken while clients write is one consistent state: the pairs of every transaction are whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_load_is_consistent() {
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let etcdutl = need!(interop::etcdutl(Version::V37));
    let real = need!(interop::etcd(Version::V37));
    let source = Server::fresh(own::etcd());
    let mut ledger = testkit::load::Ledger::default();
    let config = testkit::load::LoadConfig::default();
    let load = testkit::load::Load::start(&source.url(), config, &ledger);
    let tool = source.etcdctl(&etcdctl);
    for number in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let (tool, name) = (tool.clone(), format!("s{number}.db"));
        tokio::task::spawn_blocking(move || tool.ok(&["snapshot", "save", &name]))
            .await
            .unwrap();
    }
    load.stop(&mut ledger).await;
    for number in 0..3 {
        let snapshot = source.home().join(format!("s{number}.db"));
        let restored = source.home().join(format!("restored{number}"));
        restore(&etcdutl, &snapshot, &restored, &[]);
        let target = Server::builder(&real).data_dir(&restored).start().unwrap();
        let mut theirs = Clients::new(&target.url());
        let mut ours = Clients::new(&source.url());
        let then = theirs.hash_kv(0).await.unwrap();
        let now = ours.hash_kv(then.revision).await.unwrap();
        assert_eq!(then, now);
    }
}

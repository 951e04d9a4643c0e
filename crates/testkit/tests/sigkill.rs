//! SIGKILL under load, again and again: nothing that was acknowledged may be missing afterwards.
//!
//! 50 kills by default; `STELE_LONG=1` makes it 1000, `STELE_KILLS=n` any number. Snapshots, compactions and
//! defragmentations run beside the load, so that kills hit them, too.

#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use testkit::grpc::Clients;
use testkit::interop::{self, Version};
use testkit::load::{Ledger, Load, LoadConfig};
use testkit::rng::Rng;
use testkit::{Server, files, need, own};

fn kills() -> usize {
    let given = std::env::var("STELE_KILLS")
        .ok()
        .and_then(|n| n.parse().ok());
    let long = std::env::var_os("STELE_LONG").is_some();
    given.unwrap_or(if long { 1000 } else { 50 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    // Small segments of history between snapshots: several kills per snapshot and the other way round.
    let mut server = Server::builder(own::etcd())
        .args(&["--snapshot-count=300", "--snapshot-catchup-entries=50"])
        .start()
        .unwrap();
    let mut ledger = Ledger::default();
    for kill in 1..=kills() {
        let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
        let mut side = Clients::new(&server.url());
        let (compact, defrag) = (kill % 5 == 0, kill % 7 == 0);
        let revision = ledger.highest() - 20;
        let beside = tokio::spawn(async move {
            if compact && revision > 1 {
                let _ = side.compact(revision, kill % 2 == 0).await;
            }
            if defrag {
                let request = api::etcdserverpb::DefragmentRequest {};
                let _ = side.maintenance.defragment(request).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(rng.between(20, 250) as u64)).await;
        server.kill();
        beside.abort();
        load.stop(&mut ledger).await;
        server
            .restart()
            .unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        let broken = ledger.check(&server.url()).await;
        assert!(broken.is_empty(), "after kill {kill}: {broken:#?}");
    }
    println!("{} writes acknowledged in {} runs", ledger.writes, kills());
    assert!(
        ledger.writes > 10 * kills() as u64,
        "hardly any write was acknowledged"
    );
    same_in_real_etcd(&mut server).await;
}

/// Real etcd, started on a copy of the directory after a last kill, holds the same history.
async fn same_in_real_etcd(server: &mut Server) {
    let mut ours = Clients::new(&server.url());
    let revision = ours.revision().await.unwrap();
    server.kill();
    let real = need!(interop::etcd(Version::V37));
    let copy = server.home().join("copy");
    files::copy_dir(server.data_dir(), &copy);
    let theirs = Server::builder(real).data_dir(copy).start().unwrap();
    server.restart().unwrap();
    let mut ours = Clients::new(&server.url());
    let mut theirs = Clients::new(&theirs.url());
    for back in [0, 1, 5, 15] {
        let (l, r) = (
            ours.hash_kv(revision - back).await.unwrap(),
            theirs.hash_kv(revision - back).await.unwrap(),
        );
        assert_eq!(l, r, "ours and real etcd at revision {}", revision - back);
    }
}

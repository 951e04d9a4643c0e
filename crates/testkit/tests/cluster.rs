//! Members of one cluster, ours alone and beside real releases.

#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::grpc::Clients;
use testkit::interop::{self, Version};
use testkit::{Cluster, need, own, wait};

/// Puts until it works: while leadership moves, requests may fail.
async fn put(clients: &mut Clients, key: &str, value: &str) {
    let start = Instant::now();
    loop {
        match clients.put(key, value).await {
            Ok(_) => return,
            Err(error) => assert!(start.elapsed() < wait::PATIENCE, "put of {key}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A linearizable read through one member.
async fn get(clients: &mut Clients, key: &str) -> String {
    let start = Instant::now();
    loop {
        match clients.get(key, 0).await {
            Ok((kv, _)) => {
                let value = kv.unwrap_or_else(|| panic!("{key} is not there")).value;
                return String::from_utf8(value.to_vec()).unwrap();
            }
            Err(error) => assert!(start.elapsed() < wait::PATIENCE, "get of {key}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes through each running member and reads what it wrote through each other one.
async fn write_and_read(cluster: &Cluster, round: usize) {
    let mut all = cluster.clients();
    for at in 0..all.len() {
        let (key, value) = (format!("k/{round}/{at}"), format!("v{round}.{at}"));
        put(&mut all[at], &key, &value).await;
        for other in &mut all {
            assert_eq!(get(other, &key).await, value);
        }
    }
}

/// All running members have the same history.
async fn same_history(cluster: &Cluster) {
    let hashes = cluster.hashes().await;
    assert!(
        hashes.iter().all(|hash| hash.hash == hashes[0].hash),
        "{hashes:?}"
    );
}

/// A lease is known, timed and renewed through every member.
async fn leases(cluster: &Cluster, id: i64) {
    let mut all = cluster.clients();
    all[0].grant(id, 600).await.unwrap();
    for clients in &mut all {
        let start = Instant::now();
        let (ttl, granted, _) = loop {
            match clients.time_to_live(id).await {
                Ok(answer) => break answer,
                Err(error) => assert!(start.elapsed() < wait::PATIENCE, "{error}"),
            }
        };
        assert!(
            (590..=600).contains(&ttl) && granted == 600,
            "{ttl} of {granted}"
        );
        let request = api::etcdserverpb::LeaseKeepAliveRequest { id };
        let stream = tokio_stream::iter([request]);
        let mut answers = clients
            .lease
            .lease_keep_alive(stream)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);
    }
}

/// What every mix of members must do: serve through all, survive a leader that is killed, and one that stops.
async fn lives(programs: &[PathBuf]) {
    let mut cluster = Cluster::start(programs, &[]);
    write_and_read(&cluster, 0).await;
    leases(&cluster, 77).await;
    same_history(&cluster).await;
    let leader = cluster.leader().await;
    cluster.servers[leader].kill();
    write_and_read(&cluster, 1).await;
    cluster.servers[leader].restart().unwrap();
    write_and_read(&cluster, 2).await;
    same_history(&cluster).await;
    let leader = cluster.leader().await;
    cluster.servers[leader].stop();
    write_and_read(&cluster, 3).await;
    cluster.servers[leader].restart().unwrap();
    write_and_read(&cluster, 4).await;
    same_history(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_ours() {
    lives(&[own::etcd(), own::etcd(), own::etcd()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_ours_and_two_real_ones() {
    let real = need!(interop::etcd(Version::V37));
    lives(&[real.clone(), own::etcd(), real]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_ours_and_a_real_one() {
    let real = need!(interop::etcd(Version::V37));
    lives(&[own::etcd(), own::etcd(), real]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_beside_two_of_3_6() {
    let real = need!(interop::etcd(Version::V36));
    lives(&[own::etcd(), real.clone(), real]).await;
}

/// Every member in turn becomes one of `next`, on its own directory.
async fn replace_all(cluster: &mut Cluster, next: &Path, round: usize) {
    for at in 0..cluster.servers.len() {
        cluster.servers[at].stop();
        cluster.servers[at].restart_as(next).unwrap();
        write_and_read(cluster, round * 10 + at).await;
        same_history(cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_members_are_replaced_in_place_and_back() {
    let real = need!(interop::etcd(Version::V37));
    let mut cluster = Cluster::start(&[&real, &real, &real], &[]);
    write_and_read(&cluster, 0).await;
    replace_all(&mut cluster, &own::etcd(), 1).await;
    replace_all(&mut cluster, &real, 2).await;
}

/// A member that was away for longer than the log reaches gets the whole database.
async fn catches_up_by_snapshot(programs: &[PathBuf], away: usize) {
    let args = ["--snapshot-count=50", "--snapshot-catchup-entries=5"];
    let mut cluster = Cluster::start(programs, &args);
    write_and_read(&cluster, 0).await;
    cluster.servers[away].kill();
    let mut all = cluster.clients();
    for number in 0..400 {
        put(
            &mut all[0],
            &format!("many/{}", number % 90),
            &format!("{number}"),
        )
        .await;
    }
    all[0].grant(55, 600).await.unwrap();
    cluster.servers[away].restart().unwrap();
    write_and_read(&cluster, 1).await;
    let log = cluster.servers[away].log();
    assert!(log.contains("applied snapshot"), "it came by the log");
    same_history(&cluster).await;
    leases(&cluster, 56).await;
    // It still has it after a restart.
    cluster.servers[away].kill();
    cluster.servers[away].restart().unwrap();
    write_and_read(&cluster, 2).await;
    same_history(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_gets_a_snapshot_from_ours() {
    catches_up_by_snapshot(&[own::etcd(), own::etcd(), own::etcd()], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_gets_a_snapshot_from_a_real_one() {
    let real = need!(interop::etcd(Version::V37));
    catches_up_by_snapshot(&[real.clone(), real, own::etcd()], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_one_gets_a_snapshot_from_ours() {
    let real = need!(interop::etcd(Version::V37));
    catches_up_by_snapshot(&[own::etcd(), own::etcd(), real], 2).await;
}

/// A cluster grows from one member to three, the third as a learner first; then its founder is removed.
async fn grows_and_shrinks(founder: &Path, second: &Path, third: &Path) {
    let mut cluster = Cluster::start(&[founder], &["--snapshot-count=50"]);
    write_and_read(&cluster, 0).await;
    cluster.join(0, second, false).await;
    write_and_read(&cluster, 1).await;
    let learner = cluster.join(1, third, true).await;
    let mut clients = Clients::new(&cluster.servers[1].url());
    let request = api::etcdserverpb::MemberPromoteRequest { id: learner };
    let start = Instant::now();
    loop {
        match clients.cluster.member_promote(request).await {
            Ok(_) => break,
            Err(error) => assert!(start.elapsed() < wait::PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    write_and_read(&cluster, 2).await;
    same_history(&cluster).await;
    // The member that was promoted may lead.
    let leader = cluster.leader().await;
    let mut clients = Clients::new(&cluster.servers[leader].url());
    if leader != 2 {
        let request = api::etcdserverpb::MoveLeaderRequest { target_id: learner };
        clients.maintenance.move_leader(request).await.unwrap();
        assert_eq!(cluster.leader().await, 2);
    }
    // The founder goes.
    let request = api::etcdserverpb::StatusRequest {};
    let mut clients = Clients::new(&cluster.servers[0].url());
    let status = clients
        .maintenance
        .status(request)
        .await
        .unwrap()
        .into_inner();
    let id = status.header.unwrap().member_id;
    let mut clients = Clients::new(&cluster.servers[2].url());
    let start = Instant::now();
    let request = api::etcdserverpb::MemberRemoveRequest { id };
    while let Err(error) = clients.cluster.member_remove(request).await {
        assert!(start.elapsed() < wait::PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = cluster.servers[0].wait_exit(wait::PATIENCE);
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    write_and_read(&cluster, 3).await;
    same_history(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_grow_and_shrink() {
    grows_and_shrinks(&own::etcd(), &own::etcd(), &own::etcd()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_real_ones_join_each_other() {
    let real = need!(interop::etcd(Version::V37));
    grows_and_shrinks(&own::etcd(), &real, &own::etcd()).await;
    grows_and_shrinks(&real, &own::etcd(), &real).await;
}

//! A data directory changes hands between our server and real releases, after clean stops and after SIGKILL.
//! At every hand-over history, leases and alarms must be the same.

#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::time::Duration;

use api::etcdserverpb as pb;
use testkit::grpc::{Clients, KvHash};
use testkit::interop::{self, Version};
use testkit::{Etcdctl, Server, need, own, wait};

/// What must be equal before and after a hand-over.
#[derive(Debug, PartialEq)]
struct State {
    hashes: Vec<KvHash>,
    leases: Vec<(i64, i64, Vec<String>)>,
    alarms: Vec<(u64, i32)>,
    members: Vec<(u64, String, Vec<String>)>,
}

async fn state(clients: &mut Clients) -> State {
    let now = clients.hash_kv(0).await.unwrap();
    let mut hashes = vec![now];
    for back in [1, 7, 30] {
        hashes.push(clients.hash_kv(now.revision - back).await.unwrap());
    }
    let request = pb::LeaseLeasesRequest {};
    let listed = clients
        .lease
        .lease_leases(request)
        .await
        .unwrap()
        .into_inner();
    let mut ids: Vec<i64> = listed.leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    let mut leases = Vec::new();
    for id in ids {
        let (_, granted, keys) = clients.time_to_live(id).await.unwrap();
        leases.push((id, granted, keys));
    }
    let request = pb::AlarmRequest::default();
    let alarms = clients
        .maintenance
        .alarm(request)
        .await
        .unwrap()
        .into_inner();
    let request = pb::MemberListRequest { linearizable: true };
    let members = clients
        .cluster
        .member_list(request)
        .await
        .unwrap()
        .into_inner();
    State {
        hashes,
        leases,
        alarms: alarms
            .alarms
            .iter()
            .map(|a| (a.member_id, a.alarm))
            .collect(),
        members: members
            .members
            .into_iter()
            .map(|member| (member.id, member.name, member.peer_urls))
            .collect(),
    }
}

/// Writes of every kind. `round` makes the content of each hand-over different.
async fn work(clients: &mut Clients, round: i64) {
    let lease = 1000 + round;
    clients.grant(lease, 3000 + round).await.unwrap();
    for number in 0..40 {
        let key = format!("k/{:02}", number % 25);
        let request = pb::PutRequest {
            key: key.into(),
            value: format!("{round}/{number}").into(),
            lease: if number % 10 == 0 { lease } else { 0 },
            ..Default::default()
        };
        clients.kv.put(request).await.unwrap();
    }
    clients
        .delete(&format!("k/{:02}", round % 25))
        .await
        .unwrap();
    let put = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: key.to_owned().into(),
            value: format!("round {round}").into(),
            ..Default::default()
        })),
    };
    let request = pb::TxnRequest {
        success: vec![put("t/a"), put("t/b")],
        ..Default::default()
    };
    clients.kv.txn(request).await.unwrap();
    let revision = clients.revision().await.unwrap();
    clients
        .compact(revision - 35, round % 2 == 0)
        .await
        .unwrap();
}

/// Users with their roles. Asking for them is an entry in the log, so this is not part of [`State`].
async fn roles_of_users(clients: &mut Clients) -> Vec<(String, Vec<String>)> {
    let request = pb::AuthUserListRequest {};
    let users = clients.auth.user_list(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    for name in users.users {
        let request = pb::AuthUserGetRequest { name: name.clone() };
        let user = clients.auth.user_get(request).await.unwrap().into_inner();
        found.push((name, user.roles));
    }
    found
}

/// More of what a directory holds: users and roles.
async fn users_and_roles(clients: &mut Clients, round: i64) {
    let user = pb::AuthUserAddRequest {
        name: format!("user{round}"),
        password: "pw".to_owned(),
        ..Default::default()
    };
    clients.auth.user_add(user).await.unwrap();
    let role = pb::AuthRoleAddRequest {
        name: format!("role{round}"),
    };
    clients.auth.role_add(role).await.unwrap();
    let grant = pb::AuthUserGrantRoleRequest {
        user: format!("user{round}"),
        role: format!("role{round}"),
    };
    clients.auth.user_grant_role(grant).await.unwrap();
}

/// Raises or clears an alarm: it is part of the directory, too.
async fn alarm(clients: &mut Clients, raise: bool) {
    let request = pb::AlarmRequest {
        action: if raise { 1 } else { 2 },
        member_id: 77,
        alarm: 1,
    };
    clients.maintenance.alarm(request).await.unwrap();
}

/// The server works, hands the directory over to the next program, which must find everything and go on.
async fn relay(programs: &[&Path], kill: bool, args: &[&str]) {
    relay_with(programs, kill, args, false).await;
}

async fn relay_with(programs: &[&Path], kill: bool, args: &[&str], users: bool) {
    let mut server = Server::builder(programs[0]).args(args).start().unwrap();
    for (round, next) in programs[1..].iter().chain([&programs[0]]).enumerate() {
        let mut clients = Clients::new(&server.url());
        work(&mut clients, round as i64).await;
        if users {
            users_and_roles(&mut clients, round as i64).await;
        }
        alarm(&mut clients, true).await;
        let roles = if users {
            roles_of_users(&mut clients).await
        } else {
            Vec::new()
        };
        let before = state(&mut clients).await;
        assert_eq!(before.alarms, [(77, 1)]);
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server.restart_as(*next).unwrap_or_else(|error| {
            panic!(
                "{} does not start after round {round}: {error}",
                next.display()
            )
        });
        let mut clients = Clients::new(&server.url());
        let after = state(&mut clients).await;
        assert_eq!(before, after, "round {round}, now {}", next.display());
        if users {
            assert_eq!(roles.len(), round + 1);
            assert_eq!(roles, roles_of_users(&mut clients).await);
        }
        alarm(&mut clients, false).await;
    }
}

#[tokio::test]
async fn ours_and_real_3_7_take_turns_after_clean_stops() {
    let real = need!(interop::etcd(Version::V37));
    let ours = own::etcd();
    relay(&[&ours, &real, &ours, &real], false, &[]).await;
}

#[tokio::test]
async fn ours_and_real_3_7_take_turns_after_sigkill() {
    let real = need!(interop::etcd(Version::V37));
    let ours = own::etcd();
    relay(&[&ours, &real, &ours, &real], true, &[]).await;
}

/// With snapshots every few entries: WAL segments are released, `.snap` files written and read.
#[tokio::test]
async fn ours_and_real_3_7_take_turns_with_many_snapshots() {
    let real = need!(interop::etcd(Version::V37));
    let ours = own::etcd();
    let args = ["--snapshot-count=20", "--snapshot-catchup-entries=5"];
    relay(&[&ours, &real, &ours, &real], true, &args).await;
}

#[tokio::test]
async fn ours_and_real_3_7_take_turns_with_users_and_roles() {
    let real = need!(interop::etcd(Version::V37));
    let ours = own::etcd();
    relay_with(&[&ours, &real, &ours, &real], true, &[], true).await;
}

/// A directory of 3.6 is taken over by ours and raised to 3.7.
async fn from_3_6(kill: bool) {
    let old = need!(interop::etcd(Version::V36));
    let real = need!(interop::etcd(Version::V37));
    let mut server = Server::builder(old)
        .args(&["--snapshot-count=50"])
        .start()
        .unwrap();
    let mut clients = Clients::new(&server.url());
    for round in 0..3 {
        work(&mut clients, round).await;
    }
    alarm(&mut clients, true).await;
    let before = state(&mut clients).await;
    for program in [own::etcd(), real, own::etcd()] {
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server.restart_as(&program).unwrap();
        let mut clients = Clients::new(&server.url());
        assert_eq!(state(&mut clients).await, before, "{}", program.display());
        let wanted = ("3.7.0", "storage version after the upgrade");
        wait_for_storage_version(&mut clients, wanted.0).await;
    }
    let mut clients = Clients::new(&server.url());
    alarm(&mut clients, false).await;
    work(&mut clients, 9).await;
}

#[tokio::test]
async fn a_directory_of_3_6_is_taken_over_after_a_clean_stop() {
    from_3_6(false).await;
}

#[tokio::test]
async fn a_directory_of_3_6_is_taken_over_after_sigkill() {
    from_3_6(true).await;
}

async fn wait_for_storage_version(clients: &mut Clients, wanted: &str) {
    let start = std::time::Instant::now();
    loop {
        let status = clients
            .maintenance
            .status(pb::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        if status.storage_version == wanted {
            return;
        }
        assert!(
            start.elapsed() < wait::PATIENCE,
            "storage version is {}, not {wanted}",
            status.storage_version
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `downgrade enable 3.6` makes our directory one that 3.6 can start on.
#[tokio::test]
#[ignore = "the server has no downgrades yet"]
async fn ours_is_downgraded_to_real_3_6_and_comes_back() {
    let old = need!(interop::etcd(Version::V36));
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let mut server = Server::builder(own::etcd())
        .args(&["--snapshot-count=50"])
        .start()
        .unwrap();
    let mut clients = Clients::new(&server.url());
    for round in 0..3 {
        work(&mut clients, round).await;
    }
    let tool = server.etcdctl(&etcdctl);
    tool.ok(&["downgrade", "validate", "3.6"]);
    tool.ok(&["downgrade", "enable", "3.6"]);
    wait_for_storage_version(&mut clients, "3.6.0").await;
    let before = state(&mut clients).await;
    server.stop();
    server.restart_as(&old).unwrap();
    let mut clients = Clients::new(&server.url());
    assert_eq!(state(&mut clients).await, before);
    work(&mut clients, 5).await;
    let before = state(&mut clients).await;
    server.stop();
    server.restart_as(own::etcd()).unwrap();
    let mut clients = Clients::new(&server.url());
    assert_eq!(state(&mut clients).await, before);
    work(&mut clients, 6).await;
}

/// The offline way: `etcdutl migrate`.
#[tokio::test]
async fn ours_is_migrated_offline_to_3_6() {
    let old = need!(interop::etcd(Version::V36));
    let etcdutl = need!(interop::etcdutl(Version::V37));
    let mut server = Server::builder(own::etcd())
        .args(&["--snapshot-count=20"])
        .start()
        .unwrap();
    let mut clients = Clients::new(&server.url());
    for round in 0..3 {
        work(&mut clients, round).await;
    }
    let before = state(&mut clients).await;
    server.stop();
    let dir = server.data_dir().display().to_string();
    let migrate = |version: &str| {
        let tool = Etcdctl::offline(&etcdutl);
        tool.run(["migrate", "--data-dir", &dir, "--target-version", version])
    };
    let output = migrate("3.6");
    // The WAL still holds the entry that set the cluster version to 3.7 unless a snapshot lies behind it.
    if output.code != 0 {
        assert!(
            output.err().contains("cannot downgrade storage"),
            "{}",
            output.err()
        );
        println!("not migrated: {}", output.err());
        return;
    }
    let refused = server.restart_as(&old);
    if let Err(error) = refused {
        // The cluster version in the database stays 3.7: 3.6 says so and stops. Migrating back must work.
        let log = server.log();
        assert!(
            log.contains("lower than determined cluster version"),
            "{error}"
        );
        migrate("3.7").ok();
        server.restart_as(own::etcd()).unwrap();
    }
    assert_eq!(state(&mut Clients::new(&server.url())).await, before);
}

/// 3.5 writes requests of the v2 API into its log, on which real 3.7 stops; ours takes the directory over.
#[tokio::test]
async fn a_directory_of_3_5_is_taken_over() {
    let old = need!(interop::etcd(Version::V35));
    if own::is_real() {
        println!("skipped: real etcd 3.7 cannot do this");
        return;
    }
    for kill in [false, true] {
        let mut server = Server::builder(&old)
            .args(&["--snapshot-count=60"])
            .start()
            .unwrap();
        let mut clients = Clients::new(&server.url());
        for round in 0..3 {
            work(&mut clients, round).await;
        }
        alarm(&mut clients, true).await;
        let before = state(&mut clients).await;
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        server.restart_as(own::etcd()).unwrap();
        let mut clients = Clients::new(&server.url());
        assert_eq!(state(&mut clients).await, before, "killed: {kill}");
        alarm(&mut clients, false).await;
        work(&mut clients, 8).await;
    }
}

//! Starts from directories that a crash, an operator or another release left behind.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use api::etcdserverpb as pb;
use auth::AuthOp;
use backend::Bucket;
use bytes::Bytes;
use disk::{Fs, RealFs};

use super::boot::{Boot, BootOptions, Observers, boot};
use super::launch::{LaunchOptions, Running, launch};
use super::observe::DiskObserver;
use super::{DataDir, SERVER_VERSION, StartError};
use crate::core::applier::Event;
use crate::frontend::Caller;
use crate::metrics::Metrics;

fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

fn options(dir: &Path) -> BootOptions {
    BootOptions {
        name: "m1".into(),
        data_dir: dir.to_path_buf(),
        wal_dir: None,
        initial_cluster: "m1=http://127.0.0.1:2380".into(),
        initial_cluster_token: "token".into(),
        existing: false,
        dial_timeout: Duration::from_secs(1),
        initial_advertise_peer_urls: vec![gotext::Url::parse("http://127.0.0.1:2380").unwrap()],
        quota_backend_bytes: 0,
        backend_batch_limit: 0,
        backend_batch_interval: Duration::ZERO,
        bootstrap_defrag_threshold_bytes: 0,
        max_learners: 1,
        unsafe_no_fsync: true,
        memory_mlock: false,
    }
}

fn launch_options() -> LaunchOptions {
    LaunchOptions {
        name: "m1".into(),
        advertise_client_urls: vec!["http://127.0.0.1:2379".into()],
        advertise_peer_urls: vec!["http://127.0.0.1:2380".into()],
        initial_election_tick_advance: true,
        strict_reconfig_check: true,
        heartbeat: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        pre_vote: true,
        max_request_bytes: 1 << 20,
        max_txn_ops: 128,
        quota_backend_bytes: 0,
        snapshot_count: 10_000,
        snapshot_catchup_entries: 5000,
        max_snapshots: 5,
        max_wals: 5,
        compaction_batch_limit: 1000,
        compaction_sleep: Duration::ZERO,
        lease_checkpoint: false,
        auto_compaction: None,
        auth_token: "simple".into(),
        auth_token_ttl: Duration::from_mins(5),
        bcrypt_cost: 4,
    }
}

fn observers(events: &Sender<Event>) -> Observers {
    let observer = DiskObserver::new(events.clone());
    Observers {
        backend: observer.clone(),
        wal: observer,
    }
}

fn try_boot(dir: &Path) -> Result<Boot, StartError> {
    boot(&real(), &options(dir), &observers(&channel().0))
}

fn refused(dir: &Path) -> String {
    let error = try_boot(dir).err().expect("the start must be refused");
    assert_eq!(error.exit_code(), 1);
    error.cause().to_owned()
}

struct Started {
    running: Running,
    events: Receiver<Event>,
}

/// A member as the program starts it, once it has published itself.
fn start_with(dir: &Path, launching: &LaunchOptions) -> Started {
    let (sender, events) = channel();
    let boot = boot(&real(), &options(dir), &observers(&sender)).unwrap();
    let metrics = Arc::new(Metrics::new(SERVER_VERSION, boot.member_id));
    let running = launch(boot, launching, &metrics, &sender).unwrap();
    let event = events.recv_timeout(Duration::from_secs(10));
    assert!(matches!(event, Ok(Event::Published)), "{event:?}");
    Started { running, events }
}

fn start(dir: &Path) -> Started {
    start_with(dir, &launch_options())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(work)
}

impl Started {
    fn put(&self, key: &str) -> i64 {
        let request = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: "v".into(),
            ..Default::default()
        };
        let answer = run(self.running.member.put(&Caller::Nobody, request)).unwrap();
        answer.header.unwrap().revision
    }

    fn has(&self, key: &str) -> bool {
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        run(self.running.member.range(&Caller::Nobody, request))
            .unwrap()
            .count
            == 1
    }

    fn stop(self) {
        self.running.stop();
        let unexpected = self.events.try_iter().next();
        assert!(unexpected.is_none(), "{unexpected:?}");
    }
}

/// Directories are copied as they are while a member runs: what a process that is killed leaves.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Snapshots are written in the background; the record in the log follows the file.
fn await_snapshot(dirs: &DataDir) {
    for _ in 0..1000 {
        let known = wal::valid_snapshots(&RealFs, &dirs.wal).unwrap();
        if known.last().is_some_and(|snapshot| snapshot.index > 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no snapshot was taken");
}

#[test]
fn a_member_founded_once_more_after_a_crash_between_log_and_first_entries() {
    let home = tempfile::tempdir().unwrap();
    let dirs = DataDir::new(home.path(), None);
    let boot = try_boot(home.path()).unwrap();
    let ids = (boot.member_id, boot.cluster_id);
    boot.backend.close().unwrap();
    drop(boot);
    // The log with nothing but its head, as Wal::create leaves it.
    let metadata = api::etcdserverpb::Metadata {
        node_id: ids.0,
        cluster_id: ids.1,
    };
    std::fs::remove_dir_all(&dirs.wal).unwrap();
    let wal = wal::Wal::create(
        real(),
        &dirs.wal,
        &prost::Message::encode_to_vec(&metadata),
        wal::Options::default(),
    );
    drop(wal.unwrap());

    let member = start(home.path());
    assert_eq!(
        (member.running.member.id, member.running.member.cluster_id),
        ids
    );
    assert_eq!(member.put("a"), 2);
    member.stop();
    let member = start(home.path());
    assert!(member.has("a"));
    member.stop();
}

#[test]
fn a_log_that_names_another_cluster_is_not_founded_again() {
    let home = tempfile::tempdir().unwrap();
    let dirs = DataDir::new(home.path(), None);
    dirs.prepare(&RealFs).unwrap();
    // As of a member that was to join a running cluster and stopped before it heard of anybody.
    let metadata = api::etcdserverpb::Metadata {
        node_id: 7,
        cluster_id: 8,
    };
    let metadata = prost::Message::encode_to_vec(&metadata);
    drop(wal::Wal::create(real(), &dirs.wal, &metadata, wal::Options::default()).unwrap());
    let boot = try_boot(home.path()).unwrap();
    assert_eq!((boot.member_id, boot.cluster_id), (7, 8));
    assert!(boot.start.conf_state.voters.is_empty() && boot.start.entries.is_empty());
}

#[test]
fn a_member_killed_before_its_first_commit_replays_the_whole_log() {
    let home = tempfile::tempdir().unwrap();
    let (first, killed) = (home.path().join("first"), home.path().join("killed"));
    let member = start(&first);
    assert_eq!((member.put("a"), member.put("b")), (2, 3));
    copy(&first, &killed);
    member.stop();
    for database in ["missing", "empty"] {
        let db = DataDir::new(&killed, None).db();
        std::fs::remove_file(&db).unwrap();
        if database == "empty" {
            std::fs::write(&db, b"").unwrap();
        }
        let member = start(&killed);
        assert!(member.has("a") && member.has("b"), "{database}");
        assert_eq!(member.running.member.store.current_revision(), 3);
        member.stop();
    }
}

#[test]
fn leftovers_of_an_unfinished_log_directory_do_not_disturb_a_start() {
    let home = tempfile::tempdir().unwrap();
    let dirs = DataDir::new(home.path(), None);
    dirs.prepare(&RealFs).unwrap();
    let unfinished = dirs.member.join("wal.tmp");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(
        unfinished.join("0000000000000000-0000000000000000.wal"),
        "x",
    )
    .unwrap();
    // An empty directory under the real name has no log either.
    std::fs::create_dir_all(&dirs.wal).unwrap();
    let member = start(home.path());
    assert_eq!(member.put("a"), 2);
    member.stop();
    assert!(!unfinished.exists());
}

#[test]
fn a_missing_database_is_refused_when_the_log_begins_at_a_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let few = LaunchOptions {
        snapshot_count: 5,
        ..launch_options()
    };
    let member = start_with(home.path(), &few);
    for number in 0..20 {
        member.put(&format!("k{number}"));
    }
    let dirs = DataDir::new(home.path(), None);
    await_snapshot(&dirs);
    member.stop();
    let kept = home.path().join("kept");
    std::fs::rename(dirs.db(), &kept).unwrap();
    let expected = format!(
        "database file ({}) of the backend is missing",
        dirs.db().display()
    );
    assert_eq!(refused(home.path()), expected);
    // Refused again, and not for another reason: the first attempt left no file behind.
    assert_eq!(refused(home.path()), expected);
    std::fs::rename(&kept, dirs.db()).unwrap();
    let member = start(home.path());
    assert!(member.has("k19"));
    member.stop();
}

#[test]
fn a_database_older_than_the_snapshot_wants_the_received_one() {
    let home = tempfile::tempdir().unwrap();
    let few = LaunchOptions {
        snapshot_count: 2,
        ..launch_options()
    };
    let dirs = DataDir::new(home.path(), None);
    let member = start_with(home.path(), &few);
    let old = home.path().join("old");
    for number in 0..10 {
        member.put(&format!("k{number}"));
    }
    await_snapshot(&dirs);
    member.stop();
    // A database of the same member, but from before everything.
    let config = backend::Config::new(&old);
    backend::open(real(), config).unwrap().0.close().unwrap();
    std::fs::rename(&old, dirs.db()).unwrap();
    let error = try_boot(home.path()).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.message(),
        "failed to recover v3 backend from snapshot"
    );
    let text = error.cause();
    assert!(
        text.starts_with("failed to find database snapshot file ("),
        "{text}"
    );
}

#[test]
fn a_database_without_its_log_is_not_taken_into_a_new_cluster() {
    let home = tempfile::tempdir().unwrap();
    let member = start(home.path());
    member.put("a");
    member.stop();
    std::fs::remove_dir_all(DataDir::new(home.path(), None).wal).unwrap();
    let text = refused(home.path());
    assert!(text.contains("there is no write-ahead log in"), "{text}");
    assert!(!wal::exists(&RealFs, &DataDir::new(home.path(), None).wal));
}

#[test]
fn users_and_what_they_may_do_survive_a_restart_that_replays_the_log() {
    let home = tempfile::tempdir().unwrap();
    let member = start(home.path());
    member.put("a");
    let auth = |op| run(member.running.member.auth(&Caller::Nobody, op)).unwrap();
    auth(AuthOp::UserAdd(pb::AuthUserAddRequest {
        name: "root".into(),
        password: "secret".into(),
        ..Default::default()
    }));
    auth(AuthOp::UserGrantRole(pb::AuthUserGrantRoleRequest {
        user: "root".into(),
        role: "root".into(),
    }));
    auth(AuthOp::Enable(pb::AuthEnableRequest {}));
    member.stop();

    let member = start(home.path());
    let login = |password: &str| {
        run(member.running.member.authenticate(pb::AuthenticateRequest {
            name: "root".into(),
            password: password.into(),
        }))
    };
    assert_eq!(login("wrong"), Err(api::Error::AuthFailed));
    let caller = Caller::Token(login("secret").unwrap().into());
    let read = |caller: &Caller| {
        let request = pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        };
        run(member.running.member.range(caller, request)).map(|answer| answer.count)
    };
    assert_eq!(read(&caller), Ok(1));
    assert_eq!(read(&Caller::Root), Ok(1));
    assert_eq!(read(&Caller::Nobody), Err(api::Error::UserEmpty));
    let forged = Caller::Token("abc.1".into());
    assert_eq!(read(&forged), Err(api::Error::InvalidAuthToken));
    member.stop();
}

#[test]
fn a_restart_after_every_kind_of_entry_finds_the_same_members_and_keys() {
    let home = tempfile::tempdir().unwrap();
    let few = LaunchOptions {
        snapshot_count: 3,
        ..launch_options()
    };
    let mut revision = 1;
    for round in 0..4 {
        let member = start_with(home.path(), &few);
        assert_eq!(member.running.member.store.current_revision(), revision);
        for number in 0..7 {
            revision = member.put(&format!("{round}-{number}"));
        }
        let list = run(member.running.member.member_list(true)).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].client_urls, ["http://127.0.0.1:2379"]);
        member.stop();
    }
}

#[test]
fn a_stop_in_the_middle_of_a_member_change_leaves_members_and_raft_in_agreement() {
    for delay in [0, 0, 200, 1000, 5000] {
        let home = tempfile::tempdir().unwrap();
        let member = start(home.path());
        let learner = cluster::Member {
            id: 5,
            peer_urls: vec!["http://127.0.0.1:1".into()],
            is_learner: true,
            ..cluster::Member::default()
        };
        let change = cluster::Change::Add {
            member: learner,
            as_learner: true,
        };
        let node = &member.running.member.node;
        node.propose_conf_change(change.encode(77)).unwrap();
        for id in 100..120 {
            let put = apply::Op::Put(pb::PutRequest {
                key: "k".into(),
                ..Default::default()
            });
            let data = apply::encode(&apply::Request {
                id,
                username: String::new(),
                auth_revision: 0,
                op: put,
            });
            let proposal = consensus::Proposal { id, data };
            node.propose(vec![proposal]).unwrap();
        }
        std::thread::sleep(Duration::from_micros(delay));
        member.running.stop();
        let boot = try_boot(home.path()).unwrap();
        let stored = boot.backend.get(Bucket::Meta, b"confState").unwrap();
        let members = boot.membership.conf_state();
        assert_eq!(stored.unwrap(), cluster::conf_state_json(&members));
    }
}

#[test]
fn a_read_that_comes_while_a_member_stops_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let member = start(home.path());
    let shared = Arc::clone(&member.running.member);
    member.stop();
    let answer = run(async {
        let put = shared.put(
            &Caller::Nobody,
            pb::PutRequest {
                key: "k".into(),
                ..Default::default()
            },
        );
        let limit = Duration::from_secs(5);
        (
            tokio::time::timeout(limit, put).await,
            tokio::time::timeout(limit, shared.linearizable()).await,
            tokio::time::timeout(limit, shared.lease_renew(&Caller::Nobody, 1)).await,
        )
    });
    assert!(
        matches!(answer.0, Ok(Err(api::Error::Stopped))),
        "{answer:?}"
    );
    assert!(
        matches!(answer.1, Ok(Err(api::Error::Stopped))),
        "{answer:?}"
    );
    assert!(answer.2.is_ok(), "{answer:?}");
}

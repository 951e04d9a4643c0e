//! Together with real etcd: raft over our wire with Go members of three releases, databases both ways, and the other
//! questions members ask.

#![allow(clippy::disallowed_methods)]

mod common;

use std::io::Cursor;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::raftpb::{ConfState, Message, MessageType, Snapshot, SnapshotMetadata};
use bytes::Bytes;
use gotext::Hex;
use peer::{
    HashKvError, LeaseError, Listener, NoObserver, PeerApi, PeerClient, PeerRuntime, PlainAcceptor,
    PlainDialer, SnapshotToSend, Transport,
};
use testkit::grpc::Clients;
use testkit::ports::Port;
use testkit::{Server, Version, need};

use common::{Founder, Member, MemberSink, State, TestApi, log_for_debugging, peer_config, until};

const TOKEN: &str = "peer-test";
const SECOND: Duration = Duration::from_secs(1);

/// A founder of a cluster of Go members and ours.
struct Planned {
    name: &'static str,
    url: String,
    member: cluster::Member,
}

struct Plan {
    members: Vec<Planned>,
    cluster: u64,
}

impl Plan {
    /// Go members `names` on `ports`, and ours at `own_url` as `rust`.
    fn new(go: &[(&'static str, &Port)], own_url: &str) -> Self {
        let mut members: Vec<Planned> = go
            .iter()
            .map(|(name, port)| planned(name, format!("http://127.0.0.1:{}", port.number())))
            .collect();
        members.push(planned("rust", own_url.to_owned()));
        let ids: Vec<u64> = members.iter().map(|planned| planned.member.id).collect();
        Self {
            members,
            cluster: cluster::cluster_id(&ids),
        }
    }

    fn id(&self, name: &str) -> u64 {
        self.planned(name).member.id
    }

    fn planned(&self, name: &str) -> &Planned {
        self.members
            .iter()
            .find(|planned| planned.name == name)
            .unwrap()
    }

    fn initial_cluster(&self) -> String {
        let items: Vec<String> = self
            .members
            .iter()
            .map(|planned| format!("{}={}", planned.name, planned.url))
            .collect();
        items.join(",")
    }

    /// Starts a Go member without waiting: it is not ready before there is a quorum.
    fn go(&self, program: PathBuf, name: &str, more: &[&str]) -> Server {
        let url = &self.planned(name).url;
        Server::builder(program)
            .arg(format!("--name={name}"))
            .arg(format!("--listen-peer-urls={url}"))
            .arg(format!("--initial-advertise-peer-urls={url}"))
            .arg(format!("--initial-cluster={}", self.initial_cluster()))
            .arg(format!("--initial-cluster-token={TOKEN}"))
            .args(more)
            .spawn()
    }

    fn api(&self, cluster_version: &'static str) -> Arc<dyn PeerApi> {
        Arc::new(TestApi {
            members: self
                .members
                .iter()
                .map(|planned| planned.member.clone())
                .collect(),
            cluster_version,
        })
    }

    /// Starts our member.
    fn ours(&self, listener: TcpListener, cluster_version: &'static str) -> Member {
        let mut founders: Vec<Founder> = self
            .members
            .iter()
            .map(|planned| Founder {
                id: planned.member.id,
                url: planned.url.clone(),
                json: planned.member.to_json().into(),
            })
            .collect();
        founders.sort_by_key(|founder| founder.id);
        let config = consensus::Config::new(self.id("rust"));
        Member::start(
            listener,
            self.cluster,
            config,
            &founders,
            self.api(cluster_version),
        )
    }
}

fn planned(name: &'static str, url: String) -> Planned {
    let urls = std::slice::from_ref(&url);
    let member = cluster::Member::new(name, urls, TOKEN, None);
    Planned { name, url, member }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Puts so many keys through a Go member.
fn put(server: &Server, prefix: &str, count: usize) {
    runtime().block_on(async {
        let mut clients = Clients::new(&server.url());
        for number in 0..count {
            clients
                .put(&format!("{prefix}{number}"), "some value")
                .await
                .unwrap();
        }
    });
}

/// How many applied entries of our member contain the text.
fn applied_with(ours: &Member, text: &str) -> usize {
    let data = ours.state.data.lock().unwrap();
    let has = |data: &&Bytes| {
        data.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    data.iter().filter(has).count()
}

/// Moves leadership and waits until both sides see it.
fn lead(ours: &Member, go: &Server, ctl: &testkit::Etcdctl, from: u64, to: u64) {
    until("leadership moves", || {
        let leader = ours.node.status().leader;
        if leader == to {
            return true;
        }
        if leader == ours.id {
            ours.node.transfer_leader(to).unwrap();
        } else if leader == from {
            ctl.run(["move-leader", &Hex(to).to_string()]);
        }
        std::thread::sleep(Duration::from_millis(200));
        false
    });
    put(go, "after-move-", 1);
}

fn works_with(version: Version, cluster_version: &'static str) {
    log_for_debugging();
    let program = need!(testkit::interop::etcd(version));
    let ctl = need!(testkit::interop::etcdctl(version));
    let port = Port::reserve();
    let (listener, own_url) = common::listener();
    let plan = Plan::new(&[("m1", &port)], &own_url);
    let ours = plan.ours(listener, cluster_version);
    let mut go = plan.go(program, "m1", &[]);
    go.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    let ctl = go.etcdctl(ctl);
    let (own_id, go_id) = (ours.id, plan.id("m1"));

    lead(&ours, &go, &ctl, own_id, go_id);
    put(&go, "theirs-", 100);
    until("a Go leader's entries arrive", || {
        applied_with(&ours, "theirs-") == 100
    });
    ask(&plan, &go);

    lead(&ours, &go, &ctl, go_id, own_id);
    put(&go, "ours-", 100);
    until("entries come back to us", || {
        applied_with(&ours, "ours-") == 100
    });
    assert!(
        ctl.ok(&["get", "ours-99"]).contains("some value"),
        "linearizable, by our read index"
    );

    // Both leaders, with streams that break.
    for round in 0..6 {
        if round == 3 {
            lead(&ours, &go, &ctl, own_id, go_id);
        }
        ours.transport.disconnect(go_id);
        put(&go, &format!("round-{round}-"), 5);
    }
    until("all rounds arrive", || applied_with(&ours, "round-") == 30);
    assert!(ours.transport.active_since(go_id).is_some());
    let log = go.log();
    for bad in ["failed to", "panic", "unmarshal", "mismatch"] {
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("rafthttp") && line.contains(bad))
            .filter(|line| !line.contains("failed to dial"))
            .collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
}

/// The questions of one member to another, put to a Go member that leads.
fn ask(plan: &Plan, go: &Server) {
    let runtime = PeerRuntime::start(1).unwrap();
    let client = PeerClient::new(&runtime, Arc::new(PlainDialer), SECOND);
    let url = plan.planned("m1").url.clone();
    let urls = ["http://127.0.0.1:1".to_owned(), url.clone()];
    let cluster = runtime
        .block_on(client.get_members(&urls, SECOND, true))
        .unwrap();
    assert_eq!(cluster.id, plan.cluster);
    let mut ids: Vec<u64> = plan
        .members
        .iter()
        .map(|planned| planned.member.id)
        .collect();
    ids.sort_unstable();
    assert_eq!(
        cluster
            .members
            .iter()
            .map(|member| member.id)
            .collect::<Vec<_>>(),
        ids
    );

    let versions = runtime
        .block_on(client.get_versions(&urls, SECOND))
        .unwrap();
    assert!(versions.server.starts_with("3."), "{versions:?}");
    assert_eq!(
        runtime.block_on(client.downgrade_enabled(&urls, SECOND)),
        Ok(false)
    );

    let hash = runtime
        .block_on(client.hash_kv(&url, plan.cluster, 0, SECOND))
        .unwrap();
    assert!(
        hash.hash != 0 && hash.revision > 100 && hash.compact_revision == -1,
        "{hash:?}"
    );
    let future = runtime.block_on(client.hash_kv(&url, plan.cluster, 1 << 40, SECOND));
    assert_eq!(
        future,
        Err(peer::ForwardError::Answer(HashKvError::FutureRevision))
    );
    assert!(
        runtime
            .block_on(client.hash_kv(&url, 1, 0, SECOND))
            .is_err()
    );

    self::runtime().block_on(async {
        Clients::new(&go.url()).grant(77, 600).await.unwrap();
    });
    assert_eq!(
        runtime.block_on(client.renew_lease(&url, 77, SECOND)),
        Ok(600)
    );
    let missing = runtime.block_on(client.renew_lease(&url, 78, SECOND));
    assert_eq!(missing, Err(LeaseError::NotFound.into()));
    let request = api::etcdserverpb::LeaseTimeToLiveRequest { id: 77, keys: true };
    let left = runtime
        .block_on(client.lease_time_to_live(&url, request, SECOND))
        .unwrap();
    assert_eq!((left.id, left.granted_ttl), (77, 600));
    let voter = runtime.block_on(client.promote(&url, plan.id("rust"), None, SECOND));
    assert!(
        matches!(voter, Err(peer::ForwardError::Answer(_))),
        "{voter:?}"
    );
    let stranger = runtime.block_on(client.promote(&url, 5, None, SECOND));
    assert_eq!(stranger, Err(peer::PromoteError::NotFound.into()));
}

#[test]
fn a_member_of_3_7_follows_and_leads_us() {
    works_with(Version::V37, "3.7.0");
}

#[test]
fn a_member_of_3_6_follows_and_leads_us() {
    works_with(Version::V36, "3.6.0");
}

#[test]
fn a_member_of_3_5_follows_and_leads_us() {
    works_with(Version::V35, "3.5.0");
}

/// The database of a Go leader comes to us whole; sent back, a Go member takes it.
#[test]
fn databases_travel_between_us_and_3_7() {
    log_for_debugging();
    let program = need!(testkit::interop::etcd(Version::V37));
    let ports = [Port::reserve(), Port::reserve()];
    let (listener, own_url) = common::listener();
    let plan = Plan::new(&[("m1", &ports[0]), ("m2", &ports[1])], &own_url);
    let few = ["--snapshot-catchup-entries=10"];
    let mut go1 = plan.go(program.clone(), "m1", &few);
    let mut go2 = plan.go(program, "m2", &few);
    go1.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    go2.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    put(&go1, "before-", 300);

    let ours = plan.ours(listener, "3.7.0");
    until("a database arrives", || {
        !ours.state.files.lock().unwrap().is_empty()
    });
    put(&go1, "later-", 20);
    until("entries follow it", || applied_with(&ours, "later-") == 20);
    assert_eq!(
        applied_with(&ours, "before-0"),
        0,
        "compacted entries came as a database"
    );
    let (index, database) = {
        let files = ours.state.files.lock().unwrap();
        files
            .iter()
            .max()
            .map(|(index, bytes)| (*index, bytes.clone()))
            .unwrap()
    };
    check_database(&database, index);

    // An old snapshot: a member receives and saves it, and raft ignores it.
    for name in ["m1", "m2"] {
        let to = plan.id(name);
        let before = ours.state.snapshots.lock().unwrap().len();
        ours.transport.send_snapshot(SnapshotToSend {
            message: Message {
                r#type: MessageType::MsgSnap as i32,
                to,
                from: ours.id,
                term: 1,
                snapshot: Some(Snapshot {
                    data: Bytes::from_static(b"{}"),
                    metadata: SnapshotMetadata {
                        conf_state: ConfState {
                            voters: vec![ours.id],
                            ..ConfState::default()
                        },
                        index: 1,
                        term: 1,
                    },
                }),
                ..Message::default()
            },
            length: database.len() as u64,
            database: Box::new(Cursor::new(database.clone())),
            hold: Box::new(()),
        });
        until("the transfer ends", || {
            ours.state.snapshots.lock().unwrap().len() > before
        });
        assert_eq!(ours.state.snapshots.lock().unwrap()[before], (to, true));
    }
    for (go, name) in [(&go1, "m1"), (&go2, "m2")] {
        let log = go.log();
        let line = log
            .lines()
            .find(|line| line.contains("received and saved database snapshot"));
        let line = line.unwrap_or_else(|| panic!("{name} received nothing"));
        assert!(
            line.contains(&format!(
                "\"incoming-snapshot-size-bytes\":{}",
                database.len()
            )),
            "{line}"
        );
    }
}

/// It is a sound bbolt file, and its content is that of the index it was sent for.
fn check_database(bytes: &[u8], index: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, bytes).unwrap();
    let options = bbolt::Options {
        read_only: true,
        ..bbolt::Options::default()
    };
    let db = bbolt::Db::open(Arc::new(disk::RealFs), &path, options).unwrap();
    let tx = db.read().unwrap();
    assert!(tx.check().is_empty());
    let meta = tx.bucket(b"meta").unwrap().expect("bucket meta");
    let consistent = meta
        .get(b"consistent_index")
        .unwrap()
        .expect("consistent index");
    assert_eq!(consistent, index.to_be_bytes());
}

/// A Go member joins a cluster it knows only from our answers to `/members`, `/version` and `/downgrade/enabled`, and
/// opens streams to us.
#[test]
fn a_joining_go_member_believes_our_answers() {
    log_for_debugging();
    for version in [Version::V37, Version::V36] {
        let program = need!(testkit::interop::etcd(version));
        let port = Port::reserve();
        let (listener, own_url) = common::listener();
        let mut plan = Plan::new(&[("m1", &port)], &own_url);
        plan.cluster = 0xabc;
        plan.members[1].member.client_urls = vec!["http://127.0.0.1:1".to_owned()];
        plan.members[0].member.name.clear();
        let (own_id, go_id) = (plan.id("rust"), plan.id("m1"));

        let runtime = PeerRuntime::start(1).unwrap();
        let transport = Transport::new(
            &runtime,
            peer_config(own_id, plan.cluster, &own_url),
            Arc::new(PlainDialer),
            Arc::new(NoObserver),
        );
        let state = Arc::new(State::default());
        transport.connect(Arc::new(MemberSink {
            node: std::sync::OnceLock::new(),
            state: Arc::clone(&state),
        }));
        let server = transport.server(plan.api("3.6.0"));
        let listening = transport
            .listen(Listener::Tcp(listener), Arc::new(PlainAcceptor), &server)
            .unwrap();

        let go = plan.go(program, "m1", &["--initial-cluster-state=existing"]);
        until("it starts as a member of our cluster", || {
            go.log().contains("starting local member")
        });
        let start = go.log();
        let line = start
            .lines()
            .find(|line| line.contains("starting local member"))
            .unwrap();
        assert!(
            line.contains(&format!("\"local-member-id\":\"{}\"", Hex(go_id))),
            "{line}"
        );
        assert!(line.contains("\"cluster-id\":\"abc\""), "{line}");
        // Unknown to us so far: its streams are refused for a while.
        std::thread::sleep(Duration::from_millis(300));
        transport.add_peer(go_id, std::slice::from_ref(&plan.planned("m1").url));
        until("both directions stand", || {
            let log = go.log();
            log.contains("\"stream-reader-type\":\"stream MsgApp v2\"")
                && log.matches("established TCP streaming connection").count() >= 4
                && transport.active_since(go_id).is_some()
        });
        // A leader speaks.
        let heartbeat = Message {
            r#type: MessageType::MsgHeartbeat as i32,
            to: go_id,
            from: own_id,
            term: 5,
            ..Message::default()
        };
        transport.send(vec![heartbeat]);
        until("it follows", || {
            go.log()
                .contains(&format!("elected leader {} at term 5", Hex(own_id)))
        });
        transport.stop();
        listening.stop();
        runtime.stop(SECOND);
        drop(go);
    }
}

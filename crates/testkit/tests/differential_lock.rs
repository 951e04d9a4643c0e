//! The Lock and Election services over the raw gRPC API: our server and real etcd 3.7 get the same calls in the same
//! order and must tell the same: answers with their headers, codes, texts, and what is left in the store.

#![allow(clippy::disallowed_methods)]

use std::fmt::Debug;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::v3electionpb::election_client::ElectionClient;
use api::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use api::v3lockpb::lock_client::LockClient;
use api::v3lockpb::{LockRequest, UnlockRequest};
use bytes::Bytes;
use testkit::grpc::Clients;
use testkit::interop::{self, Version};
use testkit::{Server, need, own, wait};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// How long somebody is watched who should wait.
const WHILE: Duration = Duration::from_millis(250);

/// A server, and what it told so far.
struct Side {
    locks: LockClient<Channel>,
    elections: ElectionClient<Channel>,
    clients: Clients,
    told: Vec<String>,
}

/// A call that is not expected to be answered at once.
type Waiter = JoinHandle<String>;

fn show<M: Debug>(result: Result<Response<M>, Status>) -> String {
    match result {
        Ok(response) => format!("{:?}", response.into_inner()),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn leader_key(name: &str, key: &str, rev: i64, lease: i64) -> LeaderKey {
    LeaderKey {
        name: bytes(name),
        key: bytes(key),
        rev,
        lease,
    }
}

impl Side {
    fn new(server: &Server) -> Self {
        let channel = Endpoint::from_shared(server.url()).unwrap().connect_lazy();
        Self {
            locks: LockClient::new(channel.clone()),
            elections: ElectionClient::new(channel),
            clients: Clients::new(&server.url()),
            told: Vec::new(),
        }
    }

    fn tell(&mut self, what: &str, answer: &str) {
        self.told.push(format!("{what} -> {answer}"));
    }

    async fn grant(&mut self, ids: &[i64]) {
        for id in ids {
            self.clients.grant(*id, 300).await.unwrap();
        }
    }

    async fn revoke(&mut self, id: i64) {
        let request = pb::LeaseRevokeRequest { id };
        self.clients.lease.lease_revoke(request).await.unwrap();
    }

    async fn lock(&mut self, name: &str, lease: i64) {
        let name = bytes(name);
        let what = format!("lock {name:?} {lease}");
        let answer = show(self.locks.lock(LockRequest { name, lease }).await);
        self.tell(&what, &answer);
    }

    async fn unlock(&mut self, key: &str) {
        let request = UnlockRequest { key: bytes(key) };
        let answer = show(self.locks.unlock(request).await);
        self.tell(&format!("unlock {key}"), &answer);
    }

    /// Locks in the background; returns when the caller is in line.
    async fn lock_later(&mut self, name: &str, lease: i64) -> Waiter {
        let (mut locks, name_bytes) = (self.locks.clone(), bytes(name));
        let waiter = tokio::spawn(async move {
            let name = name_bytes;
            show(locks.lock(LockRequest { name, lease }).await)
        });
        self.see(&format!("{name}/{lease:x}"), true).await;
        waiter
    }

    async fn campaign(&mut self, name: &str, lease: i64, value: &str) {
        let answer = self.campaign_now(name, lease, value).await;
        self.tell(&format!("campaign {name:?} {lease} {value:.9}"), &answer);
    }

    fn campaign_now(
        &mut self,
        name: &str,
        lease: i64,
        value: &str,
    ) -> impl Future<Output = String> + use<> {
        let mut elections = self.elections.clone();
        let (name, value) = (bytes(name), bytes(value));
        async move {
            let request = CampaignRequest { name, lease, value };
            show(elections.campaign(request).await)
        }
    }

    async fn campaign_later(&mut self, name: &str, lease: i64, value: &str) -> Waiter {
        let waiter = tokio::spawn(self.campaign_now(name, lease, value));
        self.see(&format!("{name}/{lease:x}"), true).await;
        waiter
    }

    async fn proclaim(&mut self, leader: impl Into<Option<LeaderKey>>, value: &str) {
        let leader = leader.into();
        let value = bytes(value);
        let what = format!("proclaim {leader:?} {value:?}");
        let answer = show(
            self.elections
                .proclaim(ProclaimRequest { leader, value })
                .await,
        );
        self.tell(&what, &answer);
    }

    async fn resign(&mut self, leader: impl Into<Option<LeaderKey>>) {
        let leader = leader.into();
        let what = format!("resign {leader:?}");
        let answer = show(self.elections.resign(ResignRequest { leader }).await);
        self.tell(&what, &answer);
    }

    async fn leader(&mut self, name: &str) {
        let request = LeaderRequest { name: bytes(name) };
        let answer = show(self.elections.leader(request).await);
        self.tell(&format!("leader {name}"), &answer);
    }

    /// Waits until a key is there, or is not.
    async fn see(&mut self, key: &str, there: bool) {
        let start = std::time::Instant::now();
        while self.clients.get(key, 0).await.unwrap().0.is_some() != there {
            assert!(start.elapsed() < wait::PATIENCE, "{key}: not {there}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes sure that a call still waits.
    async fn still(&mut self, who: &str, waiter: &Waiter) {
        tokio::time::sleep(WHILE).await;
        self.tell(
            who,
            if waiter.is_finished() {
                "answered"
            } else {
                "waits"
            },
        );
    }

    async fn answer_of(&mut self, who: &str, waiter: Waiter) {
        let answer = tokio::time::timeout(wait::PATIENCE, waiter).await;
        let answer = answer.expect("no answer").unwrap();
        self.tell(who, &answer);
    }

    /// What is in the store.
    async fn store(&mut self) {
        let everything = pb::RangeRequest {
            key: bytes("\0"),
            range_end: bytes("\0"),
            ..Default::default()
        };
        let answer = show(self.clients.kv.range(everything).await);
        self.tell("store", &answer);
    }
}

/// Plays the same to both and compares line by line.
fn same(play: &impl AsyncFn(&mut Side)) {
    let theirs = Server::fresh(need!(interop::etcd(Version::V37)));
    let ours = Server::fresh(own::etcd());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ours, theirs) = runtime.block_on(async {
        let (mut ours, mut theirs) = (Side::new(&ours), Side::new(&theirs));
        tokio::join!(play(&mut ours), play(&mut theirs));
        (ours.told, theirs.told)
    });
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their, "left: ours, right: real etcd");
    }
    assert_eq!(ours.len(), theirs.len());
    if std::env::var_os("STELE_SHOW").is_some() {
        println!("{}", ours.join("\n"));
    }
}

#[test]
fn locks_nobody_else_wants() {
    same(&async |side| {
        side.grant(&[255, -7]).await;
        side.lock("lk", 255).await;
        side.lock("lk", 255).await;
        side.lock("", 255).await;
        side.lock("a/b", -7).await;
        side.lock("\u{e9}", 255).await;
        for lease in [999, -5, i64::MIN] {
            side.lock("lk", lease).await;
        }
        side.store().await;
        side.unlock("lk/ff").await;
        side.unlock("lk/ff").await;
        side.unlock("").await;
        side.unlock("nothing").await;
        side.store().await;
    });
}

#[test]
fn a_caller_without_lease_gets_one() {
    same(&async |side| {
        let request = LockRequest {
            name: bytes("auto"),
            lease: 0,
        };
        let answer = side.locks.lock(request).await.unwrap().into_inner();
        let key = String::from_utf8(answer.key.to_vec()).unwrap();
        side.tell("lock", &format!("{:?}", answer.header));
        let id = i64::from_str_radix(key.strip_prefix("auto/").unwrap(), 16).unwrap();
        let (_, granted, keys) = side.clients.time_to_live(id).await.unwrap();
        side.tell(
            "its lease",
            &format!("{granted} s, {}", keys == [key.as_str()]),
        );
        let request = CampaignRequest {
            name: bytes("e"),
            lease: 0,
            value: bytes("v"),
        };
        let answer = side.elections.campaign(request).await.unwrap().into_inner();
        let leader = answer.leader.unwrap();
        side.tell("campaign", &format!("{:?} {}", answer.header, leader.rev));
        // Even here.
        let without = LeaderKey {
            lease: 0,
            ..leader.clone()
        };
        let request = ProclaimRequest {
            leader: Some(without.clone()),
            value: bytes("w"),
        };
        let answer = show(side.elections.proclaim(request).await);
        side.tell("proclaim", &answer);
        let (_, _, keys) = side.clients.time_to_live(leader.lease).await.unwrap();
        side.tell("keys of the first lease", &format!("{keys:?}"));
        let request = ResignRequest {
            leader: Some(without),
        };
        let answer = show(side.elections.resign(request).await);
        side.tell("resign", &answer);
        let leases = side.clients.lease.lease_leases(pb::LeaseLeasesRequest {});
        let leases = leases.await.unwrap().into_inner().leases.len();
        side.tell("leases", &leases.to_string());
    });
}

#[test]
fn locks_go_from_one_to_the_next() {
    same(&async |side| {
        side.grant(&[1, 2, 3, 4]).await;
        side.lock("l", 1).await;
        let second = side.lock_later("l", 2).await;
        let third = side.lock_later("l", 3).await;
        let fourth = side.lock_later("l", 4).await;
        side.still("second", &second).await;
        side.store().await;
        side.unlock("l/1").await;
        side.answer_of("second", second).await;
        side.still("third", &third).await;
        // Nobody before the fourth but the holder, once the third has gone.
        third.abort();
        side.see("l/3", false).await;
        side.still("fourth", &fourth).await;
        side.store().await;
        side.revoke(2).await;
        side.answer_of("fourth", fourth).await;
        side.store().await;
    });
}

#[test]
fn a_waiter_whose_lease_ends_does_not_get_the_lock() {
    same(&async |side| {
        side.grant(&[1, 2]).await;
        side.lock("l", 1).await;
        let second = side.lock_later("l", 2).await;
        // A key of the same line that is no waiter's.
        side.clients.put("l/other", "x").await.unwrap();
        side.revoke(2).await;
        side.still("second", &second).await;
        side.unlock("l/1").await;
        side.answer_of("second", second).await;
        side.store().await;
    });
}

#[test]
fn a_waiter_out_of_time_leaves_the_line() {
    same(&async |side| {
        side.grant(&[1, 2]).await;
        side.lock("l", 1).await;
        side.campaign("e", 1, "v").await;
        let mut request = Request::new(LockRequest {
            name: bytes("l"),
            lease: 2,
        });
        request.set_timeout(WHILE);
        side.locks.lock(request).await.unwrap_err();
        side.see("l/2", false).await;
        let mut request = Request::new(CampaignRequest {
            name: bytes("e"),
            lease: 2,
            value: bytes("w"),
        });
        request.set_timeout(WHILE);
        side.elections.campaign(request).await.unwrap_err();
        side.see("e/2", false).await;
        side.store().await;
        side.lock("l", 1).await;
    });
}

#[test]
fn elections() {
    same(&async |side| {
        side.grant(&[1, 2, 3]).await;
        side.leader("e").await;
        side.campaign("e", 1, "one").await;
        side.campaign("e", 1, "one").await;
        side.campaign("e", 1, "uno").await;
        side.leader("e").await;
        side.campaign("e", 99, "v").await;
        side.campaign("e", -1, "v").await;
        side.campaign("", 1, "").await;
        side.campaign("big", 1, &"x".repeat(1_600_000)).await;
        side.store().await;
        // Locks and elections share their names.
        let second = side.lock_later("e", 2).await;
        let third = side.campaign_later("e", 3, "three").await;
        side.still("second", &second).await;
        side.resign(leader_key("e", "e/1", 3, 1)).await;
        side.still("second", &second).await;
        side.resign(leader_key("e", "e/1", 2, 1)).await;
        side.answer_of("second", second).await;
        side.leader("e").await;
        side.campaign("e", 2, "two").await;
        side.still("third", &third).await;
        third.abort();
        side.see("e/3", false).await;
        side.store().await;
        let third = side.campaign_later("e", 3, "drei").await;
        let fourth = tokio::spawn(side.campaign_now("e", 3, "vier"));
        side.still("third", &third).await;
        side.still("fourth", &fourth).await;
        side.revoke(2).await;
        side.answer_of("third", third).await;
        side.answer_of("fourth", fourth).await;
        side.leader("e").await;
        side.store().await;
    });
}

#[test]
fn proclaiming_and_resigning() {
    same(&async |side| {
        side.grant(&[1, 2]).await;
        side.campaign("e", 1, "one").await;
        let key = |rev| leader_key("e", "e/1", rev, 1);
        side.proclaim(key(2), "two").await;
        side.proclaim(key(3), "three").await;
        side.proclaim(None::<LeaderKey>, "v").await;
        side.proclaim(LeaderKey::default(), "v").await;
        side.proclaim(leader_key("e", "", 2, 1), "v").await;
        side.proclaim(leader_key("", "e/1", 2, 1), "no name").await;
        side.proclaim(leader_key("e", "e/1", 2, 99), "v").await;
        side.proclaim(leader_key("e", "e/1", 9, 99), "v").await;
        side.proclaim(leader_key("e", "e/1", 2, 2), "other lease")
            .await;
        side.proclaim(leader_key("e", "e/new", 0, 1), "new").await;
        side.proclaim(leader_key("e", "e/1", -1, 1), "v").await;
        side.store().await;
        side.resign(None::<LeaderKey>).await;
        side.resign(leader_key("e", "", 2, 1)).await;
        side.resign(leader_key("e", "e/1", 2, 99)).await;
        side.resign(key(2)).await;
        side.resign(key(0)).await;
        side.proclaim(key(2), "too late").await;
        side.store().await;
    });
}

/// What an observer gets. Real etcd does not even accept the call before it has something to tell, so this is done in
/// the background.
fn observe(side: &Side, name: &str) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (mut elections, name) = (side.elections.clone(), bytes(name));
    tokio::spawn(async move {
        let mut stream = match elections.observe(LeaderRequest { name }).await {
            Ok(response) => response.into_inner(),
            Err(status) => return drop(sender.send(show::<()>(Err(status)))),
        };
        loop {
            let message = stream.message().await;
            let over = !matches!(message, Ok(Some(_)));
            if sender.send(format!("{message:?}")).is_err() || over {
                return;
            }
        }
    });
    receiver
}

/// The next message of an observer.
async fn seen(side: &mut Side, observer: &mut mpsc::UnboundedReceiver<String>) {
    let next = tokio::time::timeout(wait::PATIENCE, observer.recv()).await;
    let answer = format!("{:?}", next.expect("nothing to observe"));
    side.tell("observer", &answer);
}

async fn nothing(side: &mut Side, observer: &mut mpsc::UnboundedReceiver<String>) {
    let next = tokio::time::timeout(WHILE, observer.recv()).await;
    side.tell("observer", &format!("{:?}", next.ok()));
}

#[test]
fn observing() {
    same(&async |side| {
        side.grant(&[1, 2]).await;
        let early = &mut observe(side, "e");
        nothing(side, early).await;
        side.clients.put("e", "not in line").await.unwrap();
        side.clients.put("e0", "nor this").await.unwrap();
        side.campaign("e", 1, "one").await;
        seen(side, early).await;
        let second = side.campaign_later("e", 2, "two").await;
        let late = &mut observe(side, "e");
        seen(side, late).await;
        side.proclaim(leader_key("e", "e/1", 4, 1), "uno").await;
        seen(side, early).await;
        seen(side, late).await;
        // Not the leader's.
        side.proclaim(leader_key("e", "e/2", 5, 2), "zwei").await;
        nothing(side, early).await;
        side.resign(leader_key("e", "e/1", 4, 1)).await;
        side.answer_of("second", second).await;
        seen(side, early).await;
        seen(side, late).await;
        side.revoke(2).await;
        nothing(side, early).await;
        side.clients.put("e/x", "by hand").await.unwrap();
        seen(side, early).await;
        seen(side, late).await;
        let revision = side.clients.revision().await.unwrap();
        side.clients.compact(revision, true).await.unwrap();
        side.clients.put("e/x", "after compaction").await.unwrap();
        seen(side, early).await;
    });
}

/// Who waits is told to try elsewhere. Real etcd breaks the connections after a while instead.
#[test]
fn a_server_that_stops_lets_nobody_wait() {
    if own::is_real() {
        return;
    }
    let mut server = Server::fresh(own::etcd());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (waiter, mut observer) = runtime.block_on(async {
        let mut side = Side::new(&server);
        side.grant(&[1, 2]).await;
        side.lock("l", 1).await;
        side.campaign("e", 1, "one").await;
        let mut observer = observe(&side, "e");
        seen(&mut side, &mut observer).await;
        (side.lock_later("l", 2).await, observer)
    });
    server.stop();
    let (waiter, observer) =
        runtime.block_on(async { (waiter.await.unwrap(), observer.recv().await.unwrap()) });
    assert_eq!(waiter, "Unavailable: etcdserver: server stopped");
    assert!(
        observer.contains("etcdserver: server stopped"),
        "{observer}"
    );
}

//! A member that answers from a few lists, and a server in front of it.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use api::etcdserverpb as pb;
use api::{Error, RawKv};
use auth::{AuthOp, AuthResponse};
use bytes::Bytes;
use server::frontend::{Caller, Frontend, Gauges, Need, RaftStatus, Snapshot, Versions};
use server::grpc::{Services, Settings};
use server::http::{ClientHandler, Endpoints, Filter, MetricsHandler, PeerHandler};
use server::metrics::Metrics;
use server::net::{Options, Threads};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use watch::{Event, EventKind, History, HistoryChunk, HistoryError, Hub, Revision};

pub const CLUSTER: u64 = 0x00ab;
pub const MEMBER: u64 = 0x00cd;

/// What the fake was asked, for those requests whose way is to be shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Txn(pb::TxnRequest),
    Quota(i64),
}

pub struct Fake {
    pub leader: AtomicBool,
    pub learner: AtomicBool,
    pub full: AtomicBool,
    pub revision: AtomicI64,
    /// Sorted by key.
    pub kvs: RwLock<Vec<RawKv>>,
    pub alarms: Mutex<Vec<pb::AlarmMember>>,
    pub asked: Mutex<Vec<Asked>>,
    /// Reads wait for ever.
    pub stuck: AtomicBool,
    pub image: Mutex<Vec<Bytes>>,
    pub announced: Mutex<Option<u64>>,
    pub log: Arc<Log>,
    hub: Arc<Hub>,
}

/// All events ever, as a store would tell them.
#[derive(Default)]
pub struct Log {
    pub revisions: RwLock<Vec<Revision>>,
    pub compacted: AtomicI64,
}

impl History for Log {
    fn events_since(&self, from: i64, max: usize, _: usize) -> Result<HistoryChunk, HistoryError> {
        if from < self.compact_revision() {
            return Err(HistoryError::Compacted);
        }
        let all = self.revisions.read().unwrap();
        let revisions: Vec<_> = all
            .iter()
            .filter(|revision| revision.revision >= from)
            .take(max)
            .cloned()
            .collect();
        let next = revisions
            .last()
            .map_or(self.current_revision(), |last| last.revision)
            + 1;
        Ok(HistoryChunk { revisions, next })
    }

    fn kv_at(&self, key: &Bytes, at: i64) -> Option<RawKv> {
        let all = self.revisions.read().unwrap();
        let mut events = all
            .iter()
            .rev()
            .filter(|revision| revision.revision <= at)
            .flat_map(|revision| revision.events.iter());
        events
            .find(|event| event.key == key)
            .filter(|event| event.kind == EventKind::Put)
            .map(|e| e.kv.clone())
    }

    fn current_revision(&self) -> i64 {
        self.revisions
            .read()
            .unwrap()
            .last()
            .map_or(1, |last| last.revision)
    }

    fn compact_revision(&self) -> i64 {
        self.compacted.load(Ordering::SeqCst)
    }
}

impl Default for Fake {
    fn default() -> Self {
        let log = Arc::new(Log::default());
        let hub = Hub::start(Arc::clone(&log) as _, watch::Config::default()).unwrap();
        Self {
            leader: AtomicBool::new(true),
            learner: AtomicBool::new(false),
            full: AtomicBool::new(false),
            revision: AtomicI64::new(7),
            kvs: RwLock::default(),
            alarms: Mutex::default(),
            asked: Mutex::default(),
            stuck: AtomicBool::new(false),
            image: Mutex::default(),
            announced: Mutex::default(),
            log,
            hub: Arc::new(hub),
        }
    }
}

impl Fake {
    /// Puts a key as an event of its own revision.
    pub fn publish(&self, key: &str, value: &str) -> i64 {
        let revision = self.log.current_revision() + 1;
        let kv = RawKv::encode(key.as_bytes(), revision, revision, 1, value.as_bytes(), 0);
        let key = kv.key();
        let event = Event {
            kind: EventKind::Put,
            key,
            kv,
            create: true,
            prev: None,
            sub: 0,
        };
        self.publish_all(revision, vec![event]);
        revision
    }

    pub fn publish_all(&self, revision: i64, events: Vec<Event>) {
        let events: Arc<[Event]> = events.into();
        self.log
            .revisions
            .write()
            .unwrap()
            .push(Revision::new(revision, Arc::clone(&events)));
        self.hub.publish(revision, events);
    }

    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    fn answer_range(&self, request: &pb::RangeRequest) -> pb::RangeResponse {
        let kvs = self.kvs.read().unwrap();
        let inside = |kv: &&RawKv| {
            let (key, end) = (kv.key(), &request.range_end);
            match &end[..] {
                b"" => key == request.key,
                b"\0" => key >= request.key,
                _ => key >= request.key && key < end,
            }
        };
        let mut found: Vec<_> = kvs.iter().filter(inside).cloned().collect();
        let count = found.len() as i64;
        let more = request.limit > 0 && count > request.limit;
        if request.count_only {
            found.clear();
        } else if more {
            found.truncate(request.limit as usize);
        }
        pb::RangeResponse {
            header: Some(self.header()),
            kvs: found,
            more: more && !request.count_only,
            count,
        }
    }
}

impl Frontend for Fake {
    fn header(&self) -> pb::ResponseHeader {
        let revision = self.revision.load(Ordering::SeqCst);
        pb::ResponseHeader {
            cluster_id: CLUSTER,
            member_id: MEMBER,
            revision,
            raft_term: 2,
        }
    }

    fn has_leader(&self) -> bool {
        self.leader.load(Ordering::SeqCst)
    }

    fn is_leader(&self) -> bool {
        self.has_leader()
    }

    fn is_learner(&self) -> bool {
        self.learner.load(Ordering::SeqCst)
    }

    fn check_quota(&self, cost: i64) -> Result<(), Error> {
        self.note(Asked::Quota(cost));
        if self.full.load(Ordering::SeqCst) {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    async fn permit(&self, _: &Caller, _: Need<'_>) -> Result<(), Error> {
        Ok(())
    }

    async fn auth(&self, _: &Caller, _: AuthOp) -> Result<AuthResponse, Error> {
        Err(Error::AuthNotEnabled)
    }

    async fn authenticate(&self, _: pb::AuthenticateRequest) -> Result<String, Error> {
        Err(Error::AuthNotEnabled)
    }

    async fn range(
        &self,
        _: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        if self.stuck.load(Ordering::SeqCst) && !request.serializable {
            std::future::pending::<()>().await;
        }
        let response = self.answer_range(&request);
        self.note(Asked::Range(request));
        Ok(response)
    }

    async fn put(&self, _: &Caller, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        self.note(Asked::Put(request));
        Ok(pb::PutResponse {
            header: Some(self.header()),
            prev_kv: None,
        })
    }

    async fn delete_range(
        &self,
        _: &Caller,
        _: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        Ok(pb::DeleteRangeResponse {
            header: Some(self.header()),
            deleted: 0,
            prev_kvs: Vec::new(),
        })
    }

    async fn txn(&self, _: &Caller, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.note(Asked::Txn(request));
        Ok(pb::TxnResponse {
            header: Some(self.header()),
            succeeded: true,
            responses: Vec::new(),
        })
    }

    async fn compact(&self, _: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        Err(Error::Compacted)
    }

    async fn lease_grant(
        &self,
        _: &Caller,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        let pb::LeaseGrantRequest { ttl, id } = request;
        Ok(pb::LeaseGrantResponse {
            header: Some(self.header()),
            id,
            ttl,
            error: String::new(),
        })
    }

    async fn lease_revoke(
        &self,
        _: &Caller,
        _: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        Err(Error::LeaseNotFound)
    }

    async fn lease_renew(&self, _: &Caller, id: i64) -> Result<i64, Error> {
        match id {
            0 => Err(Error::NoLeader),
            id if id < 0 => Ok(0),
            id => Ok(id + 1),
        }
    }

    async fn lease_time_to_live(
        &self,
        _: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let header = Some(self.header());
        Ok(pb::LeaseTimeToLiveResponse {
            header,
            id: request.id,
            ttl: -1,
            ..Default::default()
        })
    }

    async fn lease_leases(&self, _: &Caller) -> Result<Vec<i64>, Error> {
        Ok(vec![3, -4])
    }

    async fn member_add(&self, _: Vec<String>, _: bool) -> Result<pb::Member, Error> {
        Err(Error::Unhealthy)
    }

    async fn member_remove(&self, _: u64) -> Result<(), Error> {
        Err(Error::Unhealthy)
    }

    async fn member_update(&self, _: u64, _: Vec<String>) -> Result<(), Error> {
        Err(Error::MemberNotFound)
    }

    async fn member_promote(&self, _: &Caller, _: u64) -> Result<(), Error> {
        Err(Error::MemberNotFound)
    }

    async fn member_list(&self, linearizable: bool) -> Result<Vec<pb::Member>, Error> {
        if linearizable && !self.has_leader() {
            return Err(Error::Timeout);
        }
        let peer_urls = vec!["http://localhost:2380".to_owned()];
        Ok(vec![pb::Member {
            id: MEMBER,
            name: "m".to_owned(),
            peer_urls,
            ..Default::default()
        }])
    }

    async fn alarm(&self, _: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        Ok(pb::AlarmResponse {
            header: Some(self.header()),
            alarms: self.alarms(),
        })
    }

    fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.alarms.lock().unwrap().clone()
    }

    fn status(&self) -> pb::StatusResponse {
        pb::StatusResponse {
            header: Some(self.header()),
            version: "3.7.1".to_owned(),
            ..Default::default()
        }
    }

    async fn defragment(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn hash(&self) -> Result<u32, Error> {
        Ok(17)
    }

    async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        if revision > 7 {
            return Err(Error::FutureRev);
        }
        let (header, hash_revision) = (Some(self.header()), revision);
        Ok(pb::HashKvResponse {
            header,
            hash: 5,
            compact_revision: -1,
            hash_revision,
        })
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let pieces = self.image.lock().unwrap().clone();
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let (sender, chunks) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(Ok(piece)).unwrap();
        }
        let length = self.announced.lock().unwrap().unwrap_or(length);
        Ok(Snapshot {
            length,
            version: "3.7.0".to_owned(),
            chunks,
        })
    }

    async fn move_leader(&self, _: u64) -> Result<(), Error> {
        Err(Error::BadLeaderTransferee)
    }

    fn versions(&self) -> Versions {
        Versions {
            server: "3.7.1".into(),
            cluster: "3.7.0".into(),
            storage: String::new(),
        }
    }

    fn raft_status(&self) -> RaftStatus {
        RaftStatus {
            id: MEMBER,
            term: 2,
            vote: MEMBER,
            commit: 9,
            applied: 8,
            leader: MEMBER,
        }
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            db_size: 4096,
            quota_bytes: 2147483648,
            ..Gauges::default()
        }
    }

    fn watch_hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

/// A server with a client, a peer and a metrics listener.
pub struct TestServer {
    pub fake: Arc<Fake>,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub metrics: SocketAddr,
    threads: Option<Threads>,
}

pub const MAX_REQUEST: usize = 16 * 1024;
pub const ELECTION: Duration = Duration::from_millis(50);

impl TestServer {
    pub fn start() -> Self {
        Self::start_filtered(Filter::new(["*".to_owned()], ["*".to_owned()], false))
    }

    pub fn start_filtered(filter: Filter) -> Self {
        let fake = Arc::new(Fake::default());
        let metrics = Arc::new(Metrics::new("3.7.1", MEMBER));
        let stop = CancellationToken::new();
        let settings = Settings {
            max_request_bytes: MAX_REQUEST,
            max_txn_ops: 128,
            election_timeout: ELECTION,
            watch_progress_interval: Duration::from_millis(200),
        };
        let services = Services::new(
            Arc::clone(&fake),
            settings,
            Arc::clone(&metrics),
            stop.clone(),
        );
        let endpoints = Endpoints::new(Arc::clone(&fake), metrics, Duration::from_millis(300));
        let threads = Threads::start(2, stop).unwrap();
        let bind = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        let ((client, on_client), (peer, on_peer), (at_metrics, on_metrics)) =
            (bind(), bind(), bind());
        let handler = ClientHandler::new(Some(services), Some(Arc::clone(&endpoints)), filter);
        threads
            .serve(on_client, handler, Options::default())
            .unwrap();
        threads
            .serve(
                on_peer,
                PeerHandler::new(Arc::clone(&endpoints)),
                Options::default(),
            )
            .unwrap();
        threads
            .serve(
                on_metrics,
                MetricsHandler::new(endpoints),
                Options::default(),
            )
            .unwrap();
        Self {
            fake,
            client,
            peer,
            metrics: at_metrics,
            threads: Some(threads),
        }
    }

    /// A gRPC connection.
    pub async fn channel(&self) -> Channel {
        let endpoint =
            tonic::transport::Endpoint::try_from(format!("http://{}", self.client)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Stops the server; its clients must be able to run meanwhile.
    pub fn stop(&mut self) {
        self.stop_within(Duration::from_secs(5));
    }

    fn stop_within(&mut self, limit: Duration) {
        if let Some(threads) = self.threads.take() {
            threads.stop(limit);
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // This may be the thread that the clients run on, so they cannot say goodbye.
        self.stop_within(Duration::from_millis(1));
    }
}

//! Whole members without a state machine worth the name: a consensus node, a transport, a list of what was applied.

// Each test file uses its part; clocks and threads belong to tests.
#![allow(dead_code, clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use api::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, Snapshot,
    SnapshotMetadata,
};
use bytes::Bytes;
use cluster::Version;
use consensus::{
    Apply, ApplyBatch, Events, LogStore, Node, Proposal, ReadOutcome, ReadSink, Start, StepError,
    StoreError, Wiring,
};
use peer::{
    BoxError, BoxFuture, Config, HashKv, HashKvError, LeaseError, Listener, Listening, NoObserver,
    PeerApi, PeerRuntime, PlainAcceptor, PlainDialer, PromoteError, Sink, SnapshotFile,
    SnapshotToSend, Transport, Versions,
};
use prost::Message as _;

pub const PATIENCE: Duration = Duration::from_secs(40);
pub const CLUSTER: u64 = 0xc1;

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A port of this process, open from now on.
pub fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

pub fn peer_config(id: u64, cluster: u64, url: &str) -> Config {
    Config::new(id, cluster, Version::new(3, 7, 3), vec![url.to_owned()])
}

/// Begins the "database" of these members.
const MAGIC: &[u8; 8] = b"testdata";

/// What a member applied, and what else happened to it.
#[derive(Default)]
pub struct State {
    /// Data of normal entries, in order.
    pub data: Mutex<Vec<Bytes>>,
    /// Complete databases that were received, by index.
    pub files: Mutex<HashMap<u64, Vec<u8>>>,
    pub config: Mutex<ConfState>,
    pub removed: Mutex<HashSet<u64>>,
    /// Another member said that this one was removed.
    pub told_removed: AtomicBool,
    pub unreachable: Mutex<HashSet<u64>>,
    /// Results of sent snapshots.
    pub snapshots: Mutex<Vec<(u64, bool)>>,
    /// Bytes that make the database longer.
    pub padding: AtomicU64,
}

impl State {
    fn image(&self) -> Vec<u8> {
        let mut image = MAGIC.to_vec();
        for data in self.data.lock().unwrap().iter() {
            image.extend((data.len() as u32).to_be_bytes());
            image.extend(data);
        }
        image.extend(u32::MAX.to_be_bytes());
        image.resize(
            image.len() + self.padding.load(Ordering::Relaxed) as usize,
            0x5a,
        );
        image
    }

    fn load(&self, image: &[u8]) {
        let Some(mut rest) = image.strip_prefix(MAGIC) else {
            return;
        };
        let mut all = Vec::new();
        loop {
            let (length, data) = rest.split_first_chunk::<4>().unwrap();
            let length = u32::from_be_bytes(*length);
            if length == u32::MAX {
                break;
            }
            let (data, more) = data.split_at(length as usize);
            all.push(Bytes::copy_from_slice(data));
            rest = more;
        }
        *self.data.lock().unwrap() = all;
    }

    pub fn applied_numbers(&self) -> Vec<u64> {
        let data = self.data.lock().unwrap();
        data.iter()
            .map(|data| u64::from_be_bytes(data[..8].try_into().unwrap()))
            .collect()
    }
}

pub struct MemberSink {
    pub node: OnceLock<Node>,
    pub state: Arc<State>,
}

impl Sink for MemberSink {
    fn step(&self, message: Message) -> Result<(), StepError> {
        match self.node.get() {
            Some(node) => node.step(message),
            None => Err(StepError::Stopped(consensus::Stopped)),
        }
    }

    fn report_unreachable(&self, id: u64) {
        self.state.unreachable.lock().unwrap().insert(id);
        if let Some(node) = self.node.get() {
            node.report_unreachable(id);
        }
    }

    fn report_snapshot(&self, id: u64, ok: bool) {
        self.state.snapshots.lock().unwrap().push((id, ok));
        if let Some(node) = self.node.get() {
            let _ = node.report_snapshot(id, ok);
        }
    }

    fn is_removed(&self, id: u64) -> bool {
        self.state.removed.lock().unwrap().contains(&id)
    }

    fn receive_snapshot(&self, index: u64) -> Result<Box<dyn SnapshotFile>, BoxError> {
        Ok(Box::new(File {
            index,
            bytes: Vec::new(),
            state: Arc::clone(&self.state),
        }))
    }

    fn removed(&self) {
        self.state.told_removed.store(true, Ordering::SeqCst);
    }
}

struct File {
    index: u64,
    bytes: Vec<u8>,
    state: Arc<State>,
}

impl SnapshotFile for File {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64, BoxError> {
        let length = self.bytes.len() as u64;
        self.state
            .files
            .lock()
            .unwrap()
            .insert(self.index, self.bytes);
        Ok(length)
    }
}

/// A log nobody will ever read.
struct NoLog;

impl LogStore for NoLog {
    fn append(&mut self, _: Option<&HardState>, _: &[Entry]) -> Result<(), StoreError> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn save_snapshot(&mut self, _: &Snapshot) -> Result<(), StoreError> {
        Ok(())
    }
    fn release_to(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

struct ToApply(Sender<ApplyBatch>);

impl Apply for ToApply {
    fn apply(&self, batch: ApplyBatch) {
        let _ = self.0.send(batch);
    }
}

struct Nobody;

impl ReadSink for Nobody {
    fn read_done(&self, _: ReadOutcome) {}
}

impl Events for Nobody {
    fn fatal(&self, error: &consensus::Error) {
        panic!("{error}");
    }
}

/// Answers like a member of a cluster that works.
pub struct TestApi {
    pub members: Vec<cluster::Member>,
    pub cluster_version: &'static str,
}

impl PeerApi for TestApi {
    fn versions(&self) -> Versions {
        Versions {
            server: "3.7.3".to_owned(),
            cluster: Some(self.cluster_version.to_owned()),
            storage: Some(self.cluster_version.to_owned()),
        }
    }

    fn members(&self) -> Vec<cluster::Member> {
        self.members.clone()
    }

    fn promote(
        &self,
        id: u64,
        token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<cluster::Member>, PromoteError>> {
        let result = match id {
            1 => Err(PromoteError::NotFound),
            2 => Err(PromoteError::NotLearner),
            3 => Err(PromoteError::NotReady),
            4 => Err(PromoteError::Other("secret".to_owned())),
            _ => {
                let name = token.unwrap_or_default();
                Ok(vec![cluster::Member {
                    id,
                    name,
                    ..Default::default()
                }])
            }
        };
        Box::pin(std::future::ready(result))
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashKvError>> {
        let result = match revision {
            1 => Err(HashKvError::Compacted),
            9 => Err(HashKvError::FutureRevision),
            _ => Ok(HashKv {
                revision: 5,
                hash: 77,
                compact_revision: -1,
                hash_revision: revision,
            }),
        };
        Box::pin(std::future::ready(result))
    }

    fn renew_lease(&self, id: i64) -> BoxFuture<'_, Result<i64, LeaseError>> {
        let result = match id {
            0 => Err(LeaseError::NotPrimary),
            1 => Err(LeaseError::CatchUpTimeout),
            2 => Err(LeaseError::NotFound),
            id => Ok(id * 10),
        };
        Box::pin(std::future::ready(result))
    }

    fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse, LeaseError>> {
        let result = match request.id {
            // A follower knows leases, too; that it may not answer for them comes second.
            0 | 2 => Err(LeaseError::NotFound),
            3 => Err(LeaseError::NotPrimary),
            id => Ok(LeaseTimeToLiveResponse {
                id,
                ttl: 30,
                granted_ttl: 60,
                keys: if request.keys {
                    vec![Bytes::from_static(b"k")]
                } else {
                    Vec::new()
                },
                ..Default::default()
            }),
        };
        Box::pin(std::future::ready(result))
    }

    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// A member at work.
pub struct Member {
    pub id: u64,
    pub node: Node,
    pub transport: Transport,
    pub state: Arc<State>,
    listening: Listening,
    runtime: Arc<PeerRuntime>,
    apply: Option<JoinHandle<()>>,
}

/// Who founds a cluster: ids, URLs and what the log says of them.
pub struct Founder {
    pub id: u64,
    pub url: String,
    pub json: Bytes,
}

impl Member {
    /// Starts a founder of a new cluster on a listener that others know already.
    pub fn start(
        listener: TcpListener,
        cluster: u64,
        config: consensus::Config,
        founders: &[Founder],
        api: Arc<dyn PeerApi>,
    ) -> Self {
        let id = config.id;
        let own = founders.iter().find(|founder| founder.id == id).unwrap();
        let runtime = Arc::new(PeerRuntime::start(1).unwrap());
        let transport = Transport::new(
            &runtime,
            peer_config(id, cluster, &own.url),
            Arc::new(PlainDialer),
            Arc::new(NoObserver),
        );
        let state = Arc::new(State::default());
        let sink = Arc::new(MemberSink {
            node: OnceLock::new(),
            state: Arc::clone(&state),
        });
        let (to_apply, batches) = channel();
        let wiring = Wiring {
            log: Box::new(NoLog),
            transport: Box::new(transport.clone()),
            apply: Box::new(ToApply(to_apply)),
            reads: Box::new(Nobody),
            events: Arc::new(Nobody),
        };
        let list: Vec<(u64, Bytes)> = founders
            .iter()
            .map(|founder| (founder.id, founder.json.clone()))
            .collect();
        let node = Node::start(config, Start::bootstrap(&list), wiring).unwrap();
        assert!(sink.node.set(node.clone()).is_ok());
        transport.connect(sink);
        for founder in founders {
            transport.add_peer(founder.id, std::slice::from_ref(&founder.url));
        }
        let server = transport.server(api);
        let listening = transport
            .listen(Listener::Tcp(listener), Arc::new(PlainAcceptor), &server)
            .unwrap();
        let applier = Applier {
            id,
            node: node.clone(),
            transport: transport.clone(),
            state: Arc::clone(&state),
            applied: (0, 0),
        };
        let apply = std::thread::spawn(move || applier.run(&batches));
        Self {
            id,
            node,
            transport,
            state,
            listening,
            runtime,
            apply: Some(apply),
        }
    }

    pub fn is_leader(&self) -> bool {
        self.node.status().leader == self.id
    }

    pub fn propose(&self, number: u64) {
        let data = Bytes::copy_from_slice(&number.to_be_bytes());
        // A member that stops takes nothing.
        let _ = self.node.propose(vec![Proposal { id: number, data }]);
    }

    pub fn stop(&mut self) {
        self.node.stop();
        self.listening.stop();
        self.transport.stop();
        self.runtime.stop(Duration::from_secs(1));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
        self.apply.take();
    }
}

struct Applier {
    id: u64,
    node: Node,
    transport: Transport,
    state: Arc<State>,
    /// Index and term.
    applied: (u64, u64),
}

impl Applier {
    fn run(mut self, batches: &Receiver<ApplyBatch>) {
        for batch in batches {
            if let Some(snapshot) = batch.snapshot {
                let metadata = snapshot.metadata;
                let file = self
                    .state
                    .files
                    .lock()
                    .unwrap()
                    .get(&metadata.index)
                    .cloned();
                self.state
                    .load(&file.expect("the database came before the message"));
                *self.state.config.lock().unwrap() = metadata.conf_state;
                self.applied = (metadata.index, metadata.term);
            }
            for entry in batch.entries {
                self.applied = (entry.index, entry.term);
                if entry.r#type == EntryType::ConfChange as i32 {
                    if self.conf_change(entry).is_none() {
                        return;
                    }
                } else if !entry.data.is_empty() {
                    self.state.data.lock().unwrap().push(entry.data);
                }
            }
            self.node.applied(self.applied.0);
            for message in batch.send_snapshots {
                self.send_snapshot(message);
            }
        }
    }

    fn conf_change(&self, entry: Entry) -> Option<()> {
        let change = ConfChange::decode(entry.data).unwrap();
        let (id, kind) = (change.node_id, change.r#type());
        let conf_state = self
            .node
            .apply_conf_change(entry.index, Some(change))
            .ok()?;
        *self.state.config.lock().unwrap() = conf_state;
        if kind == ConfChangeType::RemoveNode {
            self.state.removed.lock().unwrap().insert(id);
            if id != self.id {
                self.transport.remove_peer(id);
            }
        }
        Some(())
    }

    fn send_snapshot(&self, mut message: Message) {
        message.snapshot = Some(Snapshot {
            data: Bytes::from_static(b"{}"),
            metadata: SnapshotMetadata {
                conf_state: self.state.config.lock().unwrap().clone(),
                index: self.applied.0,
                term: self.applied.1,
            },
        });
        let image = self.state.image();
        self.transport.send_snapshot(SnapshotToSend {
            message,
            length: image.len() as u64,
            database: Box::new(Cursor::new(image)),
            hold: Box::new(self.node.pause_compaction()),
        });
    }
}

/// Members 1 to `count`, all founders, on ports of this process.
pub fn start_cluster(count: u64, configure: impl Fn(&mut consensus::Config)) -> Vec<Member> {
    let ports: Vec<(TcpListener, String)> = (0..count).map(|_| listener()).collect();
    let founders: Vec<Founder> = ports
        .iter()
        .zip(1..)
        .map(|((_, url), id)| Founder {
            id,
            url: url.clone(),
            json: Bytes::from_static(b"{}"),
        })
        .collect();
    let api: Arc<dyn PeerApi> = Arc::new(TestApi {
        members: Vec::new(),
        cluster_version: "3.7.0",
    });
    ports
        .into_iter()
        .zip(1..)
        .map(|((listener, _), id)| {
            let mut config = consensus::Config {
                tick: Duration::from_millis(30),
                seed: id,
                ..consensus::Config::new(id)
            };
            configure(&mut config);
            Member::start(listener, CLUSTER, config, &founders, Arc::clone(&api))
        })
        .collect()
}

/// The member all agree on.
pub fn wait_leader(members: &[&Member]) -> u64 {
    let mut leader = 0;
    until("a leader is known to all", || {
        leader = members[0].node.status().leader;
        leader != 0
            && members
                .iter()
                .all(|member| member.node.status().leader == leader)
    });
    leader
}

/// Sends log lines of a test to standard error when `PEER_LOG` is set.
pub fn log_for_debugging() {
    struct Lines;
    impl tracing::Subscriber for Lines {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::INFO
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = String::new();
            event.record(
                &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                    use std::fmt::Write;
                    let _ = write!(line, " {}={value:?}", field.name());
                },
            );
            eprintln!("{} {line}", event.metadata().level());
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    if std::env::var_os("PEER_LOG").is_some() {
        let _ = tracing::subscriber::set_global_default(Lines);
    }
}

//! From a member's state to its running threads, and back.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apply::{AlarmView, Parts, Quota, StateMachine};
use auth::{AuthStore, AuthView, Cost, PasswordPool, PoolConfig, TokenConfig, TokenProvider};
use consensus::{
    ApplyBatch, Events, LeadershipChange, Node, ReadError, ReadOutcome, WalStore, Wiring,
};
use lease::Lessor;
use peer::PeerRuntime;

use super::StartError;
use super::boot::Boot;
use crate::core::applier::{Applier, Event};
use crate::core::background::{Background, Files, Signals};
use crate::core::snapshots::Snapshots;
use crate::core::{Bulk, ForPeers, FromPeers, IdGenerator, Limits, Member, MemberParts, Peers};
use crate::metrics::Metrics;

/// What of the configuration decides how a member runs.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the flags of the same names
pub struct LaunchOptions {
    pub name: String,
    pub advertise_client_urls: Vec<String>,
    pub advertise_peer_urls: Vec<String>,
    pub heartbeat: Duration,
    pub election_timeout: Duration,
    pub pre_vote: bool,
    pub initial_election_tick_advance: bool,
    pub strict_reconfig_check: bool,
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    pub quota_backend_bytes: i64,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    pub max_snapshots: usize,
    pub max_wals: usize,
    pub compaction_batch_limit: usize,
    pub compaction_sleep: Duration,
    pub lease_checkpoint: bool,
    pub auto_compaction: Option<config::AutoCompaction>,
    pub auth_token: String,
    pub auth_token_ttl: Duration,
    pub bcrypt_cost: u32,
}

/// A running member.
pub struct Running {
    /// What its frontends ask.
    pub member: Arc<Member>,
    peers: PeerRuntime,
    signals: Arc<Signals>,
    applier: JoinHandle<()>,
    background: JoinHandle<()>,
}

/// Connects the consensus threads to a member that does not exist yet when they start.
struct Bridge {
    member: OnceLock<Arc<Member>>,
    signals: Arc<Signals>,
    to_main: Mutex<Sender<Event>>,
}

impl Events for Bridge {
    fn leadership(&self, change: LeadershipChange) {
        let Some(member) = self.member.get() else {
            return;
        };
        if change.stepped_down() {
            member.lessor().demote();
        }
        if change.now.leader != change.before.leader {
            member.note_leader(change.now.leader);
        }
    }

    fn first_commit_in_term(&self, _term: u64) {
        self.signals.first_commit_in_term.notify_one();
    }

    fn fatal(&self, error: &consensus::Error) {
        let to_main = self.to_main.lock().unwrap_or_else(PoisonError::into_inner);
        // If nobody listens, the process is ending already.
        let _ = to_main.send(Event::Fatal(StartError::Fatal {
            message: "failed to save Raft hard state and entries",
            error: error.to_string(),
        }));
    }
}

struct BridgeReads(Arc<Bridge>);

impl consensus::ReadSink for BridgeReads {
    fn read_done(&self, outcome: ReadOutcome) {
        let Some(member) = self.0.member.get() else {
            return;
        };
        for number in outcome.ids {
            let now = Instant::now();
            let next = match outcome.result {
                Ok(index) => member
                    .reads
                    .round_confirmed(number, index, || member.applied(), now),
                Err(error) => {
                    let error = match error {
                        ReadError::LeaderChanged => api::Error::LeaderChanged,
                        ReadError::TimedOut => api::Error::Timeout,
                        ReadError::Stopped => api::Error::Stopped,
                    };
                    member.reads.round_failed(Some(number), &error, now)
                }
            };
            member.start_read_round(next);
        }
    }
}

struct ToApplier(Sender<ApplyBatch>);

impl consensus::Apply for ToApplier {
    fn apply(&self, batch: ApplyBatch) {
        // The apply thread ends only when the process does.
        let _ = self.0.send(batch);
    }
}

/// Starts the threads of a member.
///
/// `events` go to the main thread.
pub fn launch(
    mut boot: Boot,
    options: &LaunchOptions,
    metrics: &Arc<Metrics>,
    events: &Sender<Event>,
) -> Result<Running, StartError> {
    let epoch = Instant::now();
    let failed = |error: String| StartError::Failed(error);
    let store_config = mvcc::Config {
        compaction_batch_limit: options.compaction_batch_limit,
        compaction_sleep: options.compaction_sleep,
        ..mvcc::Config::default()
    };
    let restored = mvcc::open(Arc::clone(&boot.backend), store_config)
        .map_err(|error| failed(error.to_string()))?;
    let history = Arc::clone(&restored.store) as Arc<dyn watch::History>;
    let hub = watch::Hub::start(history, watch::Config::default())
        .map_err(|error| failed(error.to_string()))?;
    let hub = Arc::new(hub);
    restored.store.set_sink(hub.sink());

    let lessor = Arc::new(Mutex::new(recover_leases(&boot, options, restored.leases)?));
    let membership = Arc::new(RwLock::new(boot.membership));
    let alarms = Arc::new(AlarmView::default());
    let quota = Quota::new(options.quota_backend_bytes);
    let tokens = TokenProvider::new(
        TokenConfig::parse(&options.auth_token, options.auth_token_ttl)
            .map_err(|error| failed(error.to_string()))?,
        |path| std::fs::read(path),
    )
    .map_err(|error| failed(error.to_string()))?;
    let auth = AuthView::new(tokens);
    let cost = Cost::new(options.bcrypt_cost);
    let users = AuthStore::open(boot.backend.as_ref(), &mut boot.db, Arc::clone(&auth), cost)
        .map_err(|error| failed(error.to_string()))?;
    let passwords = password_pool(cost).map_err(|error| failed(error.to_string()))?;
    let machine = StateMachine::new(Parts {
        member_id: boot.member_id,
        db: boot.db,
        backend: Arc::clone(&boot.backend),
        kv: restored.writer,
        lessor: Arc::clone(&lessor),
        membership: Arc::clone(&membership),
        quota,
        alarm_view: Arc::clone(&alarms),
        auth: users,
    })
    .map_err(|error| failed(error.to_string()))?;

    let signals = Arc::new(Signals::default());
    let bridge = Arc::new(Bridge {
        member: OnceLock::new(),
        signals: Arc::clone(&signals),
        to_main: Mutex::new(events.clone()),
    });
    let runtime = PeerRuntime::start(PeerRuntime::default_threads())
        .map_err(|error| failed(error.to_string()))?;
    let peers = connect_peers(&runtime, boot.member_id, boot.cluster_id, options);
    let snapshotter = boot.snapshotter.clone();
    let (batches, to_apply) = channel();
    let wiring = Wiring {
        log: Box::new(WalStore::new(boot.wal, boot.snapshotter)),
        transport: Box::new(peers.transport.clone()),
        apply: Box::new(ToApplier(batches)),
        reads: Box::new(BridgeReads(Arc::clone(&bridge))),
        events: Arc::clone(&bridge) as Arc<dyn Events>,
    };
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let start = boot.start;
    let (conf_state, snapshot_index) = (start.conf_state.clone(), start.snapshot.index);
    let applied = start.applied;
    let sole_voter = conf_state.voters == [boot.member_id];
    let config = consensus_config(boot.member_id, options, unix);
    let election_ticks = config.election_ticks;
    let node = Node::start(config, start, wiring).map_err(|error| failed(error.to_string()))?;
    peers.transport.connect(Arc::new(FromPeers {
        node: node.clone(),
        membership: Arc::clone(&membership),
        snapshotter: snapshotter.clone(),
        to_main: Mutex::new(events.clone()),
    }));
    for member in &boot.peers {
        peers.transport.add_peer(member.id, &member.peer_urls);
    }
    if sole_voter {
        tracing::info!(
            "local-member-id" = %gotext::Hex(boot.member_id),
            "forward-ticks" = election_ticks - 1,
            "forward-duration" = %gotext::GoDuration(options.heartbeat * (election_ticks - 1)),
            "election-ticks" = election_ticks,
            "election-timeout" = %gotext::GoDuration(options.election_timeout),
            "started as single-node; fast-forwarding election ticks"
        );
        // A node that stopped meanwhile has said why.
        let _ = node.campaign();
    } else if options.initial_election_tick_advance {
        let transport = peers.transport.clone();
        let ahead = fast_forward(node.clone(), transport, election_ticks, options.clone());
        runtime.handle().spawn(ahead);
    }
    let member = Member::new(MemberParts {
        id: boot.member_id,
        cluster_id: boot.cluster_id,
        limits: Limits {
            max_request_bytes: options.max_request_bytes,
            max_txn_ops: options.max_txn_ops,
            election_timeout: options.election_timeout,
            strict_reconfig: options.strict_reconfig_check,
        },
        ids: IdGenerator::new(boot.member_id, unix.as_millis() as u64),
        node,
        store: restored.store,
        backend: boot.backend,
        lessor,
        membership,
        alarms,
        quota,
        hub,
        bulk: Bulk::start().map_err(|error| failed(error.to_string()))?,
        auth,
        passwords,
        peers,
        epoch,
        applied,
        metrics: Arc::clone(metrics),
    });
    if bridge.member.set(Arc::clone(&member)).is_err() {
        unreachable!("the bridge is set once");
    }
    member.note_leader(member.node.status().leader);
    let applier = Applier {
        machine,
        member: Arc::clone(&member),
        signals: Arc::clone(&signals),
        snapshots: Snapshots::new(options.snapshot_count, snapshot_index),
        snapshotter,
        conf_state,
        events: events.clone(),
    };
    let applier = std::thread::Builder::new()
        .name("apply".into())
        .spawn(move || applier.run(&to_apply))
        .map_err(|error| failed(error.to_string()))?;
    let background = Background {
        member: Arc::clone(&member),
        signals: Arc::clone(&signals),
        name: options.name.clone(),
        client_urls: options.advertise_client_urls.clone(),
        auto_compaction: options.auto_compaction,
        files: Files {
            snap: boot.dirs.snap.clone(),
            wal: boot.dirs.wal.clone(),
            max_snapshots: options.max_snapshots,
            max_wals: options.max_wals,
        },
        events: events.clone(),
    }
    .spawn()
    .map_err(|error| failed(error.to_string()))?;
    Ok(Running {
        member,
        peers: runtime,
        signals,
        applier,
        background,
    })
}

fn password_pool(cost: Cost) -> std::io::Result<PasswordPool> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| std::io::Error::other("no random numbers"))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    PasswordPool::start(PoolConfig::new(cores, cost, key))
}

/// The ways to the other members; nobody is known yet.
fn connect_peers(
    runtime: &PeerRuntime,
    member_id: u64,
    cluster_id: u64,
    options: &LaunchOptions,
) -> Peers {
    let urls = options.advertise_peer_urls.clone();
    let mut config = peer::Config::new(member_id, cluster_id, super::server_version(), urls);
    config.dial_timeout = dial_timeout(options.election_timeout);
    let dialer: Arc<dyn peer::Dialer> = Arc::new(peer::PlainDialer);
    Peers {
        client: peer::PeerClient::new(runtime, Arc::clone(&dialer), config.dial_timeout),
        transport: peer::Transport::new(runtime, config, dialer, Arc::new(peer::NoObserver)),
    }
}

/// How long a connection to a member may take to be made.
pub(super) fn dial_timeout(election_timeout: Duration) -> Duration {
    Duration::from_secs(1) + election_timeout
}

/// Lets most of the first election timeout pass as soon as two other members can be reached: a leader among them
/// would be heard of at once.
async fn fast_forward(
    node: Node,
    transport: peer::Transport,
    election_ticks: u32,
    options: LaunchOptions,
) {
    const LOOK: Duration = Duration::from_millis(50);
    const LOOKS: usize = 100;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        let active = transport.active_peers();
        if active > 1 {
            let ticks = election_ticks.saturating_sub(2);
            tracing::info!(
                "local-member-id" = %gotext::Hex(node.status().id),
                "forward-ticks" = ticks,
                "forward-duration" = %gotext::GoDuration(options.heartbeat * ticks),
                "election-ticks" = election_ticks,
                "election-timeout" = %gotext::GoDuration(options.election_timeout),
                "active-remote-members" = active,
                "initialized peer connections; fast-forwarding election ticks"
            );
            // A node that stopped meanwhile has said why.
            let _ = node.advance_election_ticks(ticks);
            return;
        }
    }
}

fn consensus_config(id: u64, options: &LaunchOptions, unix: Duration) -> consensus::Config {
    let request_timeout = Duration::from_secs(5) + 2 * options.election_timeout;
    let mut config = consensus::Config::new(id);
    config.tick = options.heartbeat;
    config.election_ticks =
        (options.election_timeout.as_millis() / options.heartbeat.as_millis().max(1)) as u32;
    config.pre_vote = options.pre_vote;
    config.hold_proposals = request_timeout;
    config.read_timeout = request_timeout;
    config.catchup_entries = options.snapshot_catchup_entries;
    config.seed = unix.as_nanos() as u64 ^ id;
    config
}

/// The leases of the database, with the keys the store found attached to them.
fn recover_leases(
    boot: &Boot,
    options: &LaunchOptions,
    attached: Vec<(i64, bytes::Bytes)>,
) -> Result<Lessor, StartError> {
    let ticks =
        (options.election_timeout.as_millis() / options.heartbeat.as_millis().max(1)) as u32;
    let mut config = lease::Config::new(lease::min_ttl(ticks, options.heartbeat));
    if options.lease_checkpoint {
        config.checkpoint_interval = Some(lease::CHECKPOINT_INTERVAL);
    }
    let mut lessor = Lessor::with_config(config);
    lessor
        .recover(&boot.backend)
        .map_err(|error| StartError::Panic {
            message: "failed to recover leases".into(),
            error: error.to_string(),
        })?;
    for (id, key) in attached {
        if lessor.attach(id, key).is_err() {
            tracing::error!("lease-id" = %format_args!("{id:016x}"), "failed to attach a lease");
        }
    }
    Ok(lessor)
}

/// How long transfers under way may hold up a stop.
const PEER_STOP: Duration = Duration::from_secs(1);

impl Running {
    /// Serves other members on this listener from now on.
    pub fn serve_peers(&self, listener: std::net::TcpListener) -> std::io::Result<()> {
        let transport = &self.member.peers.transport;
        let server = transport.server(Arc::new(ForPeers(Arc::clone(&self.member))));
        let listener = peer::Listener::Tcp(listener);
        // It ends with the transport.
        transport.listen(listener, Arc::new(peer::PlainAcceptor), &server)?;
        Ok(())
    }

    /// Hands leadership on before a stop, as far as there is anybody to take it.
    pub fn hand_over_leadership(&self) {
        self.peers.block_on(self.member.hand_over_leadership());
    }

    /// Stops the threads and closes the files; nothing acknowledged is lost. Frontends must be gone.
    pub fn stop(self) {
        self.member.begin_stop();
        self.signals.stop.notify_one();
        self.member.hub.shutdown();
        self.member.node.stop();
        self.member.peers.transport.stop();
        self.peers.stop(PEER_STOP);
        // The channel to the applier closes with the node; it finishes what it has.
        let _ = self.applier.join();
        let _ = self.background.join();
        if let Err(error) = self.member.backend.close() {
            tracing::error!(%error, "failed to close the database");
        }
    }
}

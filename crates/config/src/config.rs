use std::path::PathBuf;
use std::time::Duration;

use gotext::Url;

use crate::{FeatureGates, Flag, Origin, Settings, Value, table};

/// Everything the server can be told, with types and with defaults filled in.
///
/// What a flag does is told by `--help` and `docs/configuration.md`; the fields carry the names of
/// their flags. Durations below zero, which flags can hold, have become zero, which means the same.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`
    pub name: String,
    /// `--data-dir`, or `<name>.etcd`.
    pub data_dir: PathBuf,
    /// `--wal-dir`
    pub wal_dir: Option<PathBuf>,
    /// `--snapshot-count`; 0 means the default, which the server logs.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`; 0 means the default.
    pub snapshot_catchup_entries: u64,
    /// `--max-snapshots`; 0 keeps all.
    pub max_snapshots: u64,
    /// `--max-wals`; 0 keeps all.
    pub max_wals: u64,
    /// `--heartbeat-interval`
    pub heartbeat_interval: Duration,
    /// `--election-timeout`
    pub election_timeout: Duration,
    /// `--initial-election-tick-advance`
    pub initial_election_tick_advance: bool,
    /// `--listen-peer-urls`
    pub listen_peer_urls: Vec<Url>,
    /// `--listen-client-urls`
    pub listen_client_urls: Vec<Url>,
    /// `--listen-client-http-urls`
    pub listen_client_http_urls: Vec<Url>,
    /// `--listen-metrics-urls`
    pub listen_metrics_urls: Vec<Url>,
    /// `--initial-advertise-peer-urls`
    pub advertise_peer_urls: Vec<Url>,
    /// `--advertise-client-urls`
    pub advertise_client_urls: Vec<Url>,
    /// `--quota-backend-bytes` as given: 0 means 2 GiB, below 0 none.
    pub quota_backend_bytes: i64,
    /// The database.
    pub backend: BackendConfig,
    /// `--max-txn-ops`
    pub max_txn_ops: u64,
    /// `--max-request-bytes`
    pub max_request_bytes: u64,
    /// gRPC connections.
    pub grpc: GrpcConfig,
    /// `--socket-reuse-port`
    pub socket_reuse_port: bool,
    /// `--socket-reuse-address`
    pub socket_reuse_address: bool,
    /// `--raft-read-timeout`, at least 5 s.
    pub raft_read_timeout: Duration,
    /// `--raft-write-timeout`, at least 5 s.
    pub raft_write_timeout: Duration,
    /// `--memory-mlock`
    pub memory_mlock: bool,
    /// `--feature-gates`
    pub feature_gates: FeatureGates,
    /// `--initial-cluster` after the rules for its default; empty when a discovery is used.
    pub initial_cluster: String,
    /// `--initial-cluster-state`
    pub initial_cluster_state: ClusterState,
    /// `--initial-cluster-token`
    pub initial_cluster_token: String,
    /// `--discovery-*`
    pub discovery: DiscoveryConfig,
    /// `--discovery-srv`
    pub discovery_srv: String,
    /// `--discovery-srv-name`
    pub discovery_srv_name: String,
    /// `--strict-reconfig-check`
    pub strict_reconfig_check: bool,
    /// `--pre-vote`
    pub pre_vote: bool,
    /// `--auto-compaction-mode`
    pub auto_compaction_mode: CompactionMode,
    /// `--auto-compaction-retention` as given; see [`Config::auto_compaction`].
    pub auto_compaction_retention: String,
    /// Certificates of the client ports.
    pub client_tls: TlsConfig,
    /// Certificates of the peer port.
    pub peer_tls: TlsConfig,
    /// `--self-signed-cert-validity`
    pub self_signed_cert_validity_years: u64,
    /// `--cipher-suites`
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`; empty means TLS 1.2.
    pub tls_min_version: String,
    /// `--tls-max-version`; empty means the newest.
    pub tls_max_version: String,
    /// `--cors`
    pub cors: Vec<String>,
    /// `--host-whitelist`; empty means all.
    pub host_whitelist: Vec<String>,
    /// `--auth-token`
    pub auth_token: String,
    /// `--bcrypt-cost` as given; the server replaces a value outside 4..=31.
    pub bcrypt_cost: u64,
    /// `--auth-token-ttl`
    pub auth_token_ttl: Duration,
    /// `--enable-pprof`
    pub enable_pprof: bool,
    /// Whether `--metrics` is `extensive`.
    pub extensive_metrics: bool,
    /// The logging flags.
    pub logging: logging::Config,
    /// `--warning-unary-request-duration`
    pub warning_unary_request_duration: Duration,
    /// `--warning-apply-duration`
    pub warning_apply_duration: Duration,
    /// `--distributed-tracing-*`
    pub tracing: TracingConfig,
    /// `--enable-grpc-gateway`
    pub enable_grpc_gateway: bool,
    /// `--corrupt-check-time`; zero means never.
    pub corrupt_check_time: Duration,
    /// `--compact-hash-check-time`
    pub compact_hash_check_time: Duration,
    /// `--compaction-batch-limit`
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`
    pub compaction_sleep_interval: Duration,
    /// `--watch-progress-notify-interval`, before jitter and lower bound.
    pub watch_progress_notify_interval: Duration,
    /// `--bootstrap-defrag-threshold-megabytes`; 0 means never.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// `--max-learners`
    pub max_learners: usize,
    /// `--downgrade-check-time`; zero means never.
    pub downgrade_check_time: Duration,
    /// `--unsafe-no-fsync`
    pub unsafe_no_fsync: bool,
    /// `--force-new-cluster`
    pub force_new_cluster: bool,
    pub(crate) settings: Settings,
}

/// The database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// `--backend-batch-interval`
    pub batch_interval: Duration,
    /// `--backend-batch-limit`
    pub batch_limit: usize,
}

/// gRPC connections of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// `--max-concurrent-streams`
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`; zero enforces nothing.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`, when both are above zero.
    pub keepalive: Option<(Duration, Duration)>,
}

/// `--initial-cluster-state`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Found a cluster.
    New,
    /// Join one.
    Existing,
}

impl ClusterState {
    /// As the flag writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

/// `--auto-compaction-mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionMode {
    /// By time.
    Periodic,
    /// By number of revisions.
    Revision,
}

impl CompactionMode {
    /// As the flag writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Revision => "revision",
        }
    }
}

/// The discovery service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// `--discovery-endpoints`
    pub endpoints: Vec<String>,
    /// `--discovery-token`
    pub token: String,
    /// `--discovery-dial-timeout`
    pub dial_timeout: Duration,
    /// `--discovery-request-timeout`
    pub request_timeout: Duration,
    /// `--discovery-keepalive-time`
    pub keepalive_time: Duration,
    /// `--discovery-keepalive-timeout`
    pub keepalive_timeout: Duration,
    /// `--discovery-insecure-transport`
    pub insecure_transport: bool,
    /// `--discovery-insecure-skip-tls-verify`
    pub insecure_skip_tls_verify: bool,
    /// `--discovery-cert`
    pub cert: String,
    /// `--discovery-key`
    pub key: String,
    /// `--discovery-cacert`
    pub cacert: String,
    /// `--discovery-user`
    pub user: String,
    /// `--discovery-password`
    pub password: String,
}

/// Certificates of one kind of port. Empty texts mean: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `--[peer-]cert-file`
    pub cert_file: String,
    /// `--[peer-]key-file`
    pub key_file: String,
    /// `--[peer-]client-cert-file`
    pub client_cert_file: String,
    /// `--[peer-]client-key-file`
    pub client_key_file: String,
    /// `--[peer-]client-cert-auth`
    pub client_cert_auth: bool,
    /// `--[peer-]trusted-ca-file`
    pub trusted_ca_file: String,
    /// `--client-crl-file`, `--peer-crl-file`
    pub crl_file: String,
    /// `--peer-cert-allowed-cn`, and `allowed-cn` of a file for clients.
    pub allowed_cn: Vec<String>,
    /// `--[client|peer]-cert-allowed-hostname`
    pub allowed_hostname: Vec<String>,
    /// `--[peer-]auto-tls`
    pub auto_tls: bool,
    /// `--peer-skip-client-san-verification`
    pub skip_client_san_verification: bool,
}

/// Distributed tracing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// `--enable-distributed-tracing`
    pub enabled: bool,
    /// `--distributed-tracing-address`
    pub address: String,
    /// `--distributed-tracing-service-name`
    pub service_name: String,
    /// `--distributed-tracing-instance-id`
    pub instance_id: String,
    /// `--distributed-tracing-sampling-rate`, per million.
    pub sampling_rate: i64,
}

impl Config {
    /// Whether a user gave this flag, in whatever way. For flags the server does not implement: it
    /// must not ignore them silently.
    ///
    /// # Panics
    /// If there is no such flag.
    pub fn set_by_user(&self, flag: &str) -> bool {
        self.settings.is_set(flag)
    }

    /// Where the value of a flag comes from.
    ///
    /// # Panics
    /// If there is no such flag.
    pub fn origin(&self, flag: &str) -> Origin {
        self.settings.origin(flag)
    }

    /// The flags a user gave, in the order of the help.
    pub fn user_flags(&self) -> impl Iterator<Item = &'static Flag> + '_ {
        table::flags().filter(|flag| self.settings.is_set(flag.name))
    }

    /// Where WAL segments are: `--wal-dir`, or below the data directory.
    pub fn wal_path(&self) -> PathBuf {
        self.wal_dir
            .clone()
            .unwrap_or_else(|| self.member_dir().join("wal"))
    }

    /// `<data-dir>/member`
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// `<data-dir>/member/snap`
    pub fn snap_dir(&self) -> PathBuf {
        self.member_dir().join("snap")
    }

    /// Heartbeats in an election timeout.
    pub fn election_ticks(&self) -> usize {
        (self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1)) as usize
    }

    /// Time a request may take: 5 s and two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// When the machine has a default address and this member listens on all addresses without
    /// advertising one, that address is advertised; `true` if it was.
    pub fn use_default_host(&mut self, host: &str) -> bool {
        let mut used = false;
        for (listen, advertised, default) in [
            (
                &self.listen_peer_urls,
                &mut self.advertise_peer_urls,
                "http://localhost:2380",
            ),
            (
                &self.listen_client_urls,
                &mut self.advertise_client_urls,
                "http://localhost:2379",
            ),
        ] {
            let ([first, ..], [only]) = (&listen[..], &mut advertised[..]) else {
                continue;
            };
            if first.hostname() == "0.0.0.0" && only.to_string() == default {
                only.host = gotext::join_host_port(host, first.port());
                used = true;
            }
        }
        self.fill_initial_cluster();
        used
    }

    /// An initial cluster that was left alone follows name and peer URLs, but only when the member
    /// has a name of its own.
    pub(crate) fn fill_initial_cluster(&mut self) {
        let is_default = |flag| !self.settings.is_set(flag);
        let default = table::find("initial-cluster").map_or("", |f| f.default);
        let untouched = is_default("initial-cluster")
            || *self.settings.value("initial-cluster") == Value::Text(default.to_owned());
        if self.name == "default" || self.initial_cluster.is_empty() || !untouched {
            return;
        }
        let name = if self.name.is_empty() {
            "default"
        } else {
            &self.name
        };
        let pairs: Vec<String> = self
            .advertise_peer_urls
            .iter()
            .map(|url| format!("{name}={url}"))
            .collect();
        self.initial_cluster = pairs.join(",");
    }
}

use std::time::Duration;

use crate::{
    BackendConfig, ClusterState, CompactionMode, Config, DiscoveryConfig, GrpcConfig, Origin,
    Settings, TlsConfig, TracingConfig, Value,
};

/// Puts checked settings into their fields. `logging` was made from them before.
pub(crate) fn build(settings: Settings, logging: logging::Config) -> Config {
    let s = &settings;
    let name = s.text("name");
    let data_dir = match s.text("data-dir") {
        dir if dir.is_empty() => format!("{name}.etcd"),
        dir => dir,
    };
    let wal_dir = s.text("wal-dir");
    let state = s.text("initial-cluster-state");
    let mode = s.text("auto-compaction-mode");
    let mut config = Config {
        data_dir: data_dir.into(),
        wal_dir: (!wal_dir.is_empty()).then(|| wal_dir.into()),
        snapshot_count: s.unsigned("snapshot-count"),
        snapshot_catchup_entries: s.unsigned("snapshot-catchup-entries"),
        max_snapshots: s.unsigned("max-snapshots"),
        max_wals: s.unsigned("max-wals"),
        heartbeat_interval: Duration::from_millis(s.unsigned("heartbeat-interval")),
        election_timeout: Duration::from_millis(s.unsigned("election-timeout")),
        initial_election_tick_advance: s.flag("initial-election-tick-advance"),
        listen_peer_urls: s.urls("listen-peer-urls"),
        listen_client_urls: s.urls("listen-client-urls"),
        listen_client_http_urls: s.urls("listen-client-http-urls"),
        listen_metrics_urls: s.urls("listen-metrics-urls"),
        advertise_peer_urls: s.urls("initial-advertise-peer-urls"),
        advertise_client_urls: s.urls("advertise-client-urls"),
        quota_backend_bytes: s.signed("quota-backend-bytes"),
        backend: BackendConfig {
            batch_interval: or_default(s.nanos("backend-batch-interval"), 100_000_000),
            batch_limit: count_or_default(s.signed("backend-batch-limit"), 10_000),
        },
        max_txn_ops: s.unsigned("max-txn-ops"),
        max_request_bytes: s.unsigned("max-request-bytes"),
        grpc: grpc(s),
        socket_reuse_port: s.flag("socket-reuse-port"),
        socket_reuse_address: s.flag("socket-reuse-address"),
        raft_read_timeout: duration(s.nanos("raft-read-timeout")),
        raft_write_timeout: duration(s.nanos("raft-write-timeout")),
        memory_mlock: s.flag("memory-mlock"),
        feature_gates: match s.value("feature-gates") {
            Value::Gates(gates) => gates.clone(),
            _ => crate::FeatureGates::default(),
        },
        initial_cluster: initial_cluster(s),
        initial_cluster_state: match state.as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        initial_cluster_token: s.text("initial-cluster-token"),
        discovery: discovery(s),
        discovery_srv: s.text("discovery-srv"),
        discovery_srv_name: s.text("discovery-srv-name"),
        strict_reconfig_check: s.flag("strict-reconfig-check"),
        pre_vote: s.flag("pre-vote"),
        auto_compaction_mode: match mode.as_str() {
            "revision" => CompactionMode::Revision,
            _ => CompactionMode::Periodic,
        },
        auto_compaction_retention: s.text("auto-compaction-retention"),
        client_tls: client_tls(s),
        peer_tls: peer_tls(s),
        self_signed_cert_validity_years: validity(s),
        cipher_suites: non_empty(s.texts("cipher-suites")),
        tls_min_version: s.text("tls-min-version"),
        tls_max_version: s.text("tls-max-version"),
        cors: s.texts("cors"),
        host_whitelist: non_empty(s.texts("host-whitelist")),
        auth_token: s.text("auth-token"),
        bcrypt_cost: s.unsigned("bcrypt-cost"),
        auth_token_ttl: Duration::from_secs(s.unsigned("auth-token-ttl")),
        enable_pprof: s.flag("enable-pprof"),
        extensive_metrics: s.text("metrics") == "extensive",
        logging,
        warning_unary_request_duration: or_default(
            s.nanos("warning-unary-request-duration"),
            300_000_000,
        ),
        warning_apply_duration: duration(s.nanos("warning-apply-duration")),
        tracing: tracing(s),
        enable_grpc_gateway: s.flag("enable-grpc-gateway"),
        corrupt_check_time: duration(s.nanos("corrupt-check-time")),
        compact_hash_check_time: duration(s.nanos("compact-hash-check-time")),
        compaction_batch_limit: count_or_default(s.signed("compaction-batch-limit"), 1000),
        compaction_sleep_interval: or_default(s.nanos("compaction-sleep-interval"), 10_000_000),
        watch_progress_notify_interval: or_default(
            s.nanos("watch-progress-notify-interval"),
            600_000_000_000,
        ),
        bootstrap_defrag_threshold_megabytes: s.unsigned("bootstrap-defrag-threshold-megabytes"),
        max_learners: s.signed("max-learners").max(0) as usize,
        downgrade_check_time: duration(s.nanos("downgrade-check-time")),
        unsafe_no_fsync: s.flag("unsafe-no-fsync"),
        force_new_cluster: s.flag("force-new-cluster"),
        name,
        settings,
    };
    config.fill_initial_cluster();
    config
}

/// A discovery takes the place of an initial cluster that nobody gave.
pub(crate) fn initial_cluster(s: &Settings) -> String {
    let from_file = s.origin("config-file") == Origin::File;
    let discovers = !s.text("discovery-srv").is_empty()
        || !s.texts("discovery-endpoints").is_empty()
        // Only the command line goes by these two.
        || !from_file && !s.text("discovery-srv-name").is_empty()
        || !from_file && !s.text("discovery-token").is_empty();
    if discovers && !s.is_set("initial-cluster") {
        return String::new();
    }
    s.text("initial-cluster")
}

fn grpc(s: &Settings) -> GrpcConfig {
    let interval = duration(s.nanos("grpc-keepalive-interval"));
    let timeout = duration(s.nanos("grpc-keepalive-timeout"));
    let both = !interval.is_zero() && !timeout.is_zero();
    GrpcConfig {
        max_concurrent_streams: u32::try_from(s.unsigned("max-concurrent-streams"))
            .unwrap_or(u32::MAX),
        keepalive_min_time: duration(s.nanos("grpc-keepalive-min-time")),
        keepalive: both.then_some((interval, timeout)),
    }
}

fn discovery(s: &Settings) -> DiscoveryConfig {
    DiscoveryConfig {
        endpoints: s.texts("discovery-endpoints"),
        token: s.text("discovery-token"),
        dial_timeout: duration(s.nanos("discovery-dial-timeout")),
        request_timeout: duration(s.nanos("discovery-request-timeout")),
        keepalive_time: duration(s.nanos("discovery-keepalive-time")),
        keepalive_timeout: duration(s.nanos("discovery-keepalive-timeout")),
        insecure_transport: s.flag("discovery-insecure-transport"),
        insecure_skip_tls_verify: s.flag("discovery-insecure-skip-tls-verify"),
        cert: s.text("discovery-cert"),
        key: s.text("discovery-key"),
        cacert: s.text("discovery-cacert"),
        user: s.text("discovery-user"),
        password: s.text("discovery-password"),
    }
}

fn client_tls(s: &Settings) -> TlsConfig {
    TlsConfig {
        cert_file: s.text("cert-file"),
        key_file: s.text("key-file"),
        client_cert_file: s.text("client-cert-file"),
        client_key_file: s.text("client-key-file"),
        client_cert_auth: s.flag("client-cert-auth"),
        trusted_ca_file: s.text("trusted-ca-file"),
        crl_file: s.text("client-crl-file"),
        allowed_cn: non_empty(s.texts("client-cert-allowed-cn")),
        allowed_hostname: non_empty(s.texts("client-cert-allowed-hostname")),
        auto_tls: s.flag("auto-tls"),
        skip_client_san_verification: s.flag("client-skip-client-san-verification"),
    }
}

fn peer_tls(s: &Settings) -> TlsConfig {
    TlsConfig {
        cert_file: s.text("peer-cert-file"),
        key_file: s.text("peer-key-file"),
        client_cert_file: s.text("peer-client-cert-file"),
        client_key_file: s.text("peer-client-key-file"),
        client_cert_auth: s.flag("peer-client-cert-auth"),
        trusted_ca_file: s.text("peer-trusted-ca-file"),
        crl_file: s.text("peer-crl-file"),
        allowed_cn: non_empty(s.texts("peer-cert-allowed-cn")),
        allowed_hostname: non_empty(s.texts("peer-cert-allowed-hostname")),
        auto_tls: s.flag("peer-auto-tls"),
        skip_client_san_verification: s.flag("peer-skip-client-san-verification"),
    }
}

fn tracing(s: &Settings) -> TracingConfig {
    TracingConfig {
        enabled: s.flag("enable-distributed-tracing"),
        address: s.text("distributed-tracing-address"),
        service_name: s.text("distributed-tracing-service-name"),
        instance_id: s.text("distributed-tracing-instance-id"),
        sampling_rate: s.signed("distributed-tracing-sampling-rate"),
    }
}

/// Zero years are an error as a flag, but mean the default in a file.
fn validity(s: &Settings) -> u64 {
    match (
        s.unsigned("self-signed-cert-validity"),
        s.origin("self-signed-cert-validity"),
    ) {
        (0, Origin::File) => 1,
        (years, _) => years,
    }
}

pub(crate) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.max(0) as u64)
}

fn or_default(nanos: i64, default: u64) -> Duration {
    if nanos > 0 {
        duration(nanos)
    } else {
        Duration::from_nanos(default)
    }
}

fn count_or_default(count: i64, default: usize) -> usize {
    if count > 0 { count as usize } else { default }
}

fn non_empty(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

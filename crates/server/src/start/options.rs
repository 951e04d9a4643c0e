//! From the configuration to what the server is started with, and what it cannot do yet.

use config::{ClusterState, Config, Feature};

use super::boot::BootOptions;
use super::launch::LaunchOptions;
use super::program::ProgramOptions;
use crate::net;

/// Flags whose meaning this server does not implement yet and whose absence a user must not find out by surprise:
/// it refuses to start when one of them is set.
const REFUSED: &[&str] = &[
    "auto-tls",
    "cert-file",
    "client-cert-allowed-hostname",
    "client-cert-auth",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "corrupt-check-time",
    "discovery-endpoints",
    "discovery-srv",
    "discovery-token",
    "force-new-cluster",
    "key-file",
    "peer-auto-tls",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-cert-file",
    "peer-client-cert-auth",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-crl-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "trusted-ca-file",
];

/// Flags that change nothing yet and without which a member is as safe as with them: a warning is enough.
const WARNED: &[&str] = &[
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-pprof",
    "grpc-keepalive-min-time",
    "metrics",
];

/// Why this configuration cannot be run by this server yet, if so; warns of what has no effect.
pub(super) fn check_supported(config: &Config) -> Result<(), String> {
    for flag in WARNED {
        if config.set_by_user(flag) {
            tracing::warn!(flag, "this option has no effect in this release");
        }
    }
    if let Some(flag) = REFUSED.iter().find(|flag| config.set_by_user(flag)) {
        return Err(format!("--{flag} is not supported by this release"));
    }
    let mut urls = config
        .listen_peer_urls
        .iter()
        .chain(&config.listen_client_urls)
        .chain(&config.listen_client_http_urls)
        .chain(&config.listen_metrics_urls);
    if let Some(url) = urls.find(|url| url.scheme != "http") {
        return Err(format!(
            "listening on {url} is not supported by this release: only http is"
        ));
    }
    for feature in [Feature::InitialCorruptCheck, Feature::CompactHashCheck] {
        if config.feature_gates.is_enabled(feature) {
            tracing::warn!(gate = ?feature, "this feature has no effect in this release");
        }
    }
    Ok(())
}

/// What the server is started with.
pub(super) fn program_options(config: &Config) -> Result<ProgramOptions, String> {
    let texts = |urls: &[gotext::Url]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    let keepalive = config.grpc.keepalive.unwrap_or_default();
    Ok(ProgramOptions {
        boot: boot_options(config),
        launch: LaunchOptions {
            name: config.name.clone(),
            advertise_client_urls: texts(&config.advertise_client_urls),
            advertise_peer_urls: texts(&config.advertise_peer_urls),
            heartbeat: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            pre_vote: config.pre_vote,
            initial_election_tick_advance: config.initial_election_tick_advance,
            strict_reconfig_check: config.strict_reconfig_check,
            max_request_bytes: config.max_request_bytes as usize,
            max_txn_ops: config.max_txn_ops as usize,
            quota_backend_bytes: config.quota_backend_bytes,
            snapshot_count: or_default(config.snapshot_count, 10_000),
            snapshot_catchup_entries: or_default(config.snapshot_catchup_entries, 5000),
            max_snapshots: config.max_snapshots as usize,
            max_wals: config.max_wals as usize,
            compaction_batch_limit: config.compaction_batch_limit,
            compaction_sleep: config.compaction_sleep_interval,
            lease_checkpoint: config.feature_gates.is_enabled(Feature::LeaseCheckpoint),
            auto_compaction: config.auto_compaction()?,
            auth_token: config.auth_token.clone(),
            auth_token_ttl: config.auth_token_ttl,
            // Too large a number is as wrong as any other, and replaced like it.
            bcrypt_cost: u32::try_from(config.bcrypt_cost).unwrap_or(u32::MAX),
        },
        listen_peer_urls: config.listen_peer_urls.clone(),
        listen_client_urls: config.listen_client_urls.clone(),
        listen_client_http_urls: config.listen_client_http_urls.clone(),
        listen_metrics_urls: config.listen_metrics_urls.clone(),
        cors: config.cors.clone(),
        host_whitelist: config.host_whitelist.clone(),
        watch_progress_interval: config.watch_progress_notify_interval,
        connection: net::Options {
            max_concurrent_streams: config.grpc.max_concurrent_streams,
            keepalive_interval: keepalive.0,
            keepalive_timeout: keepalive.1,
        },
        frontends: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

fn boot_options(config: &Config) -> BootOptions {
    BootOptions {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        initial_cluster: config.initial_cluster.clone(),
        initial_cluster_token: config.initial_cluster_token.clone(),
        initial_advertise_peer_urls: config.advertise_peer_urls.clone(),
        existing: config.initial_cluster_state == ClusterState::Existing,
        dial_timeout: super::launch::dial_timeout(config.election_timeout),
        quota_backend_bytes: config.quota_backend_bytes,
        backend_batch_limit: config.backend.batch_limit,
        backend_batch_interval: config.backend.batch_interval,
        bootstrap_defrag_threshold_bytes: config.bootstrap_defrag_threshold_megabytes << 20,
        max_learners: config.max_learners,
        unsafe_no_fsync: config.unsafe_no_fsync,
        memory_mlock: config.memory_mlock,
    }
}

fn or_default(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

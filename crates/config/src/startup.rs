use gotext::{Url, format_nanos};
use logging::{Level, Record, Value};

use crate::compaction::retention;
use crate::help::go_arch;
use crate::{Config, Version};

const DEFAULT_QUOTA: i64 = 2 << 30;

impl Config {
    /// The record `starting an etcd server`: the whole configuration, with etcd's names in etcd's
    /// order.
    ///
    /// `member_initialized`: a WAL was found. `local_address`: where connections to peers come from,
    /// empty if it does not matter. `cpus`: used and available ones.
    pub fn startup_record(
        &self,
        version: &Version<'_>,
        member_initialized: bool,
        local_address: &str,
        cpus: (usize, usize),
    ) -> Record {
        let record = Record::new(Level::Info, "starting an etcd server")
            .field("etcd-version", version.release)
            .field("git-sha", version.commit)
            .field("go-version", version.compiler)
            .field("go-os", std::env::consts::OS)
            .field("go-arch", go_arch())
            .field("max-cpu-set", cpus.0)
            .field("max-cpu-available", cpus.1)
            .field("member-initialized", member_initialized)
            .field("name", self.name.clone());
        let record = self.member_fields(record);
        let record = self.cluster_fields(record, member_initialized, local_address);
        let record = self.limit_fields(record);
        self.discovery_fields(record)
            .field("downgrade-check-interval", self.downgrade_check_time)
            .field("max-learners", self.max_learners)
            .field("v2-deprecation", "write-only")
    }

    fn member_fields(&self, record: Record) -> Record {
        let path = |path: &std::path::Path| path.display().to_string();
        let wal_dir = self.wal_dir.as_deref().map(path).unwrap_or_default();
        record
            .field("data-dir", path(&self.data_dir))
            .field("wal-dir", wal_dir.clone())
            .field("wal-dir-dedicated", wal_dir)
            .field("member-dir", path(&self.member_dir()))
            .field("force-new-cluster", self.force_new_cluster)
            .field("heartbeat-interval", self.heartbeat_interval)
            .field("election-timeout", self.election_timeout)
            .field(
                "initial-election-tick-advance",
                self.initial_election_tick_advance,
            )
            .field("snapshot-count", self.snapshot_count)
            .field("max-wals", self.max_wals)
            .field("max-snapshots", self.max_snapshots)
            .field("snapshot-catchup-entries", self.snapshot_catchup_entries)
    }

    fn cluster_fields(&self, record: Record, initialized: bool, local_address: &str) -> Record {
        record
            .field(
                "initial-advertise-peer-urls",
                urls(&self.advertise_peer_urls),
            )
            .field("listen-peer-urls", urls(&self.listen_peer_urls))
            .field("advertise-client-urls", urls(&self.advertise_client_urls))
            .field("listen-client-urls", urls(&self.listen_client_urls))
            .field("listen-metrics-urls", urls(&self.listen_metrics_urls))
            .field("local-address", local_address)
            .field("cors", Value::json(&self.cors))
            .field("host-whitelist", Value::json(&self.host_whitelist))
            .field(
                "initial-cluster",
                if initialized {
                    String::new()
                } else {
                    self.initial_cluster.clone()
                },
            )
            .field("initial-cluster-state", self.initial_cluster_state.name())
            .field("initial-cluster-token", self.initial_cluster_token.clone())
    }

    fn limit_fields(&self, record: Record) -> Record {
        let quota = match self.quota_backend_bytes {
            0 => DEFAULT_QUOTA,
            bytes => bytes,
        };
        let mode = self.auto_compaction_mode;
        let nanos = retention(mode, &self.auto_compaction_retention).unwrap_or_default();
        record
            .field("quota-backend-bytes", quota)
            .field("max-request-bytes", self.max_request_bytes)
            .field("max-concurrent-streams", self.grpc.max_concurrent_streams)
            .field("pre-vote", self.pre_vote)
            .field("feature-gates", self.feature_gates.to_string())
            // Always false, as in etcd; the gate is what counts.
            .field("initial-corrupt-check", false)
            .field("corrupt-check-time-interval", self.corrupt_check_time)
            .field("compact-check-time-interval", self.compact_hash_check_time)
            .field("auto-compaction-mode", mode.name())
            .field("auto-compaction-retention", format_nanos(nanos))
            .field("auto-compaction-interval", format_nanos(nanos))
    }

    fn discovery_fields(&self, record: Record) -> Record {
        let discovery = &self.discovery;
        record
            .field("discovery-token", discovery.token.clone())
            .field("discovery-endpoints", discovery.endpoints.join(","))
            .field("discovery-dial-timeout", discovery.dial_timeout)
            .field("discovery-request-timeout", discovery.request_timeout)
            .field("discovery-keepalive-time", discovery.keepalive_time)
            .field("discovery-keepalive-timeout", discovery.keepalive_timeout)
            .field("discovery-insecure-transport", discovery.insecure_transport)
            .field(
                "discovery-insecure-skip-tls-verify",
                discovery.insecure_skip_tls_verify,
            )
            .field("discovery-cert", discovery.cert.clone())
            .field("discovery-key", discovery.key.clone())
            .field("discovery-cacert", discovery.cacert.clone())
            .field("discovery-user", discovery.user.clone())
    }
}

fn urls(urls: &[Url]) -> Value {
    Value::json(&urls.iter().map(ToString::to_string).collect::<Vec<_>>())
}

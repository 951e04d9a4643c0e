//! What `/metrics` tells, under the names dashboards know.
//!
//! Counters are resolved once and then only counted; nothing on the way of a request looks up a label, except a
//! client's version that was not seen before. Gauges are read from the member when someone asks.

mod buckets;
mod grpc;
mod process;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::frontend::{Frontend, Gauges};
use buckets::{COMMIT, DEFRAG, DISK, HASH, SNAPSHOT, SNAPSHOT_SAVE, TTL};

pub use grpc::{GrpcMetrics, Tally};

/// All metrics of a member.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Calls.
    pub grpc: GrpcMetrics,
    /// Requests and raft.
    pub server: ServerMetrics,
    /// Keys.
    pub mvcc: MvccMetrics,
    /// WAL and database file.
    pub disk: DiskMetrics,
    /// Leases.
    pub lease: LeaseMetrics,
    readings: Readings,
}

/// `etcd_server_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct ServerMetrics {
    pub proposals_failed: IntCounter,
    pub slow_apply: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub heartbeat_send_failures: IntCounter,
    pub lease_expired: IntCounter,
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    /// Labels version ("v3"), op, success; resolve once per op.
    pub apply_duration: HistogramVec,
    /// Label success; resolve once.
    pub range_duration: HistogramVec,
    /// Labels type, success; resolve once per type.
    pub request_duration: HistogramVec,
    /// Labels type (livez, readyz), name: result of the last check.
    pub healthcheck: IntGaugeVec,
    /// Labels type, name, status.
    pub healthchecks: IntCounterVec,
    client_requests: IntCounterVec,
    client_versions: RwLock<BTreeMap<(&'static str, String), IntCounter>>,
}

/// `etcd_mvcc_*` and `etcd_debugging_mvcc_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct MvccMetrics {
    pub puts: IntCounter,
    pub deletes: IntCounter,
    pub ranges: IntCounter,
    pub txns: IntCounter,
    pub events: IntCounter,
    pub hash_duration: Histogram,
    pub hash_rev_duration: Histogram,
    pub compaction_keys: IntCounter,
}

/// `etcd_disk_*` and `etcd_snap_*`: what is counted as it happens; durations in seconds.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct DiskMetrics {
    pub wal_fsync_duration: Histogram,
    pub wal_write_duration: Histogram,
    pub wal_write_bytes: IntGauge,
    pub backend_commit_duration: Histogram,
    pub backend_defrag_duration: Histogram,
    pub backend_snapshot_duration: Histogram,
    pub defrag_inflight: IntGauge,
    pub snap_fsync_duration: Histogram,
    pub snap_db_fsync_duration: Histogram,
    pub snap_db_save_duration: Histogram,
}

/// `etcd_debugging_lease_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct LeaseMetrics {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    pub renewed: IntCounter,
    /// Granted TTLs in seconds.
    pub ttl: Histogram,
}

/// Clients can name any version; beyond so many, they share a label.
const MAX_CLIENT_VERSIONS: usize = 64;

impl Metrics {
    /// Registers everything; `server_version` is the program's, `member_id` this member's.
    pub fn new(server_version: &str, member_id: u64) -> Self {
        let registry = Registry::new();
        let maker = Maker(&registry);
        let constant = |name, help, label: &str, value: &str| {
            maker
                .gauge_vec(name, help, &[label])
                .with_label_values(&[value])
                .set(1);
        };
        constant(
            "etcd_server_version",
            "Version of the program.",
            "server_version",
            server_version,
        );
        let id = format!("{member_id:x}");
        constant(
            "etcd_server_id",
            "Id of this member in hexadecimal.",
            "server_id",
            &id,
        );
        Self {
            grpc: GrpcMetrics::new(&maker),
            server: ServerMetrics::new(&maker),
            mvcc: MvccMetrics::new(&maker),
            disk: DiskMetrics::new(&maker),
            lease: LeaseMetrics::new(&maker),
            readings: Readings::new(&maker, id),
            registry,
        }
    }

    /// Everything as text in Prometheus' format 0.0.4.
    pub fn render(&self, member: &impl Frontend) -> String {
        self.readings.update(member);
        let families = self.registry.gather();
        // It writes to a string: only a family without a name could fail.
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

impl ServerMetrics {
    fn new(maker: &Maker<'_>) -> Self {
        let counter = |name: &str, help| maker.counter(&format!("etcd_server_{name}"), help);
        Self {
            proposals_failed: counter("proposals_failed_total", "Proposals that failed."),
            slow_apply: counter(
                "slow_apply_total",
                "Requests whose application took too long.",
            ),
            slow_read_indexes: counter(
                "slow_read_indexes_total",
                "Read indexes that took too long.",
            ),
            read_indexes_failed: counter("read_indexes_failed_total", "Read indexes that failed."),
            heartbeat_send_failures: counter(
                "heartbeat_send_failures_total",
                "Heartbeats that left late, most likely because of a slow disk.",
            ),
            lease_expired: maker.counter(
                "etcd_debugging_server_lease_expired_total",
                "Leases that expired.",
            ),
            health_success: counter("health_success", "Times /health was good."),
            health_failures: counter("health_failures", "Times /health was bad."),
            apply_duration: maker.histogram_vec(
                "etcd_server_apply_duration_seconds",
                "Time it took to apply a request.",
                &["version", "op", "success"],
                COMMIT,
            ),
            range_duration: maker.histogram_vec(
                "etcd_server_range_duration_seconds",
                "Time it took to read a range.",
                &["success"],
                COMMIT,
            ),
            request_duration: maker.histogram_vec(
                "etcd_server_request_duration_seconds",
                "Time from a request's arrival to its answer.",
                &["type", "success"],
                DISK,
            ),
            healthcheck: maker.gauge_vec(
                "etcd_server_healthcheck",
                "Result of the last check, 1 is good.",
                &["type", "name"],
            ),
            healthchecks: maker.counter_vec(
                "etcd_server_healthchecks_total",
                "Health checks.",
                &["type", "name", "status"],
            ),
            client_requests: maker.counter_vec(
                "etcd_server_client_requests_total",
                "Requests by the version clients say they have.",
                &["type", "client_api_version"],
            ),
            client_versions: RwLock::default(),
        }
    }

    /// Counts a request of `kind` ("unary" or "stream") by a client of a version.
    pub fn count_client(&self, kind: &'static str, version: &str) {
        // Keys are few; comparing them costs less than hashing labels.
        let known = self
            .client_versions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|((k, v), _)| *k == kind && v == version);
        if let Some((_, counter)) = found {
            counter.inc();
            return;
        }
        let full = known.len() >= MAX_CLIENT_VERSIONS;
        drop(known);
        let version = if full { "other" } else { version };
        let counter = self.client_requests.with_label_values(&[kind, version]);
        counter.inc();
        if !full {
            let mut known = self
                .client_versions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            known.insert((kind, version.to_owned()), counter);
        }
    }
}

impl MvccMetrics {
    fn new(maker: &Maker<'_>) -> Self {
        let counter = |name: &str, help| maker.counter(&format!("etcd_{name}"), help);
        Self {
            puts: counter("mvcc_put_total", "Puts."),
            deletes: counter("mvcc_delete_total", "Deletes."),
            ranges: counter("mvcc_range_total", "Ranges."),
            txns: counter("mvcc_txn_total", "Transactions."),
            events: counter("debugging_mvcc_events_total", "Events sent to watchers."),
            hash_duration: maker.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Time it took to hash the whole database.",
                HASH,
            ),
            hash_rev_duration: maker.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time it took to hash the keys at a revision.",
                HASH,
            ),
            compaction_keys: counter(
                "debugging_mvcc_db_compaction_keys_total",
                "Records deleted by compactions.",
            ),
        }
    }
}

impl DiskMetrics {
    fn new(maker: &Maker<'_>) -> Self {
        let seconds = |name: &str, help, buckets| {
            maker.histogram(&format!("etcd_{name}_duration_seconds"), help, buckets)
        };
        Self {
            wal_fsync_duration: seconds("disk_wal_fsync", "Time it took to sync the WAL.", DISK),
            wal_write_duration: seconds(
                "disk_wal_write",
                "Time it took to write to the WAL.",
                DISK,
            ),
            wal_write_bytes: maker.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the WAL.",
            ),
            backend_commit_duration: seconds(
                "disk_backend_commit",
                "Time it took to commit to the database file.",
                DISK,
            ),
            backend_defrag_duration: seconds(
                "disk_backend_defrag",
                "Time it took to defragment the database file.",
                DEFRAG,
            ),
            backend_snapshot_duration: seconds(
                "disk_backend_snapshot",
                "Time it took to send the database to a client.",
                SNAPSHOT,
            ),
            defrag_inflight: maker.gauge(
                "etcd_disk_defrag_inflight",
                "1 while the database file is defragmented.",
            ),
            snap_fsync_duration: seconds("snap_fsync", "Time it took to sync a .snap file.", DISK),
            snap_db_fsync_duration: seconds(
                "snap_db_fsync",
                "Time it took to sync a received database.",
                DISK,
            ),
            snap_db_save_duration: seconds(
                "snap_db_save_total",
                "Time it took to receive a database.",
                SNAPSHOT_SAVE,
            ),
        }
    }
}

impl LeaseMetrics {
    fn new(maker: &Maker<'_>) -> Self {
        let counter =
            |name: &str, help| maker.counter(&format!("etcd_debugging_lease_{name}"), help);
        Self {
            granted: counter("granted_total", "Leases granted."),
            revoked: counter("revoked_total", "Leases revoked."),
            renewed: counter("renewed_total", "Renewals by the leader."),
            ttl: maker.histogram(
                "etcd_debugging_lease_ttl_total",
                "TTLs of leases in seconds.",
                TTL,
            ),
        }
    }
}

/// Gauges that are read from the member on demand.
#[derive(Debug)]
struct Readings {
    member_id: String,
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    leader_changes: IntCounter,
    /// Metric and what it reads.
    plain: Vec<PlainReading>,
    cluster_version: IntGaugeVec,
    alarms: IntGaugeVec,
    process: process::ProcessMetrics,
}

impl Readings {
    fn new(maker: &Maker<'_>, member_id: String) -> Self {
        let server = |name: &str, help| maker.gauge(&format!("etcd_server_{name}"), help);
        Self {
            member_id,
            has_leader: server("has_leader", "1 if there is a leader."),
            is_leader: server("is_leader", "1 if this member leads."),
            is_learner: server("is_learner", "1 if this member is a learner."),
            leader_changes: maker.counter(
                "etcd_server_leader_changes_seen_total",
                "Times this member saw the leader change.",
            ),
            plain: plain_readings(maker),
            cluster_version: maker.gauge_vec(
                "etcd_cluster_version",
                "Version of the cluster: 1 for the current one, 0 for earlier ones.",
                &["cluster_version"],
            ),
            alarms: maker.gauge_vec(
                "etcd_debugging_server_alarms",
                "1 while the alarm is raised.",
                &["server_id", "alarm_type"],
            ),
            process: process::ProcessMetrics::new(maker),
        }
    }

    fn update(&self, member: &impl Frontend) {
        let gauges = member.gauges();
        self.has_leader.set(member.has_leader().into());
        self.is_leader.set(member.is_leader().into());
        self.is_learner.set(member.is_learner().into());
        self.leader_changes.inc_by(
            gauges
                .leader_changes
                .saturating_sub(self.leader_changes.get()),
        );
        for (gauge, read) in &self.plain {
            gauge.set(read(&gauges));
        }
        let version = member.versions().cluster;
        if let Some((minor, _)) = version.rsplit_once('.') {
            self.cluster_version.with_label_values(&[minor]).set(1);
        }
        self.alarms.reset();
        for alarm in member.alarms() {
            let id = format!("{:x}", alarm.member_id);
            if id == self.member_id {
                self.alarms
                    .with_label_values(&[&*id, alarm.alarm().as_str_name()])
                    .set(1);
            }
        }
        self.process.update();
    }
}

type PlainReading = (IntGauge, fn(&Gauges) -> i64);

fn plain_readings(maker: &Maker<'_>) -> Vec<PlainReading> {
    type Row = (&'static str, &'static str, fn(&Gauges) -> i64);
    let table: [Row; 15] = [
        (
            "server_proposals_committed_total",
            "Last committed entry.",
            |g| g.committed as i64,
        ),
        (
            "server_proposals_applied_total",
            "Last applied entry.",
            |g| g.applied as i64,
        ),
        ("server_proposals_pending", "Proposals that wait.", |g| {
            g.proposals_pending as i64
        }),
        (
            "server_quota_backend_bytes",
            "Limit of the database file.",
            |g| g.quota_bytes,
        ),
        (
            "server_snapshot_apply_in_progress_total",
            "1 while a snapshot is applied.",
            |_| 0,
        ),
        (
            "mvcc_db_total_size_in_bytes",
            "Allocated bytes of the database file.",
            |g| g.db_size as i64,
        ),
        (
            "mvcc_db_total_size_in_use_in_bytes",
            "Bytes of the database file in use.",
            |g| g.db_size_in_use as i64,
        ),
        (
            "mvcc_db_open_read_transactions",
            "Open read transactions.",
            |g| g.open_reads as i64,
        ),
        (
            "debugging_mvcc_current_revision",
            "Revision of the store.",
            |g| g.current_revision,
        ),
        (
            "debugging_mvcc_compact_revision",
            "Last compacted revision.",
            |g| g.compact_revision,
        ),
        ("debugging_mvcc_keys_total", "Keys in the index.", |g| {
            g.keys as i64
        }),
        ("debugging_mvcc_watch_stream_total", "Watch streams.", |g| {
            g.watch_streams as i64
        }),
        ("debugging_mvcc_watcher_total", "Watchers.", |g| {
            g.watchers as i64
        }),
        (
            "debugging_mvcc_slow_watcher_total",
            "Watchers that lag.",
            |g| g.slow_watchers as i64,
        ),
        (
            "debugging_mvcc_pending_events_total",
            "Events to be sent.",
            |g| g.pending_events as i64,
        ),
    ];
    table
        .into_iter()
        .map(|(name, help, read)| (maker.gauge(&format!("etcd_{name}"), help), read))
        .collect()
}

/// Makes registered metrics. Names are constants of this module, so a refusal is a mistake in it that the first
/// test finds.
struct Maker<'a>(&'a Registry);

const CONSISTENT: &str = "metrics have valid, unique names";

impl Maker<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<C>,
    ) -> C {
        let metric = metric.expect(CONSISTENT);
        self.0.register(Box::new(metric.clone())).expect(CONSISTENT);
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help))
    }

    fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts))
    }

    fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, labels))
    }
}

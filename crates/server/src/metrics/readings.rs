//! Gauges that are read when someone asks.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::maker::Maker;
use super::process::ProcessMetrics;
use crate::frontend::{Frontend, Gauges};

/// Gauges that are read from the member on demand.
#[derive(Debug)]
pub(super) struct Readings {
    member_id: String,
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    leader_changes: IntCounter,
    events: IntCounter,
    /// Metric and what it reads.
    plain: Vec<PlainReading>,
    cluster_version: IntGaugeVec,
    alarms: IntGaugeVec,
    process: ProcessMetrics,
}

impl Readings {
    pub(super) fn new(maker: &Maker<'_>, member_id: String) -> Self {
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
            events: maker.counter(
                "etcd_debugging_mvcc_events_total",
                "Events sent to watchers.",
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
            process: ProcessMetrics::new(maker),
        }
    }

    pub(super) fn update(&self, member: &impl Frontend) {
        let gauges = member.gauges();
        self.has_leader.set(member.has_leader().into());
        self.is_leader.set(member.is_leader().into());
        self.is_learner.set(member.is_learner().into());
        self.leader_changes.inc_by(
            gauges
                .leader_changes
                .saturating_sub(self.leader_changes.get()),
        );
        let events = member.watch_hub().stats().events;
        self.events.inc_by(events.saturating_sub(self.events.get()));
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

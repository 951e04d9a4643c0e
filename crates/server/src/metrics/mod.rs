//! What `/metrics` tells, under the names dashboards know.
//!
//! Counters are resolved once and then only counted; nothing on the way of a request looks up a label, except a
//! client's version that was not seen before. Gauges are read from the member when someone asks.

mod apply;
mod buckets;
mod grpc;
mod maker;
mod process;
mod readings;
mod server;
mod storage;

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

use crate::frontend::Frontend;
use maker::Maker;
use readings::Readings;

pub use apply::{ApplyMetrics, op_name};
pub use grpc::{GrpcMetrics, Tally};
pub use server::ServerMetrics;
pub use storage::{DiskMetrics, LeaseMetrics, MvccMetrics};

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
    apply: ApplyMetrics,
    features: IntGaugeVec,
    scrapes: IntCounter,
    scrapes_in_flight: IntGauge,
    readings: Readings,
}

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
            apply: ApplyMetrics::new(&maker),
            features: maker.gauge_vec(
                "etcd_server_feature_enabled",
                "Whether a feature is on.",
                &["name", "stage"],
            ),
            scrapes: scrapes(&maker),
            scrapes_in_flight: maker.gauge(
                "promhttp_metric_handler_requests_in_flight",
                "Requests for metrics under way.",
            ),
            readings: Readings::new(&maker, id),
            registry,
        }
    }

    /// Tells whether a feature gate is on; `stage` as in the flag's documentation ("ALPHA", "BETA", "").
    pub fn set_feature(&self, name: &str, stage: &str, enabled: bool) {
        self.features
            .with_label_values(&[name, stage])
            .set(enabled.into());
    }

    /// Everything as text in Prometheus' format 0.0.4.
    pub fn render(&self, member: &impl Frontend) -> String {
        self.scrapes_in_flight.inc();
        self.readings.update(member);
        let families = self.registry.gather();
        // It writes to a string: only a family without a name could fail.
        let text = TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default();
        self.scrapes_in_flight.dec();
        self.scrapes.inc();
        text
    }
}

/// The counter of answered scrapes; those of failed ones stay zero.
fn scrapes(maker: &Maker<'_>) -> IntCounter {
    let all = maker.counter_vec(
        "promhttp_metric_handler_requests_total",
        "Requests for metrics.",
        &["code"],
    );
    for code in ["500", "503"] {
        all.with_label_values(&[code]);
    }
    all.with_label_values(&["200"])
}

//! Requests and raft.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::buckets::DISK;
use super::maker::Maker;

/// `etcd_server_*`: what is counted as it happens.
#[derive(Debug)]
#[allow(missing_docs)] // each field is the metric of its name
pub struct ServerMetrics {
    pub proposals_failed: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub heartbeat_send_failures: IntCounter,
    pub lease_expired: IntCounter,
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    /// Labels type, success; resolve once per type.
    pub request_duration: HistogramVec,
    /// Labels type (livez, readyz), name: result of the last check.
    pub healthcheck: IntGaugeVec,
    /// Labels type, name, status.
    pub healthchecks: IntCounterVec,
    client_requests: IntCounterVec,
    client_versions: RwLock<BTreeMap<(&'static str, String), IntCounter>>,
}

/// Clients can name any version; beyond so many, they share a label.
const MAX_CLIENT_VERSIONS: usize = 64;

impl ServerMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let counter = |name: &str, help| maker.counter(&format!("etcd_server_{name}"), help);
        Self {
            proposals_failed: counter("proposals_failed_total", "Proposals that failed."),
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

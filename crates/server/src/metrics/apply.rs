//! What the apply thread did.

use std::time::Duration;

use api::Error;
use api::etcdserverpb as pb;
use apply::{Op, Response};
use pb::response_op::Response as ResponseOp;
use prometheus::{Histogram, HistogramVec};

use super::buckets::COMMIT;
use super::maker::Maker;
use super::storage::{LeaseMetrics, MvccMetrics};

/// `etcd_server_apply_duration_seconds`, resolved for what clients ask for most.
#[derive(Debug)]
pub struct ApplyMetrics {
    all: HistogramVec,
    put: [Histogram; 2],
    txn: [Histogram; 2],
}

impl ApplyMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let all = maker.histogram_vec(
            "etcd_server_apply_duration_seconds",
            "Time it took to apply a request.",
            &["version", "op", "success"],
            COMMIT,
        );
        let of = |name: &str| ["false", "true"].map(|ok| all.with_label_values(&["v3", name, ok]));
        Self {
            put: of("Put"),
            txn: of("Txn"),
            all,
        }
    }

    fn observe(&self, op: &'static str, success: bool, took: Duration) {
        let seconds = took.as_secs_f64();
        match op {
            "Put" => self.put[usize::from(success)].observe(seconds),
            "Txn" => self.txn[usize::from(success)].observe(seconds),
            other => {
                let success = if success { "true" } else { "false" };
                self.all
                    .with_label_values(&["v3", other, success])
                    .observe(seconds);
            }
        }
    }
}

/// The label of a request; etcd's own names.
pub fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Range(_) => "Range",
        Op::Put(_) => "Put",
        Op::DeleteRange(_) => "DeleteRange",
        Op::Txn(_) => "Txn",
        Op::Compaction(_) => "Compaction",
        Op::LeaseGrant(_) => "LeaseGrant",
        Op::LeaseRevoke(_) => "LeaseRevoke",
        Op::LeaseCheckpoint(_) => "LeaseCheckpoint",
        Op::Alarm(_) => "Alarm",
        Op::ClusterVersionSet(_) => "ClusterVersionSet",
        Op::ClusterMemberAttrSet(_) => "ClusterMemberAttrSet",
        Op::DowngradeInfoSet(_) => "DowngradeInfoSet",
        Op::DowngradeVersionTest => "DowngradeVersionTest",
        Op::Auth(op) => op.name(),
        Op::Skipped => "Skipped",
    }
}

impl super::Metrics {
    /// Counts an applied request; `op` from [`op_name`].
    pub fn applied(&self, op: &'static str, result: &Result<Response, Error>, took: Duration) {
        self.apply.observe(op, result.is_ok(), took);
        let Ok(response) = result else { return };
        match response {
            Response::Range(_) => self.mvcc.ranges.inc(),
            Response::Put(_) => self.mvcc.puts.inc(),
            Response::DeleteRange(_) => self.mvcc.deletes.inc(),
            Response::Txn(txn) => self.mvcc.count_txn(txn),
            Response::LeaseGrant(grant) => self.lease.granted(grant.ttl),
            Response::LeaseRevoke(_) => self.lease.revoked.inc(),
            Response::Compaction(_) | Response::Alarm(_) | Response::Auth(_) | Response::Done => {}
        }
    }
}

impl LeaseMetrics {
    fn granted(&self, ttl: i64) {
        self.granted.inc();
        self.ttl.observe(ttl as f64);
    }
}

impl MvccMetrics {
    /// Counts the operations that a transaction ran; it counts itself only if they are several.
    pub fn count_txn(&self, txn: &pb::TxnResponse) {
        if self.count_operations(txn) > 1 {
            self.txns.inc();
        }
    }

    fn count_operations(&self, txn: &pb::TxnResponse) -> usize {
        let mut count = 0;
        for op in &txn.responses {
            count += match &op.response {
                Some(ResponseOp::ResponseTxn(nested)) => self.count_operations(nested),
                Some(ResponseOp::ResponseRange(_)) => one(&self.ranges),
                Some(ResponseOp::ResponsePut(_)) => one(&self.puts),
                Some(ResponseOp::ResponseDeleteRange(_)) => one(&self.deletes),
                None => 0,
            };
        }
        count
    }
}

fn one(counter: &prometheus::IntCounter) -> usize {
    counter.inc();
    1
}

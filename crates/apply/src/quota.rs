use api::etcdserverpb as pb;
use api::etcdserverpb::request_op::Request as RequestOp;

/// etcd's default limit of the database file: 2 GiB.
const DEFAULT_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// What a put costs beside its key and value.
const KEY_VALUE_OVERHEAD: i64 = 256;

/// The limit on the size of the database file (`--quota-backend-bytes`).
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    bytes: i64,
}

impl Quota {
    /// Cost of a lease grant in bytes.
    pub const LEASE_COST: i64 = 64;

    /// `configured` as given by the flag: 0 is the default, negative means no limit.
    pub fn new(configured: i64) -> Self {
        Self {
            bytes: if configured == 0 {
                DEFAULT_BYTES
            } else {
                configured
            },
        }
    }

    /// The limit in bytes; negative means none.
    pub fn bytes(self) -> i64 {
        self.bytes
    }

    /// Whether a request of this cost fits beside a file of `size` bytes (allocated, not in use).
    /// A request that costs nothing always does, so deletes can free a full store.
    pub fn available(self, size: u64, cost: i64) -> bool {
        cost == 0 || self.bytes < 0 || (size as i64).saturating_add(cost) < self.bytes
    }

    /// What an operation costs; 0 for those the quota does not know.
    pub fn cost(op: &crate::Op) -> i64 {
        match op {
            crate::Op::Put(put) => put_cost(put),
            crate::Op::Txn(txn) => txn_cost(txn),
            crate::Op::LeaseGrant(_) => Self::LEASE_COST,
            _ => 0,
        }
    }
}

/// Bytes a put may add to the file.
pub fn put_cost(put: &pb::PutRequest) -> i64 {
    KEY_VALUE_OVERHEAD + put.key.len() as i64 + put.value.len() as i64
}

/// Bytes a transaction may add: the dearer of its branches.
pub fn txn_cost(txn: &pb::TxnRequest) -> i64 {
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

fn branch_cost(ops: &[pb::RequestOp]) -> i64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(RequestOp::RequestPut(put)) => put_cost(put),
            Some(RequestOp::RequestTxn(txn)) => txn_cost(txn),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: usize) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(RequestOp::RequestPut(pb::PutRequest {
                key: "k".into(),
                value: vec![0; value].into(),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn a_txn_costs_its_dearer_branch_nested_ones_included() {
        let nested = pb::TxnRequest {
            success: vec![put(10), put(1)],
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            success: vec![put(0)],
            failure: vec![pb::RequestOp {
                request: Some(RequestOp::RequestTxn(nested)),
            }],
            ..Default::default()
        };
        assert_eq!(txn_cost(&txn), 2 * 257 + 11);
    }

    #[test]
    fn free_requests_pass_a_full_store_and_a_negative_quota_has_no_limit() {
        assert!(Quota::new(10).available(100, 0));
        assert!(!Quota::new(10).available(9, 1));
        assert!(Quota::new(10).available(8, 1));
        assert!(Quota::new(-1).available(u64::MAX >> 1, 1));
        assert_eq!(Quota::new(0).bytes(), 2147483648);
    }
}

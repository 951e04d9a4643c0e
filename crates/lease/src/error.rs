//! What lease operations can fail with.

/// Failure of a lease operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No lease has this id, or the id is 0, which never names a lease.
    #[error("lease not found")]
    NotFound,
    /// A lease with this id exists already.
    #[error("lease already exists")]
    Exists,
    /// The wanted time to live is above [`MAX_TTL`](crate::MAX_TTL).
    #[error("too large lease TTL")]
    TtlTooLarge,
    /// Only the primary (the leader's lessor) knows remaining times.
    #[error("not a primary lessor")]
    NotPrimary,
}

/// The stored leases cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A record cannot be decoded or does not fit its key; holds the key, escaped.
    #[error("corrupt lease record {0}")]
    CorruptRecord(String),
    /// The database cannot be read.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}

impl RecoverError {
    pub(crate) fn corrupt(key: &[u8]) -> Self {
        Self::CorruptRecord(format!("{:?}", bytes::Bytes::copy_from_slice(key)))
    }
}

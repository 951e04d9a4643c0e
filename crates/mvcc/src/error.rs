//! What can go wrong.

use crate::Revision;

/// Why the store refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The revision was compacted away.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision lies in the future.
    #[error("mvcc: required revision is a future revision")]
    FutureRev,
    /// The database could not be read or written.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The index knows a change that the database does not have.
    #[error("range failed to find revision pair {}_{}", .0.main, .0.sub)]
    Missing(Revision),
    /// Bucket `key` or `meta` holds something etcd never writes.
    #[error("damaged key bucket: {0}")]
    Damaged(&'static str),
    /// The store was closed, or its content replaced, before the wish was fulfilled.
    #[error("mvcc: closed")]
    Closed,
}

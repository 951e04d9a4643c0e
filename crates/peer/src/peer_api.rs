//! What members ask each other beside raft.

use api::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use cluster::Member;

use crate::io::BoxFuture;

/// The versions of a member, as `/version` tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Release of the server.
    pub server: String,
    /// Version the cluster works at; `None` while it is not decided (`not_decided`).
    pub cluster: Option<String>,
    /// Version of the stored data; `None` if it cannot be told (`unknown`, or left out by 3.5).
    pub storage: Option<String>,
}

/// Checksum of the history up to a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// Current revision of the member.
    pub revision: i64,
    /// The checksum.
    pub hash: u32,
    /// Revision of the last compaction; -1 before the first.
    pub compact_revision: i64,
    /// Revision the checksum is of; 0 if not told (3.5).
    pub hash_revision: i64,
}

/// Why there is no checksum. The texts go over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashKvError {
    /// That revision is compacted.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// That revision does not exist yet.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why a lease cannot be answered for. The texts go over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The member does not catch up with what is committed.
    #[error("waiting for node to catch up its applied index has timed out")]
    CatchUpTimeout,
    /// There is no such lease.
    #[error("lease not found")]
    NotFound,
    /// The member does not lead (any more).
    #[error("not a primary lessor")]
    NotPrimary,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why a learner was not promoted. The texts go over the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromoteError {
    /// There is no such member.
    #[error("membership: ID not found")]
    NotFound,
    /// It votes already.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// It lags behind the leader.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    NotReady,
    /// Anything else; peers are not told what.
    #[error("{0}")]
    Other(String),
}

/// What a member answers other members. The transport does paths, headers, codes and encoding; the future of a method
/// is dropped when the asking member is gone.
pub trait PeerApi: Send + Sync + 'static {
    /// The member's versions.
    fn versions(&self) -> Versions;
    /// All members as this one knows them now, by ascending id.
    fn members(&self) -> Vec<Member>;
    /// Promotes a learner as the call of the client API does, passing it on if this member does not lead. `token` is
    /// the authentication of the client, if it had one.
    fn promote(
        &self,
        id: u64,
        token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<Member>, PromoteError>>;
    /// Checksum of the history up to `revision`, 0 for now.
    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashKvError>>;
    /// Renews a lease here, after waiting up to 1 s until everything committed is applied; returns its TTL in seconds.
    fn renew_lease(&self, id: i64) -> BoxFuture<'_, Result<i64, LeaseError>>;
    /// What is left of a lease, and its keys if asked for; waits like [`PeerApi::renew_lease`]. The header of the
    /// answer is not used.
    fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse, LeaseError>>;
    /// Whether a downgrade runs, after a linearizable read; the error is that of the read.
    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>>;
}

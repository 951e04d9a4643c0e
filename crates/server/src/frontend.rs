//! What gRPC services and HTTP endpoints ask of a member.
//!
//! The services know this trait only, so they can be tested against a fake, and the member behind it can change
//! its inside. Whoever implements it answers requests that were already checked ([`crate::grpc`] refuses malformed
//! ones) and fills all of an answer, its header included: cluster, member and term of the answering member, and
//! its current revision where the operation has none of its own.
//!
//! A future that is dropped means that the client is gone.

use std::future::Future;

use api::Error;
use api::etcdserverpb as pb;
use auth::{AuthOp, AuthResponse};
use bytes::Bytes;
use tokio::sync::mpsc;

/// The image of the database on its way to a client.
#[derive(Debug)]
pub struct Snapshot {
    /// Length of the whole image in bytes.
    pub length: u64,
    /// Version the data are written for, as `3.7.0`; empty while undecided.
    pub version: String,
    /// The image, piece by piece, in any sizes. It ends when the sender is dropped; a client is told the truth
    /// only if the pieces add up to `length`.
    pub chunks: mpsc::Receiver<Result<Bytes, Error>>,
}

/// Versions as `/version` tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of the program, as `3.7.1`.
    pub server: String,
    /// Of the cluster, as `3.7.0`; empty while undecided.
    pub cluster: String,
    /// Of the data, as `3.7.0`; empty while unknown.
    pub storage: String,
}

/// Who sends a request, by what it shows. Whom that names is found out when the request is answered, since an answer
/// may have to wait for others.
#[derive(Clone, Default)]
pub enum Caller {
    /// Nobody in particular.
    #[default]
    Nobody,
    /// The holder of a token.
    Token(std::sync::Arc<str>),
    /// The member itself, which may do everything.
    Root,
}

impl std::fmt::Debug for Caller {
    /// Without the token: who has it may use it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Token(_) => "Token",
            Self::Root => "Root",
        })
    }
}

/// What a request needs while authentication is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// Any user.
    User,
    /// A user with the role root.
    Root,
    /// A user who may read a range; key and end as a watcher is created with.
    Watch(&'a [u8], &'a [u8]),
}

/// State of raft as `/debug/vars` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This member.
    pub id: u64,
    /// Current term.
    pub term: u64,
    /// Who got this member's vote; 0 if nobody.
    pub vote: u64,
    /// Last committed entry.
    pub commit: u64,
    /// Last applied entry.
    pub applied: u64,
    /// The leader; 0 if there is none.
    pub leader: u64,
}

/// Numbers that `/metrics` reads when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// How often this member saw the leader change since it started.
    pub leader_changes: u64,
    /// Index of the last committed entry.
    pub committed: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Proposals that wait for their result.
    pub proposals_pending: u64,
    /// Limit of the database file in bytes; negative means none.
    pub quota_bytes: i64,
    /// Allocated bytes of the database file.
    pub db_size: u64,
    /// Bytes of the database file in use.
    pub db_size_in_use: u64,
    /// Read transactions open on the database file.
    pub open_reads: u64,
    /// Revision of the store.
    pub current_revision: i64,
    /// Revision up to which history is gone; negative if none is.
    pub compact_revision: i64,
    /// Keys in the index, deleted ones that are not compacted included.
    pub keys: u64,
    /// Watch streams.
    pub watch_streams: u64,
    /// Watchers on all streams.
    pub watchers: u64,
    /// Watchers that lag.
    pub slow_watchers: u64,
    /// Events that wait to be sent.
    pub pending_events: u64,
}

/// One member as its clients see it.
pub trait Frontend: Send + Sync + 'static {
    /// A header for an answer given now.
    fn header(&self) -> pb::ResponseHeader;

    /// Whether this member knows a leader.
    fn has_leader(&self) -> bool;

    /// Whether this member leads.
    fn is_leader(&self) -> bool;

    /// Whether this member only listens.
    fn is_learner(&self) -> bool;

    /// Whether a write of this cost in bytes fits; raises the alarm when it does not. Asked before the request is
    /// looked at any closer.
    fn check_quota(&self, cost: i64) -> Result<(), Error>;

    /// Whether somebody may do what the member does not check by itself: everything that takes no [`Caller`].
    fn permit(
        &self,
        caller: &Caller,
        need: Need<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads or changes users and roles; passwords are plain in `op`.
    fn auth(
        &self,
        caller: &Caller,
        op: AuthOp,
    ) -> impl Future<Output = Result<AuthResponse, Error>> + Send;

    /// Trades a password for a token.
    fn authenticate(
        &self,
        request: pb::AuthenticateRequest,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// Reads; linearizable unless the request says otherwise.
    fn range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> impl Future<Output = Result<pb::RangeResponse, Error>> + Send;

    /// Stores one key.
    fn put(
        &self,
        caller: &Caller,
        request: pb::PutRequest,
    ) -> impl Future<Output = Result<pb::PutResponse, Error>> + Send;

    /// Removes keys.
    fn delete_range(
        &self,
        caller: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> impl Future<Output = Result<pb::DeleteRangeResponse, Error>> + Send;

    /// Runs a transaction.
    fn txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> impl Future<Output = Result<pb::TxnResponse, Error>> + Send;

    /// Forgets history.
    fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> impl Future<Output = Result<pb::CompactionResponse, Error>> + Send;

    /// Grants a lease.
    fn lease_grant(
        &self,
        caller: &Caller,
        request: pb::LeaseGrantRequest,
    ) -> impl Future<Output = Result<pb::LeaseGrantResponse, Error>> + Send;

    /// Revokes a lease.
    fn lease_revoke(
        &self,
        caller: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> impl Future<Output = Result<pb::LeaseRevokeResponse, Error>> + Send;

    /// Renews a lease; its TTL in seconds, 0 when there is no such lease.
    fn lease_renew(
        &self,
        caller: &Caller,
        id: i64,
    ) -> impl Future<Output = Result<i64, Error>> + Send;

    /// How long a lease has to live.
    fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<pb::LeaseTimeToLiveResponse, Error>> + Send;

    /// Ids of all leases, those that end first at the front.
    fn lease_leases(&self, caller: &Caller)
    -> impl Future<Output = Result<Vec<i64>, Error>> + Send;

    /// Adds a member that is reached under these URLs; returns it.
    fn member_add(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> impl Future<Output = Result<pb::Member, Error>> + Send;

    /// Removes a member for good.
    fn member_remove(&self, id: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// Changes where a member is reached by others.
    fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Gives a learner a vote.
    fn member_promote(
        &self,
        caller: &Caller,
        id: u64,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// All members by ascending id.
    fn member_list(
        &self,
        linearizable: bool,
    ) -> impl Future<Output = Result<Vec<pb::Member>, Error>> + Send;

    /// Lists, raises or disarms alarms.
    fn alarm(
        &self,
        request: pb::AlarmRequest,
    ) -> impl Future<Output = Result<pb::AlarmResponse, Error>> + Send;

    /// Raised alarms as this member knows them.
    fn alarms(&self) -> Vec<pb::AlarmMember>;

    /// What this member knows about itself; needs no quorum.
    fn status(&self) -> pb::StatusResponse;

    /// Rewrites the database file without its free pages.
    fn defragment(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Checksum of the whole database.
    fn hash(&self) -> impl Future<Output = Result<u32, Error>> + Send;

    /// Checksum of the history up to a revision; 0 means now.
    fn hash_kv(
        &self,
        revision: i64,
    ) -> impl Future<Output = Result<pb::HashKvResponse, Error>> + Send;

    /// Starts a consistent copy of the database.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;

    /// Moves leadership to another voter.
    fn move_leader(&self, target: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// What `/version` tells.
    fn versions(&self) -> Versions;

    /// What `/debug/vars` tells.
    fn raft_status(&self) -> RaftStatus;

    /// What `/metrics` reads.
    fn gauges(&self) -> Gauges;

    /// Where watchers are registered.
    fn watch_hub(&self) -> &std::sync::Arc<watch::Hub>;
}

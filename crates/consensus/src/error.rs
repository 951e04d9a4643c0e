//! Errors of this crate.

use crate::Proposal;

/// What a log store answers when it fails; the member has to stop then.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Why a node could not be started, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state to start from is damaged or contradictory.
    #[error("cannot start consensus: {0}")]
    Start(String),
    /// A thread could not be created.
    #[error("cannot start thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Writing to the log failed; what the disk holds is unknown.
    #[error("log failed: {0}")]
    Log(#[source] StoreError),
    /// A thread of this crate panicked.
    #[error("{0}")]
    Panicked(String),
}

/// The node is stopping or has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("etcdserver: server stopped")]
pub struct Stopped;

/// Proposals that were not taken.
#[derive(Debug, thiserror::Error)]
#[error("{}", if *stopped { "etcdserver: server stopped" } else { "too many proposals are waiting" })]
pub struct Refused {
    /// The proposals, given back.
    pub proposals: Vec<Proposal>,
    /// The node is stopping; otherwise the queue is full.
    pub stopped: bool,
}

/// Why a configuration change could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The change would leave an impossible configuration.
    #[error("{0}")]
    Invalid(String),
}

/// Why a peer's message was refused. None of these can come from a correct peer that is a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A type that is unknown or never travels.
    #[error("message type {0} is not accepted from peers")]
    Type(i32),
    /// It is not for us.
    #[error("message for {0:x} is not for this member")]
    NotForUs(u64),
    /// The sender is 0 or ourselves.
    #[error("message from {0:x}")]
    Sender(u64),
    /// A field of it contradicts another, or our log.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// A snapshot names impossible members.
    #[error("malformed snapshot: {0}")]
    ConfState(String),
    /// Too many messages wait; raft will send it again.
    #[error("too many messages are waiting")]
    Full,
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

//! How requests fail.

use http::StatusCode;

use crate::{LeaseError, PromoteError};

/// Why a request to a member brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL cannot be dialled at all.
    #[error("{0}")]
    Url(String),
    /// No connection, or it broke, or no answer came in time.
    #[error("{0}")]
    Io(String),
    /// The answer has a status nobody expects here.
    #[error("unexpected http status {status}: {body}", body = body.trim_end())]
    Status {
        /// The status.
        status: StatusCode,
        /// The body's beginning.
        body: String,
    },
    /// The answer is longer than it may be.
    #[error("answer is too long")]
    TooLong,
    /// The answer cannot be read.
    #[error("{0}")]
    Answer(String),
    /// None of the members answered.
    #[error("could not retrieve cluster information from the given URLs")]
    NoAnswer,
}

/// Why a request that was passed on to the leader failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError<E> {
    /// The leader answered with this.
    #[error("{0}")]
    Answer(E),
    /// It did not answer; another try may help.
    #[error("{0}")]
    Failed(ClientError),
}

impl From<LeaseError> for ForwardError<LeaseError> {
    fn from(error: LeaseError) -> Self {
        Self::Answer(error)
    }
}

impl From<PromoteError> for ForwardError<PromoteError> {
    fn from(error: PromoteError) -> Self {
        Self::Answer(error)
    }
}

impl<E> From<ClientError> for ForwardError<E> {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

/// Why a raft message or snapshot was not taken, or a stream not opened. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("peer has no URL")]
    NoUrl,
    #[error(transparent)]
    Io(ClientError),
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("incompatible version")]
    Incompatible,
    #[error("cluster ID mismatch")]
    ClusterMismatch,
    #[error("unhandled error \"{0}\" when precondition failed")]
    Precondition(String),
    #[error("unexpected http status {0}")]
    Status(StatusCode),
    #[error("unhandled http status {}", .0.as_u16())]
    StreamStatus(StatusCode),
    #[error("unsupported stream type")]
    UnsupportedStream,
    #[error("{0}")]
    UnknownHere(String),
    /// The database could not be read, or was longer or shorter than announced.
    #[error("{0}")]
    Source(String),
}

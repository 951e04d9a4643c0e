use crate::Version;

/// Why a membership change is refused. The answer is the same on every member; `Display` is etcd's
/// text, clients get the matching [`api::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The id belonged to a member that was removed; ids are never used again.
    #[error("membership: ID removed")]
    IdRemoved,
    /// A member with the id is already there.
    #[error("membership: ID exists")]
    IdExists,
    /// No member has the id.
    #[error("membership: ID not found")]
    IdNotFound,
    /// Another member uses one of the peer URLs.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// Only learners can be promoted.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// `--max-learners` learners are already there.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
}

impl From<Error> for api::Error {
    fn from(error: Error) -> Self {
        match error {
            // Clients cannot tell a removed member from one that never was.
            Error::IdRemoved | Error::IdNotFound => Self::MemberNotFound,
            Error::IdExists => Self::MemberExist,
            Error::PeerUrlExists => Self::PeerUrlExist,
            Error::NotLearner => Self::MemberNotLearner,
            Error::TooManyLearners => Self::TooManyLearners,
        }
    }
}

/// The log or the backend holds something this member cannot follow: it must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatalError {
    /// A conf change whose context is no member JSON.
    #[error("failed to unmarshal member from conf change: {0}")]
    BadContext(String),
    /// A conf change of a type etcd does not know.
    #[error("unknown conf change type {0}")]
    BadChangeType(i32),
    /// The context of a conf change names another member than the change itself.
    #[error("got different member ID")]
    DifferentMemberId,
    /// The cluster works at a version above this program's.
    #[error("invalid downgrade; server version is lower than determined cluster version")]
    ServerTooOld {
        /// Version of this program.
        server: Version,
        /// Version of the cluster.
        cluster: Version,
    },
    /// Attributes for a member that never existed.
    #[error("failed to update; member unknown")]
    MemberUnknown(u64),
    /// A cluster version that is none.
    #[error("cluster version {0:?} in the log is not a version")]
    BadVersion(String),
    /// A record in the backend that cannot be read.
    #[error("bucket {bucket}, key {key:?}: {cause}")]
    BadRecord {
        /// Name of the bucket.
        bucket: &'static str,
        /// The key, as text.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Reading the backend failed.
    #[error("failed to read membership from backend: {0}")]
    Read(String),
}

//! The one table of errors that clients see.

use tonic::{Code, Status};

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $code:ident $text:literal;)*) => {
        /// An error as a client sees it. Clients recognise these by their **text**; the code is what travels beside
        /// it. The table is checked against etcd's in the tests of this module.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Error {
            $($(#[$doc])* $name,)*
            /// Any other error, with its code and its full text.
            Other {
                /// gRPC code on the wire.
                code: Code,
                /// Text on the wire, prefix included if it has one.
                text: String,
            },
        }

        impl Error {
            /// Every error with a fixed text.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it travels: two errors and a few raw ones are `Unknown` in etcd, too.
            pub const fn code(&self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                    Self::Other { code, .. } => *code,
                }
            }

            /// The text as it travels, prefix included.
            pub fn text(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other { text, .. } => text,
                }
            }
        }
    };
}

table! {
    /// A request, compare or nested operation has an empty key.
    EmptyKey = InvalidArgument "etcdserver: key is not provided";
    /// The old value or lease is to be kept, but there is no such key; also an empty operation in a txn.
    KeyNotFound = InvalidArgument "etcdserver: key not found";
    /// The old value is to be kept, yet one is given.
    ValueProvided = InvalidArgument "etcdserver: value is provided";
    /// The old lease is to be kept, yet one is given.
    LeaseProvided = InvalidArgument "etcdserver: lease is provided";
    /// A txn is longer than `--max-txn-ops`.
    TooManyOps = InvalidArgument "etcdserver: too many operations in txn request";
    /// A txn would change one key twice.
    DuplicateKey = InvalidArgument "etcdserver: duplicate key given in txn request";
    /// The metadata `client-api-version` is not UTF-8.
    InvalidClientApiVersion = InvalidArgument "etcdserver: invalid client api version";
    /// Unknown sort order or target.
    InvalidSortOption = InvalidArgument "etcdserver: invalid sort option";
    /// The revision asked for is gone.
    Compacted = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    /// The revision asked for does not exist yet.
    FutureRev = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    /// The space quota is used up.
    NoSpace = ResourceExhausted "etcdserver: mvcc: database space exceeded";

    /// No such lease.
    LeaseNotFound = NotFound "etcdserver: requested lease not found";
    /// The wanted lease id is taken.
    LeaseExist = FailedPrecondition "etcdserver: lease already exists";
    /// More than 9,000,000,000 seconds.
    LeaseTtlTooLarge = OutOfRange "etcdserver: too large lease TTL";
    /// This member does not time leases, another one does.
    NotPrimaryLessor = Unknown "not a primary lessor";

    /// The client ended its watch stream.
    WatchCanceled = Cancelled "etcdserver: watch canceled";

    /// A member with this id is there already.
    MemberExist = FailedPrecondition "etcdserver: member ID already exist";
    /// A member with one of these URLs is there already.
    PeerUrlExist = FailedPrecondition "etcdserver: Peer URLs already exists";
    /// The change could cost the quorum. `Unknown` on the wire in all releases.
    MemberNotEnoughStarted = Unknown "etcdserver: re-configuration failed due to not enough started members";
    /// Peer URLs are missing or malformed.
    MemberBadUrls = InvalidArgument "etcdserver: given member URLs are invalid";
    /// No such member, or it was removed.
    MemberNotFound = NotFound "etcdserver: member not found";
    /// Only learners can be promoted.
    MemberNotLearner = FailedPrecondition "etcdserver: can only promote a learner member";
    /// The learner lags too far behind.
    LearnerNotReady = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    /// `--max-learners` is reached.
    TooManyLearners = FailedPrecondition "etcdserver: too many learner members in cluster";

    /// The encoded proposal is longer than `--max-request-bytes`.
    RequestTooLarge = InvalidArgument "etcdserver: request is too large";
    /// Too many entries wait to be applied. `Unknown` on the wire in all releases.
    TooManyRequests = Unknown "etcdserver: too many requests";

    /// Auth cannot be enabled without a user `root`.
    RootUserNotExist = FailedPrecondition "etcdserver: root user does not exist";
    /// Auth cannot be enabled unless `root` has the role `root`.
    RootRoleNotExist = FailedPrecondition "etcdserver: root user does not have root role";
    /// The user is there already.
    UserAlreadyExist = FailedPrecondition "etcdserver: user name already exists";
    /// A user name or the token is missing.
    UserEmpty = InvalidArgument "etcdserver: user name is empty";
    /// No such user.
    UserNotFound = FailedPrecondition "etcdserver: user name not found";
    /// The role is there already.
    RoleAlreadyExist = FailedPrecondition "etcdserver: role name already exists";
    /// No such role.
    RoleNotFound = FailedPrecondition "etcdserver: role name not found";
    /// A role name is missing.
    RoleEmpty = InvalidArgument "etcdserver: role name is empty";
    /// Wrong name or password.
    AuthFailed = InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    /// A password was given for a user that has none.
    NoPasswordUser = Unknown "auth: authentication failed, password was given for no password user";
    /// A grant without permission.
    PermissionNotGiven = InvalidArgument "etcdserver: permission not given";
    /// The user may not do this.
    PermissionDenied = PermissionDenied "etcdserver: permission denied";
    /// The user does not have the role.
    RoleNotGranted = FailedPrecondition "etcdserver: role is not granted to the user";
    /// The role does not have the permission.
    PermissionNotGranted = FailedPrecondition "etcdserver: permission is not granted to the role";
    /// Login while auth is off.
    AuthNotEnabled = FailedPrecondition "etcdserver: authentication is not enabled";
    /// Unknown or expired token.
    InvalidAuthToken = Unauthenticated "etcdserver: invalid auth token";
    /// Would break the root user or role, or a permission with a bad interval.
    InvalidAuthMgmt = InvalidArgument "etcdserver: invalid auth management";
    /// Users or permissions changed since the token was made or the request began.
    AuthOldRevision = InvalidArgument "etcdserver: revision of auth store is old";

    /// There is no leader and the request needs one.
    NoLeader = Unavailable "etcdserver: no leader";
    /// Only the leader can do this.
    NotLeader = FailedPrecondition "etcdserver: not leader";
    /// The leader changed while a read waited.
    LeaderChanged = Unavailable "etcdserver: leader changed";
    /// The cluster's version does not offer this.
    NotCapable = FailedPrecondition "etcdserver: not capable";
    /// This member is stopping.
    Stopped = Unavailable "etcdserver: server stopped";
    /// An accepted proposal or a read got no answer in time.
    Timeout = Unavailable "etcdserver: request timed out";
    /// The same, and the leader was lost meanwhile.
    TimeoutLeaderFail = Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    /// The same, and the connection to the leader was lost meanwhile.
    TimeoutConnLost = Unavailable "etcdserver: request timed out, possibly due to connection lost";
    /// This member did not catch up in time.
    TimeoutWaitAppliedIndex =
        Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    /// Leadership did not move in time.
    TimeoutLeaderTransfer = Unknown "etcdserver: request timed out, leader transfer took too long";
    /// Too few members are connected for the change.
    Unhealthy = Unavailable "etcdserver: unhealthy cluster";
    /// The corruption alarm is raised.
    Corrupt = DataLoss "etcdserver: corrupt cluster";
    /// Learners do not serve this.
    NotSupportedForLearner = FailedPrecondition "etcdserver: rpc not supported for learner";
    /// Leadership cannot move there.
    BadLeaderTransferee = FailedPrecondition "etcdserver: bad leader transferee";
    /// Raft refused the proposal, as during a transfer of leadership.
    ProposalDropped = Unknown "raft proposal dropped";

    /// The target version does not parse.
    WrongDowngradeVersionFormat = InvalidArgument "etcdserver: wrong downgrade target version format";
    /// Only one minor version down is possible.
    InvalidDowngradeTargetVersion = InvalidArgument "etcdserver: invalid downgrade target version";
    /// The cluster has not decided its version.
    ClusterVersionUnavailable = FailedPrecondition "etcdserver: cluster version not found during downgrade";
    /// A downgrade is under way.
    DowngradeInProcess = FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    /// No downgrade is under way.
    NoInflightDowngrade = FailedPrecondition "etcdserver: no inflight downgrade job";
    /// Unknown downgrade action.
    UnknownMethod = Unknown "etcdserver: unknown method";

    /// The caller gave a proposal up.
    Canceled = Cancelled "etcdserver: request canceled";
    /// The caller gave up anything else.
    ContextCanceled = Cancelled "context canceled";
    /// The caller's time is over, or a proposal found no leader in time.
    DeadlineExceeded = DeadlineExceeded "context deadline exceeded";
}

impl Error {
    /// An error outside the table.
    pub fn other(code: Code, text: impl Into<String>) -> Self {
        Self::Other {
            code,
            text: text.into(),
        }
    }

    /// Finds an error by what a server sent, as Go's client does: by text. The code stays the sender's when the
    /// text is not in the table.
    pub fn from_status(status: &Status) -> Self {
        Self::from_text(status.message())
            .unwrap_or_else(|| Self::other(status.code(), status.message()))
    }

    /// Finds an error by its full text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|error| error.text() == text).cloned()
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text after the prefix, code; in the order of etcd's own documentation of its errors.
    const TABLE: &[(&str, Code)] = &[
        ("key is not provided", Code::InvalidArgument),
        ("key not found", Code::InvalidArgument),
        ("value is provided", Code::InvalidArgument),
        ("lease is provided", Code::InvalidArgument),
        ("too many operations in txn request", Code::InvalidArgument),
        ("duplicate key given in txn request", Code::InvalidArgument),
        ("invalid client api version", Code::InvalidArgument),
        ("invalid sort option", Code::InvalidArgument),
        (
            "mvcc: required revision has been compacted",
            Code::OutOfRange,
        ),
        (
            "mvcc: required revision is a future revision",
            Code::OutOfRange,
        ),
        ("mvcc: database space exceeded", Code::ResourceExhausted),
        ("requested lease not found", Code::NotFound),
        ("lease already exists", Code::FailedPrecondition),
        ("too large lease TTL", Code::OutOfRange),
        ("watch canceled", Code::Cancelled),
        ("member ID already exist", Code::FailedPrecondition),
        ("Peer URLs already exists", Code::FailedPrecondition),
        (
            "re-configuration failed due to not enough started members",
            Code::Unknown,
        ),
        ("given member URLs are invalid", Code::InvalidArgument),
        ("member not found", Code::NotFound),
        (
            "can only promote a learner member",
            Code::FailedPrecondition,
        ),
        (
            "can only promote a learner member which is in sync with leader",
            Code::FailedPrecondition,
        ),
        (
            "too many learner members in cluster",
            Code::FailedPrecondition,
        ),
        ("request is too large", Code::InvalidArgument),
        ("too many requests", Code::Unknown),
        ("root user does not exist", Code::FailedPrecondition),
        (
            "root user does not have root role",
            Code::FailedPrecondition,
        ),
        ("user name already exists", Code::FailedPrecondition),
        ("user name not found", Code::FailedPrecondition),
        ("user name is empty", Code::InvalidArgument),
        ("role name already exists", Code::FailedPrecondition),
        ("role name not found", Code::FailedPrecondition),
        ("role name is empty", Code::InvalidArgument),
        (
            "authentication failed, invalid user ID or password",
            Code::InvalidArgument,
        ),
        ("permission not given", Code::InvalidArgument),
        ("permission denied", Code::PermissionDenied),
        ("role is not granted to the user", Code::FailedPrecondition),
        (
            "permission is not granted to the role",
            Code::FailedPrecondition,
        ),
        ("authentication is not enabled", Code::FailedPrecondition),
        ("invalid auth token", Code::Unauthenticated),
        ("invalid auth management", Code::InvalidArgument),
        ("revision of auth store is old", Code::InvalidArgument),
        ("no leader", Code::Unavailable),
        ("not leader", Code::FailedPrecondition),
        ("leader changed", Code::Unavailable),
        ("not capable", Code::FailedPrecondition),
        ("server stopped", Code::Unavailable),
        ("request timed out", Code::Unavailable),
        (
            "request timed out, possibly due to previous leader failure",
            Code::Unavailable,
        ),
        (
            "request timed out, possibly due to connection lost",
            Code::Unavailable,
        ),
        (
            "request timed out, waiting for the applied index took too long",
            Code::Unavailable,
        ),
        ("unhealthy cluster", Code::Unavailable),
        ("corrupt cluster", Code::DataLoss),
        ("rpc not supported for learner", Code::FailedPrecondition),
        ("bad leader transferee", Code::FailedPrecondition),
        (
            "wrong downgrade target version format",
            Code::InvalidArgument,
        ),
        ("invalid downgrade target version", Code::InvalidArgument),
        (
            "cluster version not found during downgrade",
            Code::FailedPrecondition,
        ),
        (
            "cluster has a downgrade job in progress",
            Code::FailedPrecondition,
        ),
        ("no inflight downgrade job", Code::FailedPrecondition),
        ("request canceled", Code::Cancelled),
        ("unknown method", Code::Unknown),
        (
            "request timed out, leader transfer took too long",
            Code::Unknown,
        ),
    ];

    #[test]
    fn every_documented_error_is_in_the_table_with_its_code() {
        for (text, code) in TABLE {
            let text = format!("etcdserver: {text}");
            let error = Error::from_text(&text).unwrap_or_else(|| panic!("{text} is missing"));
            assert_eq!(error.code(), *code, "{text}");
            assert_eq!(error.to_string(), text);
            let status = Status::from(error.clone());
            assert_eq!((status.code(), status.message()), (*code, &*text));
            assert_eq!(Error::from_status(&status), error);
        }
    }

    #[test]
    fn nothing_with_the_prefix_is_beyond_the_documentation() {
        let prefixed = Error::ALL
            .iter()
            .filter(|error| error.text().starts_with("etcdserver: "))
            .count();
        assert_eq!(prefixed, TABLE.len());
    }

    #[test]
    fn texts_are_unique() {
        let mut texts: Vec<_> = Error::ALL.iter().map(Error::text).collect();
        texts.sort_unstable();
        assert!(texts.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn foreign_errors_keep_code_and_text() {
        let status = Status::new(Code::Aborted, "something else");
        assert_eq!(
            Error::from_status(&status),
            Error::other(Code::Aborted, "something else")
        );
    }
}

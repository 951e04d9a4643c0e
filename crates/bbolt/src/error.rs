use std::io;

/// What can go wrong with a database. The texts are those that etcd's users know from bbolt.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Neither meta page is one of a bbolt file.
    #[error("invalid database")]
    Invalid,
    /// The file has another version of the format.
    #[error("version mismatch")]
    VersionMismatch,
    /// The meta pages are damaged.
    #[error("checksum error")]
    Checksum,
    /// The file cannot even hold the two meta pages.
    #[error("file size too small {0}")]
    FileTooSmall(u64),
    /// A page breaks the rules of the format.
    #[error("page {page}: {what}")]
    Corrupt {
        /// Number of the page; 0 for an inline page or a page that has no number of its own.
        page: u64,
        /// The broken rule.
        what: &'static str,
    },
    /// Somebody else kept the file locked for longer than [`crate::Options::lock_timeout`].
    #[error("timeout")]
    Timeout,
    /// A write was asked of a database opened for reading.
    #[error("database is in read-only mode")]
    ReadOnly,
    /// The database has been closed.
    #[error("database not open")]
    Closed,
    /// An earlier write or sync failed in a way that leaves the state of the disk unknown; nothing more
    /// is written.
    #[error("database refuses writes after a failed commit: {0}")]
    Poisoned(String),
    /// A bucket name was empty.
    #[error("bucket name required")]
    BucketNameRequired,
    /// No bucket of this name.
    #[error("bucket not found")]
    BucketNotFound,
    /// A bucket of this name exists.
    #[error("bucket already exists")]
    BucketExists,
    /// A key was empty.
    #[error("key required")]
    KeyRequired,
    /// A key is longer than [`crate::MAX_KEY_LEN`].
    #[error("key too large")]
    KeyTooLarge,
    /// A value is longer than [`crate::MAX_VALUE_LEN`].
    #[error("value too large")]
    ValueTooLarge,
    /// A bucket was used as a value, or a value as a bucket.
    #[error("incompatible value")]
    IncompatibleValue,
}

impl Error {
    pub(crate) fn io(context: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { context, source }
    }
}

pub(crate) fn corrupt(page: u64, what: &'static str) -> Error {
    Error::Corrupt { page, what }
}

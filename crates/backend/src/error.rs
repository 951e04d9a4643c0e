//! What can go wrong.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the database could not be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened, read or written; also damage found in its pages.
    #[error(transparent)]
    File(#[from] Arc<bbolt::Error>),
    /// A file beside the database could not be handled.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A commit failed earlier: what the file holds is unknown, nothing is written any more.
    #[error("failed to commit tx: {0}")]
    Poisoned(Arc<str>),
    /// The backend was closed before the wish was fulfilled.
    #[error("backend is closed")]
    Closed,
    /// A rewrite met something that etcd never writes.
    #[error("cannot rewrite the database: {0}")]
    Rewrite(&'static str),
}

impl From<bbolt::Error> for Error {
    fn from(error: bbolt::Error) -> Self {
        Self::File(Arc::new(error))
    }
}

impl Error {
    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }
}

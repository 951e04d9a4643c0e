//! How a backend is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// How a backend is set up.
#[derive(Clone)]
pub struct Config {
    /// The database file; its directory must exist.
    pub path: PathBuf,
    /// Commit when so many changes have gathered (`--backend-batch-limit`).
    pub batch_limit: usize,
    /// Commit changes that are so old (`--backend-batch-interval`).
    pub batch_interval: Duration,
    /// Bytes of memory that changes not yet in the file may take. The thread that applies waits at the end of an
    /// entry while there is more.
    pub max_pending_bytes: usize,
    /// How the file is opened.
    pub bbolt: bbolt::Options,
    /// Is told what happens in the background.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Config {
    /// etcd's defaults for the database at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            batch_limit: 10_000,
            batch_interval: Duration::from_millis(100),
            max_pending_bytes: 128 << 20,
            bbolt: bbolt::Options::default(),
            observer: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("batch_limit", &self.batch_limit)
            .field("batch_interval", &self.batch_interval)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .field("bbolt", &self.bbolt)
            .finish_non_exhaustive()
    }
}

/// Is told what happens in the background. Called on the backend's own threads; must return soon.
pub trait Observer: Send + Sync {
    /// A batch was made durable; how long the whole commit took, and bbolt's parts of it.
    fn committed(&self, _took: Duration, _parts: &bbolt::CommitStats) {}
    /// The file was rewritten.
    fn defragmented(&self, _took: Duration) {}
    /// A commit failed, so the state of the disk is unknown. The process must end; nothing will be written any more.
    fn fatal(&self, _error: &Error) {}
}

//! What a data directory must not look like when a member starts from it.

use backend::Backend;
use disk::Fs;
use wal::WalSnapshot;

use super::{DataDir, StartError};

/// The log begins at a snapshot, so that what lies before it is in the database alone: without that file nothing
/// can be started but a member that has forgotten everything. To be called before the file is created.
pub(super) fn database_is_there(
    fs: &dyn Fs,
    dirs: &DataDir,
    snapshot: &WalSnapshot,
) -> Result<(), StartError> {
    let path = dirs.db();
    if snapshot.index == 0 || fs.exists(&path) {
        return Ok(());
    }
    let path = path.display();
    Err(failed(format!(
        "database file ({path}) of the backend is missing"
    )))
}

/// A new log begins at index 1. A database that holds entries already would take those of the new log for old ones
/// and drop them.
pub(super) fn no_foreign_database(dirs: &DataDir, backend: &Backend) -> Result<(), StartError> {
    let Some(position) = backend.position().filter(|p| p.index > 0) else {
        return Ok(());
    };
    Err(failed(format!(
        "database file ({}) holds entries up to {}, but there is no write-ahead log in {}: check --wal-dir, or restore \
         the database with 'etcdutl snapshot restore'",
        dirs.db().display(),
        position.index,
        dirs.wal.display()
    )))
}

fn failed(error: String) -> StartError {
    tracing::error!(error, "bootstrap failed");
    StartError::Failed(error)
}

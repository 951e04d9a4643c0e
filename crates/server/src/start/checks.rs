//! What a data directory must not look like when a member starts from it.

use backend::{Backend, Bucket};
use disk::Fs;
use wal::WalSnapshot;

use super::{DataDir, StartError};

const AUTH_ENABLED: &[u8] = b"authEnabled";

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

/// This release has no authentication yet. Serving such a database would open it to everybody.
pub(super) fn auth_is_off(backend: &Backend) -> Result<(), StartError> {
    let enabled = backend
        .get(Bucket::Auth, AUTH_ENABLED)
        .map_err(|error| failed(error.to_string()))?;
    if enabled.is_none_or(|value| value.as_ref() != [1]) {
        return Ok(());
    }
    Err(failed(
        "authentication is enabled in this data directory, and this release has none yet: it would serve the data to \
         everybody"
            .into(),
    ))
}

fn failed(error: String) -> StartError {
    tracing::error!(error, "bootstrap failed");
    StartError::Failed(error)
}

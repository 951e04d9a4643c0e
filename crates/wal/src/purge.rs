//! Removing files that are no longer needed.
//!
//! The server runs this every 30 seconds. etcd's rule is simple: of each kind, the files with the
//! smallest names go until as many are left as the operator wants to keep; a segment that somebody has
//! locked ends the round, because a member that is running needs it and all after it.

use std::path::{Path, PathBuf};

use disk::{Fs, LockKind, OpenOptions};

use crate::Error;
use crate::error::At;

/// Removes the oldest segments until `keep` are left (`--max-wals`); 0 keeps all. Segments that are
/// locked stay. Returns what was removed.
pub fn segments(fs: &dyn Fs, dir: &Path, keep: usize) -> Result<Vec<PathBuf>, Error> {
    round(fs, dir, ".wal", keep, true)
}

/// Removes the oldest `.snap` files and the oldest `.snap.db` files until `keep` of each are left
/// (`--max-snapshots`); 0 keeps all. Returns what was removed.
pub fn snapshots(fs: &dyn Fs, dir: &Path, keep: usize) -> Result<Vec<PathBuf>, Error> {
    let mut removed = round(fs, dir, ".snap.db", keep, false)?;
    removed.extend(round(fs, dir, ".snap", keep, false)?);
    Ok(removed)
}

fn round(
    fs: &dyn Fs,
    dir: &Path,
    suffix: &str,
    keep: usize,
    lock: bool,
) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    if keep == 0 {
        return Ok(removed);
    }
    let entries = fs.read_dir(dir).at(dir)?;
    let paths: Vec<PathBuf> = entries
        .iter()
        .filter(|e| e.name.ends_with(suffix))
        .map(|e| dir.join(&e.name))
        .collect();
    for path in paths.iter().take(paths.len().saturating_sub(keep)) {
        // The lock is held until the file is gone, so that no member can begin to use it meanwhile.
        let _held = if lock {
            let file = fs.open(path, OpenOptions::write()).at(path)?;
            if let Err(error) = file.try_lock(LockKind::OpenFileWrite) {
                tracing::warn!(path = %path.display(), %error, "failed to lock file");
                break;
            }
            Some(file)
        } else {
            None
        };
        if let Err(error) = fs.remove_file(path) {
            tracing::error!(path = %path.display(), %error, "failed to remove file");
            return Err(Error::Io {
                path: path.clone(),
                source: error,
            });
        }
        tracing::info!(path = %path.display(), "purged");
        removed.push(path.clone());
    }
    Ok(removed)
}

//! The snapshot directory: `.snap` files, and databases received from a leader.

mod receive;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use api::raftpb::Snapshot;
use bytes::Bytes;
use disk::{Fs, OpenOptions};
use prost::Message;

use crate::error::At;
use crate::names::{parse_hex, parse_pair};
use crate::{Error, Observer, SnapTimes, WalSnapshot};

pub use receive::DbReceiver;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// Reads and writes the files of `member/snap`, except the database itself.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    observer: Arc<dyn Observer>,
}

impl Snapshotter {
    /// For the directory `dir`, which must exist.
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, observer: Arc<dyn Observer>) -> Self {
        Self {
            fs,
            dir: dir.to_path_buf(),
            observer,
        }
    }

    /// Writes `<term>-<index>.snap` and makes it durable. The initial snapshot, of index 0, has no
    /// file. A file that could not be written completely is removed.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let metadata = &snapshot.metadata;
        if metadata.index == 0 {
            return Ok(());
        }
        let start = Instant::now();
        let data = Bytes::from(snapshot.encode_to_vec());
        let crc = crc32c::crc32c(&data);
        let content = api::snappb::Snapshot { crc, data }.encode_to_vec();
        let marshal = start.elapsed();

        let path = self.dir.join(format!(
            "{:016x}-{:016x}.snap",
            metadata.term, metadata.index
        ));
        let sync_start = Instant::now();
        if let Err(error) = self.write(&path, &content) {
            if self.fs.remove_file(&path).is_err() {
                tracing::warn!(path = %path.display(), "failed to remove a broken snap file");
            }
            return Err(error);
        }
        let sync = sync_start.elapsed();
        self.observer.snap_saved(SnapTimes {
            marshal,
            sync,
            total: start.elapsed(),
        });
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let options = OpenOptions {
            truncate: true,
            mode: 0o666,
            ..OpenOptions::create()
        };
        let file = self.fs.open(path, options).at(path)?;
        file.write_all_at(content, 0).at(path)?;
        file.sync_all().at(path)?;
        // The WAL record that comes next promises that the file is there.
        self.fs.sync_dir(&self.dir).at(&self.dir)
    }

    /// The newest readable snapshot that one of the records in the log vouches for
    /// ([`crate::valid_snapshots`]); files without a record are leftovers of a crash.
    ///
    /// A file that cannot be decoded is renamed to `<name>.broken` and the next older one is tried;
    /// [`Error::NoSnapshot`] if none is left.
    pub fn load_newest(&self, valid: &[WalSnapshot]) -> Result<Snapshot, Error> {
        self.load_matching(|snapshot| {
            let at = &snapshot.metadata;
            valid
                .iter()
                .any(|v| v.term == at.term && v.index == at.index)
        })
    }

    /// The newest readable snapshot, whether the log knows of it or not.
    pub fn load(&self) -> Result<Snapshot, Error> {
        self.load_matching(|_| true)
    }

    fn load_matching(&self, wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Error> {
        for name in self.names()? {
            let path = self.dir.join(&name);
            match read(self.fs.as_ref(), &path) {
                Ok(snapshot) if wanted(&snapshot) => return Ok(snapshot),
                Ok(_) => {}
                Err(error) => self.set_aside(&path, &error),
            }
        }
        Err(Error::NoSnapshot)
    }

    fn set_aside(&self, path: &Path, error: &Error) {
        let shown = path.display().to_string();
        tracing::warn!(path = shown, %error, "failed to read a snap file");
        if matches!(error, Error::Io { .. }) {
            return; // the file may be sound
        }
        let mut broken = path.as_os_str().to_owned();
        broken.push(".broken");
        match self.fs.rename(path, Path::new(&broken)) {
            Ok(()) => {
                tracing::warn!(path = shown, "renamed to a snapshot with broken suffix");
            }
            Err(error) => tracing::warn!(
                path = shown, %error,
                "failed to rename a broken snap file"
            ),
        }
    }

    /// Names of the `.snap` files, newest (highest term, then index) first. Databases that a killed
    /// defragmentation left are removed; other unexpected files are logged.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for entry in self.fs.read_dir(&self.dir).at(&self.dir)? {
            let name = entry.name;
            if name.starts_with("db.tmp") {
                tracing::info!(path = name, "found orphaned defragmentation file; deleting");
                let path = self.dir.join(&name);
                self.fs.remove_file(&path).at(&path)?;
            } else if name.strip_suffix(".snap").is_some() {
                names.push(name);
            } else if name != "db" {
                tracing::warn!(path = name, "found unexpected non-snap file; skipping");
            }
        }
        // Names of 16 digits sort as their numbers do, but shorter ones are accepted as well.
        names.sort_by_cached_key(|name| {
            let stem = name.trim_end_matches(".snap");
            std::cmp::Reverse((parse_pair(stem), name.clone()))
        });
        Ok(names)
    }

    /// Removes what interrupted transfers left (`tmp*`). For the start, before anything is received.
    pub fn remove_temporary(&self) -> Result<(), Error> {
        for entry in self.fs.read_dir(&self.dir).at(&self.dir)? {
            if entry.name.starts_with("tmp") && !entry.is_dir {
                let path = self.dir.join(entry.name);
                self.fs.remove_file(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// Where a database received from a leader lies until it is adopted.
    pub fn db_path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:016x}.snap.db"))
    }

    /// The database received for the snapshot at `index`; [`Error::NoDbSnapshot`] if there is none.
    pub fn find_db(&self, index: u64) -> Result<PathBuf, Error> {
        let path = self.db_path(index);
        if self.fs.exists(&path) {
            Ok(path)
        } else {
            Err(Error::NoDbSnapshot)
        }
    }

    /// Begins to receive a database for the snapshot at `index`.
    pub fn receive_db(&self, index: u64) -> Result<DbReceiver, Error> {
        DbReceiver::new(
            Arc::clone(&self.fs),
            &self.dir,
            self.db_path(index),
            Arc::clone(&self.observer),
        )
    }

    /// Removes received databases older than the snapshot at `index`: they were never adopted and
    /// never will be.
    pub fn release_db_before(&self, index: u64) -> Result<(), Error> {
        for entry in self.fs.read_dir(&self.dir).at(&self.dir)? {
            let Some(found) = entry.name.strip_suffix(".snap.db") else {
                continue;
            };
            match parse_hex(found) {
                Some(found) if found < index => {
                    tracing::info!(path = entry.name, "found orphaned .snap.db file; deleting");
                    let path = self.dir.join(&entry.name);
                    self.fs.remove_file(&path).at(&path)?;
                }
                Some(_) => {}
                None => tracing::error!(path = entry.name, "failed to parse index from filename"),
            }
        }
        Ok(())
    }
}

/// Reads and checks one `.snap` file.
pub fn read(fs: &dyn Fs, path: &Path) -> Result<Snapshot, Error> {
    let content = read_all(fs, path)?;
    if content.is_empty() {
        return Err(Error::EmptySnapshot);
    }
    let envelope = api::snappb::Snapshot::decode(content).map_err(Error::SnapMalformed)?;
    if envelope.data.is_empty() || envelope.crc == 0 {
        return Err(Error::EmptySnapshot);
    }
    if crc32c::crc32c(&envelope.data) != envelope.crc {
        return Err(Error::SnapCrcMismatch);
    }
    Snapshot::decode(envelope.data).map_err(Error::SnapMalformed)
}

fn read_all(fs: &dyn Fs, path: &Path) -> Result<Bytes, Error> {
    let file = fs.open(path, OpenOptions::read()).at(path)?;
    let mut content = Vec::new();
    loop {
        let old = content.len();
        content.resize(old + CHUNK, 0);
        let n = file.read_at(&mut content[old..], old as u64).at(path)?;
        content.truncate(old + n);
        if n == 0 {
            return Ok(content.into());
        }
    }
}

#[cfg(test)]
mod tests;

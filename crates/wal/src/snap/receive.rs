//! A database on its way in from a leader.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use disk::{File, Fs, OpenOptions};

use crate::error::At;
use crate::{Error, Observer};

/// Tells apart transfers that run at the same time.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Takes the bytes of a database into `tmp<n>` and gives the file its name when it is complete. A
/// receiver that is dropped before that removes its file.
#[derive(Debug)]
pub struct DbReceiver {
    fs: Arc<dyn Fs>,
    file: Arc<dyn File>,
    temporary: PathBuf,
    target: PathBuf,
    written: u64,
    start: Instant,
    observer: Arc<dyn Observer>,
    finished: bool,
}

impl DbReceiver {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        dir: &Path,
        target: PathBuf,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let (file, temporary) = loop {
            let path = dir.join(format!("tmp{:09}", NEXT.fetch_add(1, Ordering::Relaxed)));
            let options = OpenOptions {
                create_new: true,
                ..OpenOptions::create()
            };
            match fs.open(&path, options) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => break (other.at(&path)?, path),
            }
        };
        Ok(Self {
            fs,
            file,
            temporary,
            target,
            written: 0,
            start,
            observer,
            finished: false,
        })
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, self.written)
            .at(&self.temporary)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the database durable under its name and returns how many bytes it has. If a file of that
    /// name is there already, it stays as it is.
    pub fn finish(mut self) -> Result<u64, Error> {
        let sync_start = Instant::now();
        self.file.sync_all().at(&self.temporary)?;
        let sync = sync_start.elapsed();
        if !self.fs.exists(&self.target) {
            self.fs
                .rename(&self.temporary, &self.target)
                .at(&self.target)?;
            self.finished = true;
            let dir = disk::parent(&self.target);
            self.fs.sync_dir(&dir).at(&dir)?;
        }
        self.observer.snap_db_saved(sync, self.start.elapsed());
        let (path, bytes) = (self.target.display().to_string(), self.written);
        tracing::info!(path, bytes, "saved database snapshot to disk");
        Ok(self.written)
    }
}

impl Drop for DbReceiver {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.fs.remove_file(&self.temporary)
        {
            let path = self.temporary.display().to_string();
            tracing::warn!(path, %error, "failed to remove temporary file");
        }
    }
}

//! Opening a database.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use disk::Fs;

use crate::layers::Layers;
use crate::position::{self, Position};
use crate::shared::Shared;
use crate::{Backend, Bucket, Config, Error, Writer, committer, defrag, file};

/// When the wait for another process's lock is worth a line in the log.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// In which order etcd makes its buckets.
const CREATION_ORDER: [Bucket; Bucket::COUNT] = [
    Bucket::Meta,
    Bucket::Members,
    Bucket::MembersRemoved,
    Bucket::Cluster,
    Bucket::Lease,
    Bucket::Key,
    Bucket::Auth,
    Bucket::AuthUsers,
    Bucket::AuthRoles,
    Bucket::Alarm,
];

/// Opens the database file or creates it, waiting for its lock as [`bbolt::Options::lock_timeout`] says, makes sure
/// that all buckets exist, and starts the commit thread.
pub fn open(fs: Arc<dyn Fs>, config: Config) -> Result<(Arc<Backend>, Writer), Error> {
    let start = Instant::now();
    let db = open_file(&fs, &config, start)?;
    if !config.bbolt.read_only {
        defrag::remove_leftovers(&*fs, &disk::parent(&config.path));
        create_buckets(&db)?;
    }
    let base = db.read()?;
    let position = read_position(&base)?;
    let layers = Layers::new(base, position, config.batch_limit);
    let path = config.path.clone();
    let shared = Arc::new(Shared::new(fs, config, db, layers));
    let worker = shared.clone();
    let thread = thread::Builder::new()
        .name("backend".into())
        .spawn(move || committer::run(&worker))
        .map_err(|e| Error::io(&path, e))?;
    tracing::info!(path = %path.display(), took = ?start.elapsed(), "opened backend db");
    let backend = Arc::new(Backend::new(shared, Mutex::new(Some(thread))));
    let writer = Writer::new(backend.clone());
    Ok((backend, writer))
}

fn open_file(fs: &Arc<dyn Fs>, config: &Config, start: Instant) -> Result<bbolt::Db, Error> {
    if config.bbolt.lock_timeout.is_some() {
        return Ok(bbolt::Db::open(
            fs.clone(),
            &config.path,
            config.bbolt.clone(),
        )?);
    }
    let impatient = bbolt::Options {
        lock_timeout: Some(LONG_WAIT),
        ..config.bbolt.clone()
    };
    match bbolt::Db::open(fs.clone(), &config.path, impatient) {
        Err(bbolt::Error::Timeout) => {
            tracing::info!(
                path = %config.path.display(),
                took = ?start.elapsed(),
                "db file is flocked by another process, or taking too long"
            );
            Ok(bbolt::Db::open(
                fs.clone(),
                &config.path,
                config.bbolt.clone(),
            )?)
        }
        opened => Ok(opened?),
    }
}

pub(crate) fn create_buckets(db: &bbolt::Db) -> Result<(), Error> {
    let present = db.read()?;
    let mut missing = Vec::new();
    for bucket in CREATION_ORDER {
        if present.bucket(bucket.name().as_bytes())?.is_none() {
            missing.push(bucket);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut tx = db.write()?;
    for bucket in missing {
        tx.create_bucket_if_missing(bucket.name().as_bytes())?;
    }
    tx.commit()?;
    Ok(())
}

/// The position that a state of the file records.
pub(crate) fn read_position(tx: &bbolt::ReadTx) -> Result<Option<Position>, Error> {
    let index = file::get(tx, Bucket::Meta, position::CONSISTENT_INDEX)?;
    let term = file::get(tx, Bucket::Meta, position::TERM)?;
    Ok(Position::parse(index.as_deref(), term.as_deref()))
}

/// Whether a file is there that [`open`] would open.
pub fn exists(fs: &dyn Fs, path: &Path) -> bool {
    fs.exists(path)
}

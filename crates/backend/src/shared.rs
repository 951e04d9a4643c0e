//! What the handles and threads of one backend share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use disk::Fs;

use crate::control::Control;
use crate::layers::Layers;
use crate::rewrite::Rewrite;
use crate::{Config, Error};

/// The file, held during a commit and while a rewritten file takes its place. Nobody that serves clients takes it.
#[derive(Debug)]
pub(crate) struct Store {
    pub db: bbolt::Db,
    pub rewrite: Option<Rewrite>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub fs: Arc<dyn Fs>,
    pub config: Config,
    layers: RwLock<Layers>,
    pub control: Arc<Control>,
    store: Mutex<Store>,
    /// Held by a rewrite for its whole time, and by a compaction per batch.
    maintenance: Mutex<()>,
    /// The file's engine, for numbers: never held for longer than a look.
    handle: Mutex<bbolt::Db>,
    size: AtomicU64,
    in_use: AtomicU64,
}

/// A panic of one thread must not take the others' locks away from them: what these protect is changed in steps that
/// cannot panic half-way.
fn whole<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(fs: Arc<dyn Fs>, config: Config, db: bbolt::Db, layers: Layers) -> Self {
        let shared = Self {
            fs,
            config,
            layers: RwLock::new(layers),
            control: Arc::default(),
            handle: Mutex::new(db.clone()),
            store: Mutex::new(Store { db, rewrite: None }),
            maintenance: Mutex::default(),
            size: AtomicU64::new(0),
            in_use: AtomicU64::new(0),
        };
        shared.refresh_sizes(&shared.store().db);
        shared
    }

    pub fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        whole(self.layers.read())
    }

    pub fn layers_mut(&self) -> RwLockWriteGuard<'_, Layers> {
        whole(self.layers.write())
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        whole(self.store.lock())
    }

    pub fn maintenance(&self) -> MutexGuard<'_, ()> {
        whole(self.maintenance.lock())
    }

    pub fn handle(&self) -> bbolt::Db {
        whole(self.handle.lock()).clone()
    }

    pub fn set_handle(&self, db: bbolt::Db) {
        *whole(self.handle.lock()) = db;
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn refresh_sizes(&self, db: &bbolt::Db) {
        self.size.store(db.size(), Ordering::Relaxed);
        self.in_use.store(db.size_in_use(), Ordering::Relaxed);
    }

    /// Blocks while too many bytes wait for the file; `pending` is what the caller last saw.
    pub fn wait_for_room(&self, pending: usize) {
        let limit = self.config.max_pending_bytes;
        if pending > limit {
            self.control
                .wait_for_room(&|| self.layers().pending() > limit);
        }
    }

    /// The state of the disk is unknown from now on.
    pub fn fail(&self, error: &Error) -> Error {
        tracing::error!(error = %error, "failed to commit tx");
        let poisoned = Error::Poisoned(error.to_string().into());
        if let Some(observer) = &self.config.observer {
            observer.fatal(&poisoned);
        }
        // Only now: whoever waits must not act on the failure before the process knows of it.
        self.control.fail(poisoned.clone());
        poisoned
    }

    pub fn path(&self) -> &Path {
        &self.config.path
    }

    pub fn dir(&self) -> PathBuf {
        disk::parent(self.path())
    }
}

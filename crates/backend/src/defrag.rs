//! Rewriting the file without its holes while it is in use.
//!
//! The copy is made in steps, each from the newest committed state, so no old state is pinned for long. Commits to
//! the old file go on meanwhile; keys they change behind the copy are noted ([`crate::rewrite`]) and copied again.
//! When little is left, commits are held back, the rest is copied, and the new file takes the old one's name. Held
//! back commits wait in memory: neither readers nor writers notice.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::rewrite::Rewrite;
use crate::shared::{Shared, Store};
use crate::text::human_bytes;
use crate::{Bucket, Error};

/// Puts per commit of the copy; etcd's choice.
const STEP: usize = 10_000;
/// Bytes per commit of the copy, so that big values do not make a step long.
const STEP_BYTES: usize = 16 << 20;
const FILL_PERCENT: f64 = 0.9;
/// Keys that may be left for the moment commits are held back.
const REST: usize = 1000;
/// After so many rounds the rest is copied however large it is.
const ROUNDS: usize = 16;

/// Names of the files a rewrite works on start like this.
pub(crate) const TEMPORARY: &str = "db.tmp.";

/// Rewrites the file. On an error before the new file took over, the old one goes on being used.
pub(crate) fn run(shared: &Shared) -> Result<(), Error> {
    let _exclusive = shared.maintenance();
    let start = Instant::now();
    let (size, in_use) = (shared.size(), shared.in_use());
    let path = shared.dir().join(format!("{TEMPORARY}{}", random()));
    tracing::info!(
        path = %shared.path().display(),
        "current-db-size-bytes" = size,
        "current-db-size" = human_bytes(size),
        "current-db-size-in-use-bytes" = in_use,
        "current-db-size-in-use" = human_bytes(in_use),
        "defragmenting"
    );
    let result = rewrite(shared, &path);
    if let Err(error) = result {
        shared.store().rewrite = None;
        // Gone already if it took over.
        let _ = shared.fs.remove_file(&path);
        tracing::error!(path = %shared.path().display(), error = %error, "failed to defragment");
        return Err(error);
    }
    let took = start.elapsed();
    tracing::info!(
        path = %shared.path().display(),
        "current-db-size-bytes-diff" = shared.size() as i64 - size as i64,
        "current-db-size-bytes" = shared.size(),
        "current-db-size" = human_bytes(shared.size()),
        "current-db-size-in-use-bytes-diff" = shared.in_use() as i64 - in_use as i64,
        "current-db-size-in-use-bytes" = shared.in_use(),
        "current-db-size-in-use" = human_bytes(shared.in_use()),
        took = ?took,
        "finished defragmenting directory"
    );
    if let Some(observer) = &shared.config.observer {
        observer.defragmented(took);
    }
    Ok(())
}

/// The suffix only has to differ from those of leftovers.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

fn rewrite(shared: &Shared, path: &Path) -> Result<(), Error> {
    let mut options = shared.config.bbolt.clone();
    options.page_size = shared.store().db.page_size();
    let target = bbolt::Db::open(shared.fs.clone(), path, options)?;
    shared.store().rewrite = Some(Rewrite::new());
    let mut copy = Copy {
        shared,
        target,
        name: Vec::new(),
        key: Vec::new(),
    };
    while copy.step()? {
        check_alive(shared)?;
    }
    for _ in 0..ROUNDS {
        check_alive(shared)?;
        if copy.catch_up()? <= REST {
            break;
        }
    }
    copy.take_over(path)
}

/// A failed or closed backend needs no new file.
fn check_alive(shared: &Shared) -> Result<(), Error> {
    match shared.control.failure() {
        Some(error) => Err(error),
        None if shared.control.is_stopping() => Err(Error::Closed),
        None => Ok(()),
    }
}

struct Copy<'s> {
    shared: &'s Shared,
    target: bbolt::Db,
    /// Bucket and key copied last. An empty key stands before all keys of the bucket.
    name: Vec<u8>,
    key: Vec<u8>,
}

impl Copy<'_> {
    /// Copies the next keys from the newest state. Returns whether more are left.
    fn step(&mut self) -> Result<bool, Error> {
        let source = self.with_rewrite(|store| {
            store.rewrite.get_or_insert_with(Rewrite::new).start_step();
            store.db.read()
        })?;
        let more = self.copy_some(&source)?;
        self.with_rewrite(|store| {
            if more && let Some(rewrite) = &mut store.rewrite {
                rewrite.end_step(&self.name, &self.key);
            }
        });
        Ok(more)
    }

    fn with_rewrite<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.shared.store())
    }

    fn copy_some(&mut self, source: &bbolt::ReadTx) -> Result<bool, Error> {
        let mut tx = self.target.write()?;
        let mut room = Room {
            ops: STEP,
            bytes: STEP_BYTES,
        };
        for name in source.buckets() {
            let name = name?;
            if name[..] < self.name[..] {
                continue;
            }
            if name[..] > self.name[..] {
                self.name = name.to_vec();
                self.key.clear();
            }
            if !self.copy_bucket(source, &mut tx, &mut room)? {
                tx.commit()?;
                return Ok(true);
            }
        }
        tx.commit()?;
        Ok(false)
    }

    /// Copies the rest of the current bucket; `false` if the step is full before its end.
    fn copy_bucket(
        &mut self,
        source: &bbolt::ReadTx,
        tx: &mut bbolt::WriteTx,
        room: &mut Room,
    ) -> Result<bool, Error> {
        let Some(from) = source.bucket(&self.name)? else {
            return Ok(true);
        };
        tx.create_bucket_if_missing(&self.name)?;
        let mut to = tx.bucket(&self.name)?.ok_or(bbolt::Error::BucketNotFound)?;
        to.set_fill_percent(FILL_PERCENT);
        let mut cursor = from.cursor();
        let mut item = if self.key.is_empty() {
            cursor.first()?
        } else {
            cursor.seek(&self.key)?
        };
        if item.is_some_and(|(key, _)| *key == self.key[..]) {
            item = cursor.next()?;
        }
        let mut last = None;
        while let Some((key, value)) = item {
            if room.is_full() {
                break;
            }
            let value = value.ok_or(Error::Rewrite("a bucket within a bucket"))?;
            to.put(key, value)?;
            room.take(key.len() + value.len());
            last = Some(key);
            item = cursor.next()?;
        }
        if let Some(last) = last {
            self.key = last.to_vec();
        }
        Ok(item.is_none())
    }

    /// Copies keys again that were changed behind the copy; returns how many there were.
    fn catch_up(&mut self) -> Result<usize, Error> {
        let (source, stale) = self.with_rewrite(|store| {
            let stale = store
                .rewrite
                .as_mut()
                .map(Rewrite::take_stale)
                .unwrap_or_default();
            store.db.read().map(|source| (source, stale))
        })?;
        let count = stale.len();
        copy_again(&self.target, &source, stale)?;
        Ok(count)
    }

    /// Copies the last keys while commits are held back, and lets the new file take the old one's place.
    fn take_over(self, path: &Path) -> Result<(), Error> {
        let mut store = self.shared.store();
        check_alive(self.shared)?;
        let stale = store
            .rewrite
            .as_mut()
            .map(Rewrite::take_stale)
            .unwrap_or_default();
        let source = store.db.read()?;
        copy_again(&self.target, &source, stale)?;
        drop(source);
        let base = self.target.read()?;
        self.shared
            .fs
            .rename(path, self.shared.path())
            .map_err(|e| Error::io(path, e))?;
        // From here on the old file may be gone after a crash, so there is no way back.
        if let Err(error) = self.shared.fs.sync_dir(&self.shared.dir()) {
            return Err(self.shared.fail(&Error::io(path, error)));
        }
        store.rewrite = None;
        let old = std::mem::replace(&mut store.db, self.target);
        self.shared.set_handle(store.db.clone());
        self.shared.refresh_sizes(&store.db);
        let replaced = self.shared.layers_mut().rebase(base);
        drop(store);
        drop((old, replaced));
        Ok(())
    }
}

/// Brings some keys of the target to the source's state.
fn copy_again(
    target: &bbolt::Db,
    source: &bbolt::ReadTx,
    keys: impl IntoIterator<Item = (Bucket, crate::layer::Key)>,
) -> Result<(), Error> {
    let mut tx = target.write()?;
    for (bucket, key) in keys {
        let name = bucket.name().as_bytes();
        tx.create_bucket_if_missing(name)?;
        let mut to = tx.bucket(name)?.ok_or(bbolt::Error::BucketNotFound)?;
        let from = source.bucket(name)?;
        match from.map(|from| from.get(&key)).transpose()?.flatten() {
            Some(value) => to.put(&key, value)?,
            None => drop(to.delete(&key)?),
        }
    }
    tx.commit()?;
    Ok(())
}

/// What still fits into a step.
struct Room {
    ops: usize,
    bytes: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.ops == 0 || self.bytes == 0
    }

    fn take(&mut self, bytes: usize) {
        self.ops -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Removes what rewrites left behind that a crash cut short. The caller has the database's lock, so nobody else is
/// rewriting it.
pub(crate) fn remove_leftovers(fs: &dyn disk::Fs, dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs.read_dir(dir) else {
        return Vec::new();
    };
    let leftovers = entries
        .into_iter()
        .filter(|entry| !entry.is_dir && entry.name.starts_with(TEMPORARY));
    let mut removed = Vec::new();
    for entry in leftovers {
        let path = dir.join(&entry.name);
        match fs.remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "found orphaned defragmentation file; deleting");
                removed.push(path);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "failed to delete orphaned defragmentation file");
            }
        }
    }
    removed
}

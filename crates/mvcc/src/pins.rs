//! Keeping compactions from overtaking reads.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Revisions that are being read outside of the index lock. A compaction removes nothing that a pinned revision
/// needs: it waits until the pins below it are gone. New ones cannot appear there, since reads below the compaction
/// are refused from the moment it was applied.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    revisions: Mutex<BTreeMap<i64, usize>>,
    released: Condvar,
}

impl Pins {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, usize>> {
        self.revisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Must be called while the index lock is held (for reading or writing) that showed `revision` to be readable.
    pub fn pin(&self, revision: i64) -> Pin<'_> {
        *self.lock().entry(revision).or_default() += 1;
        Pin {
            pins: self,
            revision,
        }
    }

    /// Blocks until no revision below `revision` is pinned.
    pub fn wait_below(&self, revision: i64) {
        let mut revisions = self.lock();
        while revisions
            .keys()
            .next()
            .is_some_and(|lowest| *lowest < revision)
        {
            revisions = self
                .released
                .wait(revisions)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Keeps one revision readable.
#[derive(Debug)]
pub(crate) struct Pin<'p> {
    pins: &'p Pins,
    revision: i64,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut revisions = self.pins.lock();
        if let Some(count) = revisions.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                revisions.remove(&self.revision);
                self.pins.released.notify_all();
            }
        }
    }
}

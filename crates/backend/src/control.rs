//! What writers, waiters and the commit thread tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;
use crate::layers::Mark;

#[derive(Debug, Default)]
struct State {
    durable: Mark,
    requested: Mark,
    /// Commit as soon as possible.
    urgent: bool,
    /// When the oldest change that waits came in.
    dirty_since: Option<Instant>,
    shutdown: bool,
    stopped: bool,
    failed: Option<Error>,
}

/// The rendezvous of all threads that have to do with commits.
#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
    /// `state.dirty_since.is_some()`, readable without the lock.
    dirty: AtomicBool,
    /// `state.requested.entry`, readable without the lock.
    requested_entry: AtomicU64,
    failed: AtomicBool,
}

/// What the commit thread shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Commit; `position_too` even if nothing but the position moved.
    Commit { position_too: bool },
    /// Commit what is there and stop.
    Stop,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of changes that want to be committed within the batch interval, or at once.
    pub fn changed(&self, mark: Mark, urgent: bool) {
        let wanted = mark.entry <= self.requested_entry.load(Ordering::Acquire);
        if !urgent && !wanted && self.dirty.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.lock();
        state.urgent |= urgent || wanted;
        self.dirty.store(true, Ordering::Release);
        state.dirty_since.get_or_insert_with(Instant::now);
        self.wake.notify_one();
    }

    /// Nothing but the position moved; only who asked for it gets a commit.
    pub fn moved(&self, mark: Mark) {
        if mark.entry <= self.requested_entry.load(Ordering::Acquire) {
            self.lock().urgent = true;
            self.wake.notify_one();
        }
    }

    /// Asks for everything up to `mark` to be made durable. Entries that have not ended yet are committed when they
    /// have.
    pub fn request(&self, mark: Mark, ended: Mark) {
        let mut state = self.lock();
        if state.durable.covers(mark) {
            return;
        }
        state.requested = state.requested.max(mark);
        self.requested_entry
            .store(state.requested.entry, Ordering::Release);
        // An entry may end between the look at `ended` and now; it sees the request then.
        if ended.covers(mark) {
            state.urgent = true;
            self.wake.notify_one();
        }
    }

    pub fn is_done(&self, mark: Mark) -> bool {
        let state = self.lock();
        state.durable.covers(mark) || state.failed.is_some() || state.stopped
    }

    pub fn wait(&self, mark: Mark) -> Result<(), Error> {
        let mut state = self.lock();
        loop {
            if state.durable.covers(mark) {
                return Ok(());
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stopped {
                return Err(Error::Closed);
            }
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks while `too_much` and commits go on.
    pub fn wait_for_room(&self, too_much: &dyn Fn() -> bool) {
        let mut state = self.lock();
        while state.failed.is_none() && !state.stopped && too_much() {
            state.urgent = true;
            self.wake.notify_one();
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks the commit thread until there is something to do.
    pub fn next_task(&self, interval: Duration) -> Task {
        let mut state = self.lock();
        loop {
            if state.shutdown {
                return Task::Stop;
            }
            let waited = state.dirty_since.map(|since| since.elapsed());
            if state.urgent || waited.is_some_and(|waited| waited >= interval) {
                state.urgent = false;
                state.dirty_since = None;
                self.dirty.store(false, Ordering::Release);
                return Task::Commit {
                    position_too: !state.durable.covers(state.requested),
                };
            }
            state = match waited {
                None => self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(waited) => {
                    let rest = interval.saturating_sub(waited);
                    let woken = self.wake.wait_timeout(state, rest);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Everything up to `mark` is synced.
    pub fn committed(&self, mark: Mark) {
        let mut state = self.lock();
        state.durable = state.durable.max(mark);
        drop(state);
        self.done.notify_all();
    }

    /// A commit failed: nobody may hope any more.
    pub fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Release);
        self.lock().failed = Some(error);
        self.done.notify_all();
    }

    /// Why nothing is written any more.
    pub fn failure(&self) -> Option<Error> {
        if self.failed.load(Ordering::Acquire) {
            self.lock().failed.clone()
        } else {
            None
        }
    }

    pub fn shutdown(&self) {
        self.lock().shutdown = true;
        self.wake.notify_one();
    }

    /// Whether the backend is being closed.
    pub fn is_stopping(&self) -> bool {
        let state = self.lock();
        state.shutdown || state.stopped
    }

    /// The commit thread is gone.
    pub fn stopped(&self) {
        self.lock().stopped = true;
        self.done.notify_all();
    }
}

//! What the apply thread, the frontends, the dispatcher and the history thread have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crate::command::Command;
use crate::history::History;
use crate::log::{EventLog, LogLimits, Revision};
use crate::stats::Stats;

/// See the module's text.
pub(crate) struct Shared {
    log: Mutex<EventLog>,
    commands: Mutex<Vec<Command>>,
    history: Arc<dyn History>,
    /// Revision of the last compaction.
    compacted: AtomicI64,
    /// Watchers that exist or are asked for. With none the dispatcher can sleep on.
    watchers: AtomicUsize,
    /// The dispatcher sleeps or is about to: whoever has news must wake it.
    sleeping: AtomicBool,
    dispatcher: OnceLock<Thread>,
    stopping: AtomicBool,
    pub(crate) stats: Stats,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(history: Arc<dyn History>, limits: LogLimits) -> Self {
        Self {
            log: Mutex::new(EventLog::new(history.current_revision(), limits)),
            commands: Mutex::default(),
            compacted: AtomicI64::new(history.compact_revision()),
            history,
            watchers: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            dispatcher: OnceLock::new(),
            stopping: AtomicBool::new(false),
            stats: Stats::default(),
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        lock(&self.log)
    }

    pub(crate) fn history(&self) -> Arc<dyn History> {
        Arc::clone(&self.history)
    }

    /// Adds a revision. Called by the apply thread: one short lock, and a wake-up at most.
    pub(crate) fn publish(&self, entry: Revision) {
        let mut removed = Vec::new();
        self.log().push(entry, &mut removed);
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// The store's content was replaced, by a snapshot of the leader.
    pub(crate) fn restored(&self) {
        let mut removed = Vec::new();
        self.set_compacted(self.history.compact_revision());
        self.log()
            .restart(self.history.current_revision(), &mut removed);
        self.wake();
    }

    pub(crate) fn set_compacted(&self, revision: i64) {
        self.compacted.store(revision, Ordering::SeqCst);
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::SeqCst)
    }

    /// Gives the dispatcher something to do.
    pub(crate) fn send(&self, command: Command) {
        if matches!(command, Command::Create(..)) {
            self.watchers.fetch_add(1, Ordering::SeqCst);
        }
        lock(&self.commands).push(command);
        self.wake();
    }

    pub(crate) fn take_commands(&self, into: &mut Vec<Command>) {
        std::mem::swap(&mut *lock(&self.commands), into);
    }

    /// A watcher is gone, or did not come to be.
    pub(crate) fn watcher_gone(&self) {
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        // A mutex that both sides took before makes sure that either this sees `sleeping` or the
        // dispatcher, which looks again after setting it, sees the news.
        if self.sleeping.load(Ordering::SeqCst)
            && self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(dispatcher) = self.dispatcher.get()
        {
            dispatcher.unpark();
        }
    }

    /// Sleeps until there is something to do after `position`. Called by the dispatcher.
    pub(crate) fn sleep(&self, position: i64) {
        self.dispatcher.get_or_init(std::thread::current);
        self.sleeping.store(true, Ordering::SeqCst);
        let news = !lock(&self.commands).is_empty() || {
            // In this order: a publisher that saw no watcher has its revision in the log already.
            let last = self.log().last();
            last != position && self.watchers.load(Ordering::SeqCst) > 0
        };
        if !news && !self.is_stopping() {
            std::thread::park();
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(dispatcher) = self.dispatcher.get() {
            dispatcher.unpark();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

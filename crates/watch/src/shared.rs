//! What the apply thread, the frontends, the dispatcher and the history thread have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::command::Command;
use crate::history::History;
use crate::log::{EventLog, LogLimits, Revision};
use crate::stats::Stats;

/// What the dispatcher does: works and looks for news by itself before it rests, …
const AWAKE: u8 = 0;
/// … rests for a moment, to be disturbed by requests but not by revisions, …
const NAPPING: u8 = 1;
/// … or sleeps until somebody wakes it.
const SLEEPING: u8 = 2;

/// Length of a nap. Waking a thread is the most expensive thing `publish` could do (tens of µs when
/// it takes the waker's processor), so while revisions keep coming nobody wakes the dispatcher: it
/// comes by itself. This is the delay that adds to a watch event then.
const NAP: Duration = Duration::from_micros(100);

/// How many naps without news there are before the dispatcher sleeps.
const NAPS: u32 = 20;

/// See the module's text.
pub(crate) struct Shared {
    log: Mutex<EventLog>,
    commands: Mutex<Vec<Command>>,
    history: Arc<dyn History>,
    /// Revision of the last compaction.
    compacted: AtomicI64,
    /// Watchers that exist or are asked for. With none the dispatcher can sleep on.
    watchers: AtomicUsize,
    /// One of the above.
    rest: AtomicU8,
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
            rest: AtomicU8::new(AWAKE),
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

    /// Adds a revision. Called by the apply thread: one short lock, and the first revision after a
    /// quiet time wakes the dispatcher.
    pub(crate) fn publish(&self, entry: Revision) {
        let mut removed = Vec::new();
        self.log().push(entry, &mut removed);
        if self.watchers.load(Ordering::SeqCst) > 0 && self.rest.load(Ordering::SeqCst) == SLEEPING
        {
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
        if self.rest.load(Ordering::SeqCst) != AWAKE
            && self.rest.swap(AWAKE, Ordering::SeqCst) != AWAKE
            && let Some(dispatcher) = self.dispatcher.get()
        {
            dispatcher.unpark();
        }
    }

    /// Rests until there may be something to do after `position`. `quiet` counts the rests since
    /// there was. Called by the dispatcher.
    ///
    /// Nothing is overlooked: `rest` is set before the news are looked for, under the locks that
    /// whoever brings news takes before it looks at `rest`.
    pub(crate) fn rest(&self, position: i64, quiet: u32) {
        self.dispatcher.get_or_init(std::thread::current);
        let nap = quiet < NAPS;
        self.rest
            .store(if nap { NAPPING } else { SLEEPING }, Ordering::SeqCst);
        if lock(&self.commands).is_empty() && !self.is_stopping() {
            if nap {
                std::thread::park_timeout(NAP);
            } else if !self.has_revisions(position) {
                std::thread::park();
            }
        }
        self.rest.store(AWAKE, Ordering::SeqCst);
    }

    /// Whether somebody waits for revisions after `position`.
    fn has_revisions(&self, position: i64) -> bool {
        // In this order: a publisher that saw no watcher has its revision in the log already.
        let last = self.log().last();
        last != position && self.watchers.load(Ordering::SeqCst) > 0
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

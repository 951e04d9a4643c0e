//! The background half of compactions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backend::Ticket;

use crate::{Error, Store, scrub};

/// Keys of bucket `meta`: the compaction that was applied, and the one whose deletions are complete.
pub(crate) const SCHEDULED: &[u8] = b"scheduledCompactRev";
pub(crate) const FINISHED: &[u8] = b"finishedCompactRev";

/// How many compactions may wait. When there are more, the oldest is left to its successor, which deletes a superset.
const QUEUE: usize = 64;

/// One compaction to do.
#[derive(Debug)]
pub(crate) struct Job {
    pub revision: i64,
    /// The compacted revision before.
    pub previous: i64,
    /// Done when the compaction itself, and so everything before it, is durable. `None` after a restart.
    pub ticket: Option<Ticket>,
    /// Whether its hash says anything: not if the compaction before was cut short or skipped.
    pub keep_hash: bool,
}

type Callback = Box<dyn FnOnce(Result<(), Error>) + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Highest revision ever queued.
    scheduled: i64,
    /// Everything up to here is deleted.
    finished: i64,
    failed: Option<Error>,
    stop: bool,
    callbacks: Vec<(i64, Callback)>,
}

/// The queue between the applying thread and the compacting one.
#[derive(Default)]
pub(crate) struct Compaction {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.lock();
        f.debug_struct("Compaction")
            .field("scheduled", &queue.scheduled)
            .field("finished", &queue.finished)
            .field("waiting", &queue.jobs.len())
            .finish_non_exhaustive()
    }
}

impl Compaction {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over with what a database says; `unfinished` is a compaction that was cut short.
    pub fn reset(&self, finished: i64, unfinished: Option<i64>) {
        let mut queue = self.lock();
        queue.scheduled = unfinished.unwrap_or(finished);
        queue.finished = finished;
        queue.failed = None;
        queue.stop = false;
        queue.jobs.clear();
        if let Some(revision) = unfinished {
            tracing::info!(
                "scheduled-compact-revision" = revision,
                "resume scheduled compaction"
            );
            queue.jobs.push_back(Job {
                revision,
                previous: finished,
                ticket: None,
                keep_hash: false,
            });
        }
    }

    pub fn enqueue(&self, mut job: Job) {
        let mut queue = self.lock();
        // As etcd does, a hash is kept only if the compaction before is complete; one that is about to be counts, too,
        // since jobs are done in order and each is whole before the next begins.
        job.keep_hash &= queue.failed.is_none();
        if queue.jobs.len() >= QUEUE {
            queue.jobs.pop_front();
            if let Some(next) = queue.jobs.front_mut() {
                next.keep_hash = false;
            }
        }
        queue.scheduled = job.revision;
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_all();
    }

    /// The next compaction; `None` when there will be none.
    pub fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.stop {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps between batches; `false` when it is time to stop.
    pub fn pause(&self, time: Duration) -> bool {
        let queue = self.lock();
        let (queue, _) = self
            .changed
            .wait_timeout_while(queue, time, |queue| !queue.stop)
            .unwrap_or_else(PoisonError::into_inner);
        !queue.stop
    }

    /// A compaction is complete.
    pub fn finish(&self, revision: i64) {
        self.settle(|queue| queue.finished = queue.finished.max(revision));
    }

    /// No compaction will be completed any more.
    pub fn fail(&self, error: Error) {
        self.settle(|queue| queue.failed = Some(error));
    }

    pub fn stop(&self) {
        self.settle(|queue| queue.stop = true);
    }

    fn settle(&self, act: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        act(&mut queue);
        let (done, waiting) = std::mem::take(&mut queue.callbacks)
            .into_iter()
            .map(|(revision, callback)| (queue.outcome(revision), revision, callback))
            .partition::<Vec<_>, _>(|(outcome, ..)| outcome.is_some());
        queue.callbacks = waiting
            .into_iter()
            .map(|(_, revision, callback)| (revision, callback))
            .collect();
        drop(queue);
        self.changed.notify_all();
        for (outcome, _, callback) in done {
            callback(outcome.unwrap_or(Err(Error::Closed)));
        }
    }

    pub fn wait(&self, revision: i64) -> Result<(), Error> {
        let mut queue = self.lock();
        loop {
            if let Some(outcome) = queue.outcome(revision) {
                return outcome;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls back when `wait` would return.
    pub fn on_done(&self, revision: i64, callback: Callback) {
        let mut queue = self.lock();
        match queue.outcome(revision) {
            Some(outcome) => {
                drop(queue);
                callback(outcome);
            }
            None => queue.callbacks.push((revision, callback)),
        }
    }
}

impl Queue {
    fn outcome(&self, revision: i64) -> Option<Result<(), Error>> {
        if revision <= self.finished {
            return Some(Ok(()));
        }
        if let Some(error) = &self.failed {
            return Some(Err(error.clone()));
        }
        if self.stop {
            return Some(Err(Error::Closed));
        }
        (revision > self.scheduled).then_some(Err(Error::FutureRev))
    }
}

/// A compaction that was applied and whose deletions go on in the background.
#[derive(Clone, Debug)]
pub struct CompactionJob {
    store: Arc<Store>,
    revision: i64,
}

impl CompactionJob {
    pub(crate) fn new(store: Arc<Store>, revision: i64) -> Self {
        Self { store, revision }
    }

    /// The compacted revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Blocks until everything is deleted and durable. Must not be called by the applying thread before it has ended
    /// the raft entry that compacted.
    pub fn wait(&self) -> Result<(), Error> {
        self.store.compaction.wait(self.revision)
    }

    /// Calls back when [`CompactionJob::wait`] would return, on the compacting thread or at once.
    pub fn on_done(&self, callback: impl FnOnce(Result<(), Error>) + Send + 'static) {
        self.store
            .compaction
            .on_done(self.revision, Box::new(callback));
    }
}

/// Starts the thread that does compactions, one after the other.
pub(crate) fn spawn(store: Arc<Store>) -> Option<JoinHandle<()>> {
    let shared = store.clone();
    let run = move || {
        while let Some(job) = store.compaction.next() {
            match scrub::run(&store, &job) {
                Ok(true) => store.compaction.finish(job.revision),
                Ok(false) => return,
                Err(error @ Error::Backend(backend::Error::Closed)) => {
                    // The member is stopping; the compaction is resumed at the next start.
                    store.compaction.fail(error);
                    return;
                }
                Err(error) => {
                    tracing::error!(error = %error, revision = job.revision, "compaction failed");
                    store.compaction.fail(error);
                    return;
                }
            }
        }
    };
    let spawned = thread::Builder::new().name("compaction".into()).spawn(run);
    if let Err(error) = &spawned {
        tracing::error!(error = %error, "cannot start the compaction thread");
        shared.compaction.fail(Error::Closed);
    }
    spawned.ok()
}

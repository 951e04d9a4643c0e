//! The log thread: takes all jobs that wait, writes them, syncs once, and reports the last one.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use api::raftpb::{HardState, Snapshot};

use crate::inbox::Inbox;
use crate::{Error, Events, LogStore, Persist, StoreError};

/// Work for the log thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// A step of the core.
    Persist(Persist),
    /// A snapshot of our own state: its file and its record, after which the log before it may go.
    Snapshot {
        snapshot: Snapshot,
        hard_state: HardState,
        reply: SyncSender<()>,
    },
    /// Write what waits, then end.
    Stop,
}

/// What waits for the log thread. The core bounds the bytes in it, see `Config::max_unpersisted_bytes`.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    state: Mutex<(Vec<Job>, bool)>,
    wake: Condvar,
    /// Jobs pushed and not yet finished.
    unfinished: AtomicUsize,
}

impl Jobs {
    pub fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.0.len();
        state.0.extend(jobs);
        self.unfinished
            .fetch_add(state.0.len() - before, Ordering::AcqRel);
        let wake = mem::take(&mut state.1);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Whether the log thread has nothing to do, now and until the next push.
    pub fn is_idle(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 0
    }

    fn take(&self, into: &mut Vec<Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0.is_empty() {
            state.1 = true;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.1 = false;
        mem::swap(&mut state.0, into);
    }

    fn is_empty(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .is_empty()
    }
}

/// Writes to the log. Shared by the log thread and, see [`crate::driver`], the consensus thread of a lone member.
pub(crate) struct LogWriter {
    store: Box<dyn LogStore>,
    /// Index of the newest snapshot record; an older one must not follow it.
    last_snapshot: u64,
    /// Something could not be written: nobody knows what the disk holds, so nothing more is written.
    failed: bool,
}

impl LogWriter {
    pub fn new(store: Box<dyn LogStore>, last_snapshot: u64) -> Self {
        Self {
            store,
            last_snapshot,
            failed: false,
        }
    }

    /// Makes one step durable, if that needs a sync. Not for steps with a snapshot.
    pub fn write_now(&mut self, step: &Persist) -> Result<(), StoreError> {
        self.guarded(|writer| {
            writer
                .store
                .append(step.hard_state.as_ref(), &step.entries)?;
            if step.sync {
                writer.store.sync()
            } else {
                Ok(())
            }
        })
    }

    /// Nobody waits.
    pub fn idle(&mut self) -> Result<(), StoreError> {
        self.guarded(|writer| writer.store.idle())
    }

    fn guarded(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let result = write(self);
        self.failed |= result.is_err();
        result
    }

    /// Group commit: every waiting step is appended, then one sync makes all of them durable. `durable` hears of
    /// the last one as soon as it is.
    fn write(
        &mut self,
        jobs: &mut Vec<Job>,
        durable: impl FnOnce((u64, u64)),
    ) -> Result<(), StoreError> {
        let mut sync = false;
        let mut last = None;
        let mut released = None;
        let mut snapshots = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Persist(step) => {
                    if let Some(snapshot) = &step.snapshot {
                        self.store.save_snapshot(snapshot)?;
                        self.last_snapshot = snapshot.metadata.index;
                        released = Some(snapshot.metadata.index);
                    }
                    self.store.append(step.hard_state.as_ref(), &step.entries)?;
                    sync |= step.sync;
                    if step.number > 0 {
                        last = Some((step.epoch, step.number));
                    }
                }
                Job::Snapshot {
                    snapshot,
                    hard_state,
                    reply,
                } => {
                    snapshots.push((snapshot, hard_state, reply));
                }
                // The very last commit index costs no sync otherwise, but a clean stop leaves nothing behind.
                Job::Stop => sync = true,
            }
        }
        if sync {
            self.store.sync()?;
        }
        last.map(durable);
        if let Some(index) = released {
            self.store.release_to(index)?;
        }
        for (snapshot, hard_state, reply) in snapshots {
            self.save_snapshot(&snapshot, &hard_state)?;
            // Whoever asked may have gone.
            let _ = reply.try_send(());
        }
        Ok(())
    }

    fn save_snapshot(
        &mut self,
        snapshot: &Snapshot,
        hard_state: &HardState,
    ) -> Result<(), StoreError> {
        let index = snapshot.metadata.index;
        if index <= self.last_snapshot {
            return Ok(());
        }
        self.store.append(Some(hard_state), &[])?;
        self.store.save_snapshot(snapshot)?;
        self.last_snapshot = index;
        self.store.release_to(index)
    }
}

pub(crate) struct LogThread {
    pub writer: Arc<Mutex<LogWriter>>,
    pub jobs: Arc<Jobs>,
    pub inbox: Arc<Inbox>,
    pub events: Arc<dyn Events>,
}

impl LogThread {
    pub fn run(self) {
        let mut jobs = Vec::new();
        loop {
            self.jobs.take(&mut jobs);
            let count = jobs.len();
            let stop = jobs.iter().any(|job| matches!(job, Job::Stop));
            if let Err(error) = self.write(&mut jobs) {
                tracing::error!(%error, "failed to write the log");
                // First the member hears of it, then nobody can reach this node any more.
                self.events.fatal(&Error::Log(error));
                // A closed inbox is closed for good, which is what this wants.
                let _ = self.inbox.push(|queue| queue.log_failed = true);
                return;
            }
            self.jobs.unfinished.fetch_sub(count, Ordering::AcqRel);
            if stop {
                return;
            }
        }
    }

    fn write(&self, jobs: &mut Vec<Job>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failed {
            // The consensus thread met the error and reported it.
            jobs.clear();
            return Ok(());
        }
        writer.guarded(|writer| {
            writer.write(jobs, |durable| {
                // If the consensus thread has ended, nobody needs to know.
                let _ = self.inbox.push(|queue| queue.persisted = Some(durable));
            })
        })?;
        if self.jobs.is_empty() {
            writer.idle()
        } else {
            Ok(())
        }
    }
}

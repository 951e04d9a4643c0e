//! What waits for the consensus thread. Everybody pushes under one short lock; the thread takes all of it at once and
//! is woken only when it sleeps.

use std::mem;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::raftpb::{ConfChange, ConfState, Message, Snapshot};

use crate::{ConfChangeError, MemberProgress, Proposal, Stopped};

/// Rare requests.
#[derive(Debug)]
pub(crate) enum Control {
    ProposeConfChange(ConfChange),
    ApplyConfChange {
        index: u64,
        change: Option<ConfChange>,
        reply: SyncSender<Result<ConfState, ConfChangeError>>,
    },
    SaveSnapshot {
        snapshot: Snapshot,
        reply: SyncSender<()>,
    },
    CompactTo(u64),
    PauseCompaction(bool),
    Transfer(u64),
    Campaign,
    AdvanceTicks(u32),
    SnapshotSent {
        to: u64,
        ok: bool,
    },
    Progress(SyncSender<Vec<MemberProgress>>),
    Stop,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub proposals: Vec<Proposal>,
    pub proposal_bytes: usize,
    pub messages: Vec<Message>,
    pub message_bytes: usize,
    pub reads: Vec<u64>,
    pub controls: Vec<Control>,
    /// Members that could not be reached, each once.
    pub unreachable: Vec<u64>,
    /// The newest completion of the log thread: epoch and number.
    pub persisted: Option<(u64, u64)>,
    /// Look at the applied index.
    pub nudged: bool,
    /// The log thread gave up.
    pub log_failed: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.proposals.is_empty()
            && self.messages.is_empty()
            && self.reads.is_empty()
            && self.controls.is_empty()
            && self.unreachable.is_empty()
            && self.persisted.is_none()
            && !self.nudged
            && !self.log_failed
    }

    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        let mut old = mem::take(self);
        old.proposals.clear();
        old.messages.clear();
        old.reads.clear();
        self.proposals = old.proposals;
        self.messages = old.messages;
        self.reads = old.reads;
    }
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    asleep: bool,
    closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something; [`Stopped`] if nobody will look at it.
    pub fn push<T>(&self, add: impl FnOnce(&mut Queue) -> T) -> Result<T, Stopped> {
        let mut state = self.lock();
        if state.closed {
            return Err(Stopped);
        }
        let result = add(&mut state.queue);
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(result)
    }

    /// Waits for at most `timeout` and moves all that waits into `into`, which must be cleared.
    pub fn take(&self, into: &mut Queue, timeout: Duration) {
        let mut state = self.lock();
        if state.queue.is_empty() && !timeout.is_zero() {
            state.asleep = true;
            state = self
                .wake
                .wait_timeout_while(state, timeout, |state| state.asleep)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.asleep = false;
        }
        mem::swap(&mut state.queue, into);
    }

    /// Refuses everything from now on and drops what waits: whoever waits for a reply learns that there is none.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// Memory a message holds while it waits, in bytes.
pub(crate) fn message_size(message: &Message) -> usize {
    let entries: usize = message
        .entries
        .iter()
        .map(|entry| entry.data.len() + 56)
        .sum();
    let snapshot = message
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.data.len());
    entries + snapshot + message.context.len() + 160
}

//! What everybody may read at any time, without asking the consensus thread.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::{Core, Leadership, Role};

/// A look at the node; the fields are read one after the other, so they can be of different steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: u64,
    /// Its role.
    pub role: Role,
    /// The leader; 0 if unknown.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// Who has this member's vote in this term; 0 if nobody.
    pub vote: u64,
    /// Highest entry known to be committed.
    pub committed: u64,
    /// Highest entry reported as applied.
    pub applied: u64,
    /// Who is being handed leadership by this member; 0 if nobody.
    pub transferee: u64,
    /// First entry of the log in memory.
    pub first_index: u64,
    /// Last entry of the log.
    pub last_index: u64,
    /// Bytes of entries in memory.
    pub log_bytes: usize,
}

/// The atomics behind it. Written by the consensus thread, except `applied`.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    role: AtomicU8,
    leader: AtomicU64,
    term: AtomicU64,
    vote: AtomicU64,
    committed: AtomicU64,
    transferee: AtomicU64,
    first_index: AtomicU64,
    last_index: AtomicU64,
    log_bytes: AtomicUsize,
    /// Index for reads that need no round; 0 if there is none.
    read_alone: AtomicU64,
    /// Written by the apply thread.
    applied: AtomicU64,
    /// The consensus thread waits for progress of the apply thread.
    wants_applied: AtomicBool,
}

impl Shared {
    pub fn new(core: &Core) -> Self {
        let shared = Self::default();
        shared.applied.store(core.applied_index(), Ordering::SeqCst);
        shared.publish(core);
        shared
    }

    /// Must happen before anything a step produced leaves the thread: with a vote for another member on its way,
    /// nobody may still read without a round.
    pub fn publish(&self, core: &Core) {
        let Leadership { role, leader, term } = core.leadership();
        self.read_alone
            .store(core.read_index_alone().unwrap_or(0), Ordering::SeqCst);
        self.term.store(term, Ordering::Release);
        self.vote.store(core.vote(), Ordering::Relaxed);
        self.leader.store(leader, Ordering::Release);
        self.role.store(role as u8, Ordering::Release);
        self.committed.store(core.committed(), Ordering::Release);
        self.transferee.store(core.transferee(), Ordering::Release);
        let (first, last) = core.log_range();
        self.first_index.store(first, Ordering::Relaxed);
        self.last_index.store(last, Ordering::Relaxed);
        self.log_bytes.store(core.log_bytes(), Ordering::Relaxed);
    }

    /// Nobody leads here any more.
    pub fn close(&self) {
        self.read_alone.store(0, Ordering::SeqCst);
    }

    pub fn read_alone(&self) -> Option<u64> {
        Some(self.read_alone.load(Ordering::SeqCst)).filter(|index| *index > 0)
    }

    /// Notes progress; whether the consensus thread waits for it.
    pub fn set_applied(&self, index: u64) -> bool {
        self.applied.fetch_max(index, Ordering::SeqCst);
        self.wants_applied.load(Ordering::SeqCst)
    }

    /// Says whether progress is waited for; the progress so far, read after that.
    pub fn want_applied(&self, wanted: bool) -> u64 {
        self.wants_applied.store(wanted, Ordering::SeqCst);
        self.applied.load(Ordering::SeqCst)
    }

    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    pub fn status(&self, id: u64) -> Status {
        let role = match self.role.load(Ordering::Acquire) {
            1 => Role::Candidate,
            2 => Role::Leader,
            3 => Role::PreCandidate,
            _ => Role::Follower,
        };
        Status {
            id,
            role,
            leader: self.leader.load(Ordering::Acquire),
            term: self.term.load(Ordering::Acquire),
            vote: self.vote.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Acquire),
            applied: self.applied(),
            transferee: self.transferee.load(Ordering::Acquire),
            first_index: self.first_index.load(Ordering::Relaxed),
            last_index: self.last_index.load(Ordering::Relaxed),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
        }
    }
}

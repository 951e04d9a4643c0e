//! What goes in and comes out of the consensus core.

use api::raftpb::{Entry, HardState, Message, Snapshot};
use bytes::Bytes;

/// A request to append.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Reported when the proposal is dropped; not part of the entry.
    pub id: u64,
    /// The entry's content.
    pub data: Bytes,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Follows a leader or waits for one.
    #[default]
    Follower = 0,
    /// Asks for votes.
    Candidate = 1,
    /// Leads.
    Leader = 2,
    /// Asks whether it would get votes.
    PreCandidate = 3,
}

/// Who leads, in which term, and what we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Our role.
    pub role: Role,
    /// The leader; 0 if unknown.
    pub leader: u64,
    /// The current term.
    pub term: u64,
}

/// A change of [`Leadership`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadershipChange {
    /// How it is now.
    pub now: Leadership,
    /// How it was at the last report.
    pub before: Leadership,
}

impl LeadershipChange {
    /// A leader is known that was not the known leader before: waiting reads fail with `leader changed`.
    pub fn new_leader(&self) -> bool {
        self.now.leader != 0 && self.now.leader != self.before.leader
    }

    /// This member stopped leading.
    pub fn stepped_down(&self) -> bool {
        self.before.role == Role::Leader && self.now.role != Role::Leader
    }
}

/// Work for the apply thread. Batches come in log order; in each, the snapshot (if any) goes first, then the
/// entries, then the snapshots wanted by followers.
#[derive(Clone, Debug, Default)]
pub struct ApplyBatch {
    /// A received snapshot, already in the WAL; the state machine continues behind it.
    pub snapshot: Option<Snapshot>,
    /// Committed entries in order; they follow the previous batch without a hole, unless `snapshot` is set.
    pub entries: Vec<Entry>,
    /// Messages of type `MsgSnap`: the receiver wants the state. The metadata inside are a lower bound; whoever
    /// sends it puts the applied position and members there, and reports the end with
    /// [`crate::Node::report_snapshot`].
    pub send_snapshots: Vec<Message>,
}

impl ApplyBatch {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.entries.is_empty() && self.send_snapshots.is_empty()
    }
}

/// What must be made durable before `number` may be reported to the core that made it.
#[derive(Clone, Debug, Default)]
pub struct Persist {
    /// Which core this came from: after an in-process restart, numbers start again.
    pub epoch: u64,
    /// Grows with every job of a core; 0 if nobody waits for this job.
    pub number: u64,
    /// A received snapshot: goes before the hard state. Such a job has no entries.
    pub snapshot: Option<Snapshot>,
    /// Entries to append; they may overwrite a tail of the log.
    pub entries: Vec<Entry>,
    /// Goes behind the entries.
    pub hard_state: Option<HardState>,
    /// False if only the commit index moved, which needs no sync.
    pub sync: bool,
}

/// Why a read index request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Another member became leader: `etcdserver: leader changed`.
    LeaderChanged,
    /// No answer in time: `etcdserver: request timed out`.
    TimedOut,
    /// The member stops.
    Stopped,
}

/// The end of some read index requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Which requests.
    pub ids: Vec<u64>,
    /// The index that must be applied before the read, or why there is none.
    pub result: Result<u64, ReadError>,
}

/// How far a member is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// The member.
    pub id: u64,
    /// Highest entry known to be in its log.
    pub matched: u64,
    /// Next entry to send.
    pub next: u64,
    /// It does not vote.
    pub learner: bool,
    /// It answered within the last election timeout.
    pub active: bool,
}

/// Everything one step round of a core produced. The order of use matters: publish the state, then messages,
/// then the rest.
#[derive(Debug, Default)]
pub struct Output {
    /// For peers; never a `MsgSnap`. They may leave at once.
    pub messages: Vec<Message>,
    /// For the log thread, in order.
    pub persist: Vec<Persist>,
    /// For the apply thread, in order.
    pub apply: Vec<ApplyBatch>,
    /// Finished read index requests.
    pub reads: Vec<ReadOutcome>,
    /// The leader, role or term changed.
    pub leadership: Option<LeadershipChange>,
    /// An entry of the current term was committed for the first time.
    pub first_commit_in_term: Option<u64>,
    /// Ids of proposals that were given up.
    pub dropped: Vec<u64>,
}

impl Output {
    /// Nothing happened.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.persist.is_empty()
            && self.apply.is_empty()
            && self.reads.is_empty()
            && self.leadership.is_none()
            && self.first_commit_in_term.is_none()
            && self.dropped.is_empty()
    }
}

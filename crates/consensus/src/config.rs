//! What a core is started with.

use std::time::Duration;

use api::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use bytes::Bytes;
use prost::Message as _;

use crate::{Error, translate};

/// Parameters of raft and of the queues around it. The defaults are etcd's where etcd has one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Id of this member; 0 and the two highest values are not allowed.
    pub id: u64,
    /// Length of a tick; a leader sends a heartbeat every tick (`--heartbeat-interval`).
    pub tick: Duration,
    /// Ticks without a leader before an election; the real number is drawn from `n..2n`
    /// (`--election-timeout` divided by the tick).
    pub election_ticks: u32,
    /// Ask whether an election could be won before starting it (`--pre-vote`).
    pub pre_vote: bool,
    /// Upper bound of the entries in one message, in bytes; one entry is always sent.
    pub max_size_per_message: u64,
    /// Unanswered append messages per follower.
    pub max_inflight_messages: usize,
    /// How long a proposal waits for a leader before it is dropped (the server's request timeout).
    pub hold_proposals: Duration,
    /// After which time a read index request is sent again.
    pub read_resend: Duration,
    /// After which time waiting read index requests fail.
    pub read_timeout: Duration,
    /// Applied entries kept in memory for followers that lag (`--snapshot-catchup-entries`).
    pub catchup_entries: u64,
    /// The same in bytes: whichever bound is reached first.
    pub catchup_bytes: usize,
    /// Bytes of proposals that may wait to be stepped, and of peers' messages; beyond it they are refused.
    pub max_queued_bytes: usize,
    /// Number of proposals, and of messages, that may wait.
    pub max_queued_items: usize,
    /// Bytes of entries appended but not yet persisted; beyond it proposals wait.
    pub max_unpersisted_bytes: usize,
    /// Bytes of committed entries handed to the apply thread and not yet applied; one batch is always allowed.
    pub max_applying_bytes: usize,
    /// Number of such entries.
    pub max_applying_entries: usize,
    /// Seeds the election timeouts and the contexts of read requests: different for every start.
    pub seed: u64,
}

impl Config {
    /// etcd's defaults: ticks of 100 ms, election after 10, pre-vote on.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            tick: Duration::from_millis(100),
            election_ticks: 10,
            pre_vote: true,
            max_size_per_message: 1 << 20,
            max_inflight_messages: 512,
            hold_proposals: Duration::from_secs(7),
            read_resend: Duration::from_millis(500),
            read_timeout: Duration::from_secs(7),
            catchup_entries: 5000,
            catchup_bytes: 256 << 20,
            max_queued_bytes: 64 << 20,
            max_queued_items: 1 << 16,
            max_unpersisted_bytes: 64 << 20,
            max_applying_bytes: 16 << 20,
            max_applying_entries: 1 << 14,
            seed: 0,
        }
    }

    /// Whole ticks that cover `time`, at least one.
    pub(crate) fn ticks(&self, time: Duration) -> u64 {
        let tick = self.tick.as_nanos().max(1);
        u64::try_from(time.as_nanos().div_ceil(tick))
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Index of the entry; 0 before the first.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// The state a member starts from: of a new cluster, of one that joins, or read from disk.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Members as raft has to see them now. After a restart: from the database, so at its consistent index,
    /// which may be later than `snapshot`. Empty for a member that joins.
    pub conf_state: ConfState,
    /// The entry up to which `conf_state` contains all changes; later calls of
    /// [`crate::Node::apply_conf_change`] for older entries change nothing.
    pub conf_index: u64,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The snapshot the log begins behind; index 0 if there is none.
    pub snapshot: Position,
    /// The log behind `snapshot`, without holes.
    pub entries: Vec<Entry>,
    /// Entries up to here are not handed to the apply thread again. At least `snapshot.index`; a value beyond
    /// the commit index raises that (commits need no sync, so after a crash the database can know more).
    pub applied: u64,
}

impl Start {
    /// A founding member of a new cluster. `founders` are (id, JSON of the member), in ascending order of id:
    /// every founder writes the same entries, so all begin with the same log. The caller saves
    /// [`Start::entries`] and [`Start::hard_state`] to its WAL before it starts a core.
    pub fn bootstrap(founders: &[(u64, Bytes)]) -> Self {
        let entries: Vec<Entry> = founders
            .iter()
            .zip(1..)
            .map(|((id, context), index)| {
                let change = ConfChange {
                    id: 0,
                    r#type: ConfChangeType::AddNode as i32,
                    node_id: *id,
                    context: context.clone(),
                };
                Entry {
                    r#type: EntryType::ConfChange as i32,
                    term: 1,
                    index,
                    data: change.encode_to_vec().into(),
                }
            })
            .collect();
        let voters = founders.iter().map(|founder| founder.0).collect();
        Self {
            conf_state: ConfState {
                voters,
                ..ConfState::default()
            },
            hard_state: HardState {
                term: 1,
                vote: 0,
                commit: entries.len() as u64,
            },
            entries,
            ..Self::default()
        }
    }

    /// What was read from the WAL at `recovered.snapshot`, with the members the database knows at its
    /// consistent index. As in etcd, all committed entries behind the snapshot are handed to the apply
    /// thread again; it knows which of them it has applied.
    pub fn recovered(
        recovered: wal::Recovered,
        conf_state: ConfState,
        consistent_index: u64,
    ) -> Self {
        let snapshot = Position {
            index: recovered.snapshot.index,
            term: recovered.snapshot.term,
        };
        Self {
            conf_state,
            conf_index: consistent_index,
            hard_state: recovered.hard_state,
            snapshot,
            entries: recovered.entries,
            applied: snapshot.index,
        }
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.snapshot.index + self.entries.len() as u64
    }

    /// Checks what raft takes for granted, so that a damaged log is an error and not a panic; raises the commit
    /// index to `applied`.
    pub(crate) fn checked(mut self, config: &Config) -> Result<Self, Error> {
        if config.id == 0 || config.id >= u64::MAX - 1 {
            return Err(Error::Start(format!(
                "member id {:x} is reserved",
                config.id
            )));
        }
        if (self.snapshot.index == 0) != (self.snapshot.term == 0) {
            return Err(Error::Start(format!(
                "impossible snapshot position {:?}",
                self.snapshot
            )));
        }
        // What a log held behind the place of a received snapshot is still in the WAL when nothing was
        // appended after it. Entries of a lower term than the snapshot's cannot belong behind it.
        if self
            .entries
            .first()
            .is_some_and(|entry| entry.term < self.snapshot.term)
        {
            self.entries.clear();
        }
        let mut last = self.snapshot;
        for entry in &self.entries {
            if !translate::known_type(entry) {
                return Err(Error::Start(
                    "unknown entry type; must be either EntryNormal or EntryConfChange".to_owned(),
                ));
            }
            if entry.index != last.index + 1 || entry.term < last.term || entry.term == 0 {
                return Err(Error::Start(format!(
                    "entry {} of term {} does not follow entry {} of term {}",
                    entry.index, entry.term, last.index, last.term
                )));
            }
            last = Position {
                index: entry.index,
                term: entry.term,
            };
        }
        if self.applied < self.snapshot.index || self.applied > last.index {
            return Err(Error::Start(format!(
                "applied index {} is outside of the log ({} to {})",
                self.applied, self.snapshot.index, last.index
            )));
        }
        self.hard_state.commit = self.hard_state.commit.max(self.applied);
        if self.hard_state.commit > last.index {
            return Err(Error::Start(format!(
                "commit index {} lies beyond the last entry {}",
                self.hard_state.commit, last.index
            )));
        }
        if self.hard_state.term < last.term {
            // Entries of a term whose hard state was lost with them unsynced: nobody heard of a vote in it.
            self.hard_state.term = last.term;
            self.hard_state.vote = 0;
        }
        translate::check_conf_state(&self.conf_state).map_err(Error::Start)?;
        Ok(self)
    }
}

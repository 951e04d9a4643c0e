//! A member's WAL: records in order, of which a crash keeps a prefix, read back as etcd reads them.

use api::raftpb::{ConfState, Entry, HardState, Snapshot};
use consensus::{Persist, Position, Start};

use crate::machine::Machine;
use crate::rng::Rng;

#[derive(Clone, Debug)]
pub enum Record {
    Entry(Entry),
    State(HardState),
    /// With the state machine's hash, which stands for the database that travels beside the snapshot.
    Snapshot(Position, ConfState, u64),
}

impl Record {
    fn short(&self) -> String {
        match self {
            Self::Entry(entry) => format!("{}.{}", entry.index, entry.term),
            Self::State(state) => format!("[{} {} {}]", state.term, state.vote, state.commit),
            Self::Snapshot(position, ..) => format!("<{}.{}>", position.index, position.term),
        }
    }
}

/// Written, but not synced, work; acknowledged when synced.
#[derive(Debug)]
pub struct Pending {
    pub records: Vec<Record>,
    pub acknowledge: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub struct Disk {
    durable: Vec<Record>,
    pub pending: Vec<Pending>,
    /// The database as a crash would leave it.
    pub machine: Machine,
}

pub fn snapshot_record(snapshot: &Snapshot) -> Record {
    let metadata = &snapshot.metadata;
    let chain = u64::from_le_bytes(snapshot.data[..8].try_into().unwrap());
    let position = Position {
        index: metadata.index,
        term: metadata.term,
    };
    Record::Snapshot(position, metadata.conf_state.clone(), chain)
}

impl Disk {
    /// The log of a founding member.
    pub fn founded(start: &Start) -> Self {
        let mut durable: Vec<_> = start.entries.iter().cloned().map(Record::Entry).collect();
        durable.push(Record::State(start.hard_state));
        Self {
            durable,
            ..Self::default()
        }
    }

    pub fn write(&mut self, job: Persist) {
        let mut records: Vec<_> = job.snapshot.iter().map(snapshot_record).collect();
        records.extend(job.entries.into_iter().map(Record::Entry));
        records.extend(job.hard_state.map(Record::State));
        let acknowledge = (job.number > 0).then_some((job.epoch, job.number));
        self.pending.push(Pending {
            records,
            acknowledge,
        });
    }

    /// Records a snapshot of the own state, as the log thread does: never behind a newer one, which replay would
    /// then not see.
    pub fn save_own_snapshot(&mut self, state: HardState, snapshot: Record) {
        let index = |record: &Record| match record {
            Record::Snapshot(position, ..) => position.index,
            _ => 0,
        };
        let pending = self.pending.iter().flat_map(|pending| &pending.records);
        let newest = self
            .durable
            .iter()
            .chain(pending)
            .map(index)
            .max()
            .unwrap_or(0);
        if index(&snapshot) > newest {
            let records = vec![Record::State(state), snapshot];
            self.pending.push(Pending {
                records,
                acknowledge: None,
            });
        }
    }

    /// One sync for all that waits; what the core must be told.
    pub fn sync(&mut self) -> Option<(u64, u64)> {
        let mut last = None;
        for pending in self.pending.drain(..) {
            self.durable.extend(pending.records);
            last = pending.acknowledge.or(last);
        }
        last
    }

    /// Keeps a random part of what was not synced.
    pub fn crash(&mut self, rng: &mut Rng) {
        let unsynced: Vec<_> = self
            .pending
            .drain(..)
            .flat_map(|pending| pending.records)
            .collect();
        let kept = match rng.below(3) {
            0 => 0,
            1 => unsynced.len(),
            _ => rng.below(unsynced.len() as u64 + 1) as usize,
        };
        self.durable.extend(unsynced.into_iter().take(kept));
    }

    /// What etcd's replay yields: from the last snapshot record the hard state covers, with every entry beyond it
    /// that any record holds. Brings the database up to that snapshot if it is behind.
    pub fn replay(&mut self) -> Start {
        let hard_state = self
            .durable
            .iter()
            .rev()
            .find_map(|record| {
                if let Record::State(state) = record {
                    Some(*state)
                } else {
                    None
                }
            })
            .unwrap_or_default();
        let valid = self.durable.iter().rev().find_map(|record| match record {
            Record::Snapshot(position, members, chain) if position.index <= hard_state.commit => {
                Some((*position, members.clone(), *chain))
            }
            _ => None,
        });
        let mut snapshot = Position::default();
        if let Some((position, members, chain)) = valid {
            snapshot = position;
            if self.machine.applied < position.index {
                self.machine = Machine {
                    applied: position.index,
                    term: position.term,
                    chain,
                    members,
                };
            }
        }
        let mut entries: Vec<Entry> = Vec::new();
        for record in &self.durable {
            if let Record::Entry(entry) = record
                && entry.index > snapshot.index
            {
                entries.truncate((entry.index - snapshot.index - 1) as usize);
                if entries.len() as u64 != entry.index - snapshot.index - 1 {
                    let shown: Vec<_> = self.durable.iter().map(Record::short).collect();
                    panic!(
                        "hole in the log at {} behind {snapshot:?}: {}",
                        entry.index,
                        shown.join(" ")
                    );
                }
                entries.push(entry.clone());
            }
        }
        Start {
            conf_state: self.machine.members.clone(),
            conf_index: self.machine.applied,
            hard_state,
            snapshot,
            entries,
            applied: snapshot.index,
        }
    }

    /// The log as written so far, synced or not, for comparison with others.
    pub fn log(&self) -> Vec<Entry> {
        let mut base = 0;
        let mut entries: Vec<Entry> = Vec::new();
        for record in self
            .durable
            .iter()
            .chain(self.pending.iter().flat_map(|pending| &pending.records))
        {
            match record {
                Record::Entry(entry) => {
                    entries.retain(|old| old.index < entry.index);
                    entries.push(entry.clone());
                }
                Record::Snapshot(position, ..) if position.index > base => {
                    base = position.index;
                    // A received snapshot replaces what does not contain its last entry.
                    let fits = entries
                        .iter()
                        .any(|e| e.index == position.index && e.term == position.term);
                    entries.retain(|old| old.index > base && fits);
                }
                _ => {}
            }
        }
        entries
    }
}

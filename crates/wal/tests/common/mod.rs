//! A model of the log, and a script that drives it.

#![allow(dead_code)] // each test uses its part

use std::path::Path;
use std::sync::Arc;

use api::raftpb::{ConfState, Entry, HardState};
use bytes::Bytes;
use disk::{Fs, RealFs};
use wal::{Options, Preparation, Recovered, Wal, WalSnapshot};

pub const METADATA: &[u8] = b"\x08\x07\x10\x09";

/// Options for segments so small that a test goes through many.
pub fn small(preparation: Preparation) -> Options {
    Options {
        segment_size: 16 * 1024,
        preparation,
        ..Options::default()
    }
}

pub fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

pub fn entry(term: u64, index: u64, len: usize) -> Entry {
    // No zero bytes: a sector of zeros inside an entry is what a torn write looks like.
    let data: Vec<u8> = (0..len)
        .map(|i| (i as u64 * 7 + index + term) as u8 | 1)
        .collect();
    Entry {
        r#type: 0,
        term,
        index,
        data: Bytes::from(data),
    }
}

pub fn snapshot(term: u64, index: u64) -> WalSnapshot {
    let conf_state = ConfState {
        voters: vec![7],
        ..ConfState::default()
    };
    WalSnapshot {
        index,
        term,
        conf_state: Some(conf_state),
    }
}

/// One record, as the model sees it.
#[derive(Clone, Debug)]
pub enum Step {
    Entry(Entry),
    State(HardState),
    Snapshot(WalSnapshot),
}

/// What a log of these records has to be read as.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub entries: Vec<Entry>,
    pub hard_state: HardState,
    pub snapshots: Vec<WalSnapshot>,
}

impl Model {
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Entry(entry) => {
                self.entries.truncate(entry.index as usize - 1);
                self.entries.push(entry.clone());
            }
            Step::State(state) => self.hard_state = *state,
            Step::Snapshot(snapshot) => self.snapshots.push(snapshot.clone()),
        }
    }

    pub fn agrees(&self, recovered: &Recovered) -> bool {
        self.entries == recovered.entries && self.hard_state == recovered.hard_state
    }
}

/// A call on the log.
#[derive(Clone, Debug)]
pub enum Call {
    /// (How many entries to replace, lengths of the new ones, whether the term goes up, sync).
    Save {
        back: u64,
        lens: Vec<usize>,
        new_term: bool,
    },
    /// The same without a sync.
    Append {
        back: u64,
        lens: Vec<usize>,
        new_term: bool,
    },
    /// A new commit index alone.
    Commit,
    Snapshot,
    Sync,
    Release,
}

/// Makes calls and remembers what was asked for.
pub struct Driver {
    pub wal: Wal,
    pub steps: Vec<Step>,
    /// How many steps are known to be durable.
    pub durable: usize,
    term: u64,
    last: u64,
}

impl Driver {
    pub fn new(wal: Wal) -> Self {
        Self {
            wal,
            steps: Vec::new(),
            durable: 0,
            term: 1,
            last: 0,
        }
    }

    /// Goes on with a log that was read.
    pub fn resume(wal: Wal, recovered: &Recovered) -> Self {
        let mut steps: Vec<Step> = recovered.entries.iter().cloned().map(Step::Entry).collect();
        steps.push(Step::State(recovered.hard_state));
        let last = recovered.entries.last();
        let term = recovered
            .hard_state
            .term
            .max(last.map_or(0, |e| e.term))
            .max(1);
        let durable = steps.len();
        Self {
            wal,
            steps,
            durable,
            term,
            last: last.map_or(0, |e| e.index),
        }
    }

    pub fn model(&self) -> Model {
        let mut model = Model::default();
        self.steps.iter().for_each(|step| model.take(step));
        model
    }

    pub fn call(&mut self, call: &Call) -> Result<(), wal::Error> {
        match call {
            Call::Save {
                back,
                lens,
                new_term,
            }
            | Call::Append {
                back,
                lens,
                new_term,
            } => {
                let (state, entries) = self.prepare(*back, lens, *new_term);
                if matches!(call, Call::Save { .. }) {
                    if self.wal.save(Some(&state), &entries)? {
                        self.durable = self.steps.len();
                    }
                } else {
                    self.wal.append(Some(&state), &entries)?;
                }
            }
            Call::Commit => {
                let state = HardState {
                    term: self.term,
                    vote: 7,
                    commit: self.last,
                };
                self.steps.push(Step::State(state));
                self.wal.append(Some(&state), &[])?;
            }
            Call::Snapshot if self.last == 0 => {} // the initial one is there already
            Call::Snapshot => {
                let snapshot = snapshot(self.term, self.last);
                self.steps.push(Step::Snapshot(snapshot.clone()));
                self.wal.save_snapshot(&snapshot)?;
                self.durable = self.steps.len();
            }
            Call::Sync => {
                self.wal.sync()?;
                self.durable = self.steps.len();
            }
            // Replay in these tests starts at 0: locks may go, nothing is purged.
            Call::Release => self.wal.release_to(self.last),
        }
        Ok(())
    }

    fn prepare(&mut self, back: u64, lens: &[usize], new_term: bool) -> (HardState, Vec<Entry>) {
        if new_term {
            self.term += 1;
            self.last -= back.min(self.last);
        }
        let mut entries = Vec::new();
        for len in lens {
            self.last += 1;
            entries.push(entry(self.term, self.last, *len));
        }
        self.steps.extend(entries.iter().cloned().map(Step::Entry));
        let commit = self.last.saturating_sub(1);
        let state = HardState {
            term: self.term,
            vote: 7,
            commit,
        };
        self.steps.push(Step::State(state));
        (state, entries)
    }
}

/// Reads a log from its beginning, for writing.
pub fn open(dir: &Path) -> Result<(Wal, Recovered), wal::Error> {
    Wal::open(
        real(),
        dir,
        &WalSnapshot::default(),
        small(Preparation::OnDemand),
    )
}

pub fn segment_names(dir: &Path) -> Vec<String> {
    let entries = RealFs.read_dir(dir).unwrap();
    entries
        .into_iter()
        .map(|e| e.name)
        .filter(|n| n.strip_suffix(".wal").is_some())
        .collect()
}

//! What happened in the cluster, and what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use api::raftpb::{ConfState, Entry};

use crate::machine::Machine;
use crate::rng::mix;

#[derive(Default)]
pub struct History {
    /// Election safety: one leader per term.
    leaders: BTreeMap<u64, u64>,
    /// Applied prefixes: what the first member to apply an index saw there.
    applied: BTreeMap<u64, (u64, u64, ConfState)>,
    /// Index of every acknowledged proposal.
    pub acknowledged: BTreeMap<u64, u64>,
    /// Ids applied anywhere.
    pub ids: BTreeSet<u64>,
    /// Everything up to here was seen by some client: later reads must see it.
    frontier: u64,
    reads: BTreeMap<u64, u64>,
    pub reads_done: u64,
    pub reads_alone: u64,
    pub elections: u64,
    pub snapshots: u64,
    /// Number of entries that make the first configuration.
    founders: u64,
    /// A fingerprint of the run.
    pub trace: u64,
}

impl History {
    pub fn new(founders: u64) -> Self {
        Self {
            founders,
            ..Self::default()
        }
    }

    pub fn leader(&mut self, term: u64, id: u64) {
        let known = *self.leaders.entry(term).or_insert(id);
        assert_eq!(known, id, "two leaders in term {term}");
        self.elections += 1;
        self.note(&[1, term, id]);
    }

    pub fn applied(&mut self, id: u64, entry: &Entry, machine: &Machine) {
        // Founders begin with the configuration that their first entries lead to.
        let members = if entry.index < self.founders {
            ConfState::default()
        } else {
            machine.members.clone()
        };
        let now = (entry.term, machine.chain, members);
        let first = self
            .applied
            .entry(entry.index)
            .or_insert_with(|| now.clone());
        assert_eq!(
            *first, now,
            "member {id} applied something else at {}",
            entry.index
        );
        if entry.data.len() >= 8 {
            self.ids
                .insert(u64::from_le_bytes(entry.data[..8].try_into().unwrap()));
        }
        self.note(&[2, id, entry.index, machine.chain]);
    }

    pub fn installed(&mut self, machine: &Machine) {
        let now = (machine.term, machine.chain, machine.members.clone());
        assert_eq!(
            self.applied.get(&machine.applied),
            Some(&now),
            "snapshot of a state nobody had"
        );
        self.snapshots += 1;
        self.note(&[3, machine.applied, machine.chain]);
    }

    pub fn acknowledged(&mut self, id: u64, index: u64) {
        self.acknowledged.insert(id, index);
        self.frontier = self.frontier.max(index);
    }

    pub fn read_started(&mut self, id: u64) {
        self.reads.insert(id, self.frontier);
    }

    pub fn read_done(&mut self, id: u64, index: Option<u64>) {
        let needed = self.reads.remove(&id).expect("a read is answered once");
        if let Some(index) = index {
            assert!(
                index >= needed,
                "stale read: index {index}, but {needed} was seen before"
            );
            self.frontier = self.frontier.max(index);
            self.reads_done += 1;
        }
        self.note(&[4, id, index.unwrap_or(0)]);
    }

    pub fn read_alone(&mut self, id: u64, index: u64) {
        assert!(
            index >= self.frontier,
            "stale read without a round at {id}: {index} < {}",
            self.frontier
        );
        self.reads_alone += 1;
    }

    /// Log matching: if two logs hold the same entry, they are equal up to it.
    pub fn compare(a: &[Entry], b: &[Entry]) {
        let mut same_before = true;
        let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            match x.index.cmp(&y.index) {
                std::cmp::Ordering::Less => drop(a.next()),
                std::cmp::Ordering::Greater => drop(b.next()),
                std::cmp::Ordering::Equal => {
                    if x.term == y.term {
                        assert!(same_before, "logs agree at {} but not before", x.index);
                        assert_eq!(x, y, "one term, one index, two entries");
                    } else {
                        same_before = false;
                    }
                    a.next();
                    b.next();
                }
            }
        }
    }

    fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.trace = mix(self.trace, &number.to_le_bytes());
        }
    }
}

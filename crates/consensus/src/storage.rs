//! The log in memory: everything since the last compaction, as `raft` reads it.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::Position;

/// Approximate size of an entry on the wire, in bytes.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    entry.data.len() + 16
}

/// Entries behind `base`, without holes. Data are shared with everybody who holds an entry.
pub(crate) struct LogStorage {
    base: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What a follower that is too far behind is told; at or behind `base`.
    snapshot: Position,
    conf_state: ConfState,
    initial: HardState,
}

impl LogStorage {
    pub fn new(
        base: Position,
        entries: Vec<Entry>,
        initial: HardState,
        conf_state: ConfState,
    ) -> Self {
        let bytes = entries.iter().map(entry_size).sum();
        Self {
            base,
            entries: entries.into(),
            bytes,
            snapshot: base,
            conf_state,
            initial,
        }
    }

    pub fn first(&self) -> u64 {
        self.base.index + 1
    }

    pub fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// Bytes of the entries kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        self.entries
            .get(usize::try_from(index.checked_sub(self.first())?).ok()?)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.at(index).map(|entry| entry.term)
        }
    }

    /// Entries `low..high` (both within the log), at least one, at most about `max_bytes`.
    pub fn slice(&self, low: u64, high: u64, max_bytes: u64, max_entries: usize) -> Vec<Entry> {
        let first = self.first();
        let (from, to) = ((low - first) as usize, (high - first) as usize);
        let mut size = 0u64;
        let fits = |entry: &&Entry| {
            let before = size;
            size = size.saturating_add(entry_size(entry) as u64);
            before == 0 || size <= max_bytes
        };
        self.entries
            .range(from..to)
            .take(max_entries.max(1))
            .take_while(fits)
            .cloned()
            .collect()
    }

    /// Whether one of the entries `low..=high` changes the configuration.
    pub fn has_conf_change(&self, low: u64, high: u64) -> bool {
        (low.max(self.first())..=high.min(self.last())).any(|index| {
            self.at(index)
                .is_some_and(|entry| entry.entry_type != raft::eraftpb::EntryType::EntryNormal)
        })
    }

    /// Appends entries, dropping what they overwrite.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        debug_assert!(
            first.index > self.base.index && first.index <= self.last() + 1,
            "append beside the log"
        );
        let keep = (first.index - self.first()) as usize;
        for dropped in self.entries.drain(keep..) {
            self.bytes -= entry_size(&dropped);
        }
        self.bytes += entries.iter().map(entry_size).sum::<usize>();
        self.entries.extend(entries);
    }

    /// Forgets entries up to and including `index`, which must be applied.
    pub fn compact(&mut self, index: u64) {
        if index <= self.base.index || index > self.last() {
            return;
        }
        let Some(term) = self.term_at(index) else {
            return;
        };
        for dropped in self.entries.drain(..(index - self.base.index) as usize) {
            self.bytes -= entry_size(&dropped);
        }
        self.base = Position { index, term };
    }

    /// Highest index up to which the log must be forgotten so that at most `max_bytes` and `max_entries` stay
    /// before `applied`.
    pub fn compaction_target(&self, applied: u64, max_entries: u64, max_bytes: usize) -> u64 {
        let mut target = applied.saturating_sub(max_entries).max(self.base.index);
        let skipped = (target - self.base.index) as usize;
        let mut bytes = self.bytes - self.entries.range(..skipped).map(entry_size).sum::<usize>();
        for entry in self.entries.range(skipped..) {
            if bytes <= max_bytes || entry.index > applied {
                break;
            }
            bytes -= entry_size(entry);
            target = entry.index;
        }
        target
    }

    /// Remembers that the state at `index` can be given to a follower.
    pub fn set_snapshot(&mut self, index: u64, conf_state: ConfState) {
        if let Some(term) = self.term_at(index) {
            self.snapshot = Position { index, term };
            self.conf_state = conf_state;
        }
    }

    /// The log begins anew behind a received snapshot.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.base = Position {
            index: metadata.index,
            term: metadata.term,
        };
        self.snapshot = self.base;
        self.conf_state = metadata.get_conf_state().clone();
        self.entries.clear();
        self.bytes = 0;
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(
            self.initial.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 || low > high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        Ok(self.slice(low, high, max_size.into().unwrap_or(u64::MAX), usize::MAX))
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// Only the position and the members: whoever sends it adds the state of that moment.
    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        if self.snapshot.index == 0 || self.snapshot.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot.index;
        metadata.term = self.snapshot.term;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64, size: usize) -> Vec<Entry> {
        range
            .map(|index| Entry {
                index,
                term,
                data: vec![0; size].into(),
                ..Default::default()
            })
            .collect()
    }

    fn storage(size: usize) -> LogStorage {
        LogStorage::new(
            Position::default(),
            entries(1..=10, 1, size),
            HardState::default(),
            ConfState::default(),
        )
    }

    #[test]
    fn appended_entries_replace_the_tail_they_overlap() {
        let mut log = storage(4);
        log.append(entries(6..=7, 2, 4));
        assert_eq!((log.first(), log.last(), log.bytes()), (1, 7, 7 * 20));
        assert_eq!(log.term(5).unwrap(), 1);
        assert_eq!(log.term(6).unwrap(), 2);
        assert!(log.term(8).is_err());
    }

    #[test]
    fn the_term_of_the_last_compacted_entry_stays_known() {
        let mut log = storage(4);
        log.compact(4);
        assert_eq!((log.first(), log.last()), (5, 10));
        assert_eq!(log.term(4).unwrap(), 1);
        assert_eq!(log.term(3), Err(Error::Store(StorageError::Compacted)));
        log.compact(2);
        log.compact(99);
        assert_eq!(log.first(), 5);
        log.compact(10);
        assert_eq!((log.first(), log.last(), log.bytes()), (11, 10, 0));
    }

    #[test]
    fn compaction_obeys_the_bound_that_is_reached_first() {
        let log = storage(84);
        assert_eq!(log.compaction_target(8, 3, usize::MAX), 5);
        assert_eq!(log.compaction_target(8, 100, 600), 4);
        assert_eq!(log.compaction_target(8, 100, 0), 8);
        assert_eq!(log.compaction_target(8, 100, usize::MAX), 0);
    }

    #[test]
    fn a_slice_has_at_least_one_entry() {
        let log = storage(84);
        assert_eq!(log.slice(2, 9, 0, usize::MAX).len(), 1);
        assert_eq!(log.slice(2, 9, 250, usize::MAX).len(), 2);
        assert_eq!(log.slice(2, 9, u64::MAX, 3).len(), 3);
        assert_eq!(log.slice(2, 9, u64::MAX, usize::MAX).len(), 7);
    }

    #[test]
    fn no_snapshot_is_offered_before_there_is_one() {
        let mut log = storage(1);
        assert!(log.snapshot(0, 2).is_err());
        log.set_snapshot(7, ConfState::default());
        assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 7);
    }
}

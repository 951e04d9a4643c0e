//! How much the apply thread has been given and has not finished. Beyond the bound, committed entries stay in the
//! log and are read from there later, so that a slow state machine costs no memory and never holds up raft.

use std::collections::VecDeque;

/// The window of entries in the hands of the apply thread.
#[derive(Debug)]
pub(crate) struct Window {
    /// Last entry handed over.
    handed: u64,
    /// Last entry reported as applied.
    applied: u64,
    /// (last index, bytes, entries) per batch not yet applied.
    batches: VecDeque<(u64, usize, usize)>,
    bytes: usize,
    entries: usize,
    max_bytes: usize,
    max_entries: usize,
}

impl Window {
    pub fn new(applied: u64, max_bytes: usize, max_entries: usize) -> Self {
        let batches = VecDeque::new();
        Self {
            handed: applied,
            applied,
            batches,
            bytes: 0,
            entries: 0,
            max_bytes,
            max_entries: max_entries.max(1),
        }
    }

    pub fn handed(&self) -> u64 {
        self.handed
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Room for the next batch as (bytes, entries); `None` if it has to wait. An empty window always has room.
    pub fn room(&self) -> Option<(u64, usize)> {
        if self.batches.is_empty() {
            return Some((self.max_bytes as u64, self.max_entries));
        }
        let bytes = self
            .max_bytes
            .checked_sub(self.bytes)
            .filter(|bytes| *bytes > 0)?;
        let entries = self
            .max_entries
            .checked_sub(self.entries)
            .filter(|entries| *entries > 0)?;
        Some((bytes as u64, entries))
    }

    /// A batch was handed over.
    pub fn hand(&mut self, last: u64, bytes: usize, entries: usize) {
        debug_assert!(last > self.handed, "handed over twice");
        self.handed = last;
        self.batches.push_back((last, bytes, entries));
        self.bytes += bytes;
        self.entries += entries;
    }

    /// The state machine has applied everything up to `index`.
    pub fn finish(&mut self, index: u64) {
        self.applied = self.applied.max(index.min(self.handed));
        while let Some((last, bytes, entries)) = self.batches.front().copied() {
            if last > self.applied {
                break;
            }
            self.batches.pop_front();
            self.bytes -= bytes;
            self.entries -= entries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_is_always_allowed_and_further_ones_wait() {
        let mut window = Window::new(3, 100, 10);
        assert_eq!(window.room(), Some((100, 10)));
        window.hand(5, 500, 2);
        assert_eq!(window.room(), None);
        window.finish(4);
        assert_eq!(window.room(), None);
        window.finish(9);
        assert_eq!(window.applied(), 5);
        assert_eq!(window.room(), Some((100, 10)));
        window.hand(9, 40, 4);
        assert_eq!(window.room(), Some((60, 6)));
        window.hand(15, 10, 6);
        assert_eq!(window.room(), None);
        window.finish(9);
        assert_eq!(window.room(), Some((90, 4)));
    }
}

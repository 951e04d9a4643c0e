//! Proposals on their way into raft. Those that cannot be proposed now (no leader, leadership on the move, disk far
//! behind) are held for a while instead of dropped, as etcd's clients expect.

use std::collections::VecDeque;

use raft::eraftpb::Entry;

use crate::storage::entry_size;

/// One entry to be.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The proposer's id if it is one of ours; reported when dropped.
    pub id: Option<u64>,
    pub entry: Entry,
    /// Tick after which it is given up.
    deadline: u64,
}

/// First in, first out, bounded in bytes and number.
#[derive(Debug)]
pub(crate) struct Proposals {
    queue: VecDeque<Pending>,
    bytes: usize,
    max_bytes: usize,
    max_items: usize,
    hold: u64,
}

impl Proposals {
    pub fn new(hold: u64, max_bytes: usize, max_items: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_items,
            hold,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes an entry; gives back the id of one that finds no room.
    pub fn push(&mut self, id: Option<u64>, entry: Entry, now: u64) -> Result<(), Option<u64>> {
        let size = entry_size(&entry);
        if self.queue.len() >= self.max_items
            || (self.bytes + size > self.max_bytes && !self.queue.is_empty())
        {
            return Err(id);
        }
        self.bytes += size;
        self.queue.push_back(Pending {
            id,
            entry,
            deadline: now + self.hold,
        });
        Ok(())
    }

    /// The next entries for one message: at least one, at most about `max_bytes`.
    pub fn take(&mut self, max_bytes: u64) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.queue.len().min(1024));
        let mut size = 0u64;
        while let Some(next) = self.queue.front() {
            size += entry_size(&next.entry) as u64;
            if !entries.is_empty() && size > max_bytes {
                break;
            }
            if let Some(next) = self.queue.pop_front() {
                self.bytes -= entry_size(&next.entry);
                entries.push(next.entry);
            }
        }
        entries
    }

    /// Drops what waited too long; ids of our own.
    pub fn expire(&mut self, now: u64, dropped: &mut Vec<u64>) {
        while self.queue.front().is_some_and(|next| next.deadline <= now) {
            if let Some(old) = self.queue.pop_front() {
                self.bytes -= entry_size(&old.entry);
                dropped.extend(old.id);
            }
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, dropped: &mut Vec<u64>) {
        dropped.extend(self.queue.drain(..).filter_map(|pending| pending.id));
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: usize) -> Entry {
        Entry {
            data: vec![0; size].into(),
            ..Default::default()
        }
    }

    #[test]
    fn entries_are_merged_up_to_the_message_size() {
        let mut proposals = Proposals::new(7, 1000, 100);
        for id in 0..5 {
            proposals.push(Some(id), entry(84), 0).unwrap();
        }
        assert_eq!(proposals.take(250).len(), 2);
        assert_eq!(proposals.take(1).len(), 1);
        assert_eq!(proposals.take(1000).len(), 2);
        assert!(proposals.is_empty());
        assert_eq!(proposals.bytes, 0);
    }

    #[test]
    fn waiting_is_bounded_in_time_bytes_and_number() {
        let mut proposals = Proposals::new(7, 200, 3);
        proposals.push(Some(1), entry(84), 0).unwrap();
        proposals.push(None, entry(84), 1).unwrap();
        assert_eq!(proposals.push(Some(3), entry(84), 1), Err(Some(3)));
        let mut dropped = Vec::new();
        proposals.expire(6, &mut dropped);
        assert!(dropped.is_empty());
        proposals.expire(8, &mut dropped);
        assert_eq!(dropped, [1]);
        assert!(proposals.is_empty());
        proposals.push(Some(4), entry(5000), 8).unwrap();
        proposals.clear(&mut dropped);
        assert_eq!(dropped, [1, 4]);
    }
}

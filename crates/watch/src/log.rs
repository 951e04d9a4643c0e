//! The most recent events by revision, shared between the apply thread and the readers.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Event;

/// All events of one revision.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Main revision.
    pub revision: i64,
    /// What changed, in the order of the operations.
    pub events: Arc<[Event]>,
    /// Memory the events hold on to, about.
    pub(crate) bytes: usize,
}

impl Revision {
    /// Measures the events of a revision.
    pub fn new(revision: i64, events: Arc<[Event]>) -> Self {
        let bytes = events.iter().map(event_bytes).sum();
        Self {
            revision,
            events,
            bytes,
        }
    }
}

/// Memory one event holds on to, about; its key is part of the pair.
fn event_bytes(event: &Event) -> usize {
    let prev = event.prev.as_ref().map_or(0, |prev| prev.encoded().len());
    size_of::<Event>() + event.kv.encoded().len() + prev
}

/// Bounds of the log. At least one revision stays, however large it is.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// Most revisions kept.
    pub revisions: usize,
    /// Most bytes kept.
    pub bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            revisions: 64 * 1024,
            bytes: 32 << 20,
        }
    }
}

/// Outcome of [`EventLog::read`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Done,
    /// The wanted revision is not in the log although the log is somewhere else; the log ends at
    /// this revision.
    Lost(i64),
}

/// See the module's text. Revisions in the log have no gap.
#[derive(Debug)]
pub(crate) struct EventLog {
    entries: VecDeque<Revision>,
    bytes: usize,
    /// The newest revision, in the log or before it.
    last: i64,
    limits: LogLimits,
}

impl EventLog {
    pub(crate) fn new(last: i64, limits: LogLimits) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            last,
            limits,
        }
    }

    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// The oldest revision that can be read, or the next one if there is none.
    pub(crate) fn first(&self) -> i64 {
        self.last + 1 - self.entries.len() as i64
    }

    /// Adds a revision and moves what no longer fits to `removed`, so that it is freed outside
    /// the lock. A revision that does not follow the last one starts the log anew.
    pub(crate) fn push(&mut self, entry: Revision, removed: &mut Vec<Revision>) {
        if entry.revision != self.last + 1 {
            self.restart(entry.revision - 1, removed);
        }
        self.last = entry.revision;
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > self.limits.revisions || self.bytes > self.limits.bytes)
        {
            if let Some(old) = self.entries.pop_front() {
                self.bytes -= old.bytes;
                removed.push(old);
            }
        }
    }

    /// Empties the log; it goes on after `last`.
    pub(crate) fn restart(&mut self, last: i64, removed: &mut Vec<Revision>) {
        removed.extend(self.entries.drain(..));
        self.bytes = 0;
        self.last = last;
    }

    /// Copies revisions from `from` to `to`, both included, at most `max` of them and, from the
    /// second on, no more than `max_bytes`.
    pub(crate) fn read(
        &self,
        from: i64,
        to: i64,
        (max, max_bytes): (usize, usize),
        into: &mut Vec<Revision>,
    ) -> Read {
        if from == self.last + 1 {
            return Read::Done;
        }
        if from < self.first() || from > self.last {
            return Read::Lost(self.last);
        }
        let mut bytes = 0;
        for entry in self
            .entries
            .range((from - self.first()) as usize..)
            .take(max)
        {
            bytes += entry.bytes;
            if entry.revision > to || (bytes > max_bytes && entry.revision > from) {
                break;
            }
            into.push(entry.clone());
        }
        Read::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: i64, bytes: usize) -> Revision {
        Revision {
            revision,
            events: Arc::new([]),
            bytes,
        }
    }

    fn read(log: &EventLog, from: i64, to: i64, max: (usize, usize)) -> Vec<i64> {
        let mut into = Vec::new();
        assert_eq!(log.read(from, to, max, &mut into), Read::Done);
        into.iter().map(|entry| entry.revision).collect()
    }

    #[test]
    fn the_log_is_bounded_by_number_and_bytes_but_keeps_the_newest_revision() {
        let mut removed = Vec::new();
        let mut log = EventLog::new(
            1,
            LogLimits {
                revisions: 3,
                bytes: 100,
            },
        );
        for revision in 2..=6 {
            log.push(entry(revision, 10), &mut removed);
        }
        assert_eq!((log.first(), log.last(), removed.len()), (4, 6, 2));
        log.push(entry(7, 85), &mut removed);
        assert_eq!((log.first(), log.last()), (6, 7));
        log.push(entry(8, 1000), &mut removed);
        assert_eq!((log.first(), log.last()), (8, 8));
        log.push(entry(9, 1), &mut removed);
        assert_eq!((log.first(), log.last()), (9, 9));
    }

    #[test]
    fn reading_stops_at_its_bounds_and_says_when_the_log_is_elsewhere() {
        let (mut removed, mut into) = (Vec::new(), Vec::new());
        let mut log = EventLog::new(
            10,
            LogLimits {
                revisions: 100,
                bytes: 100,
            },
        );
        let all = (100, 1000);
        assert_eq!(read(&log, 11, 99, all), [0i64; 0]);
        for revision in 11..=15 {
            log.push(entry(revision, 10), &mut removed);
        }
        assert_eq!(read(&log, 11, 99, all), [11, 12, 13, 14, 15]);
        assert_eq!(read(&log, 12, 13, all), [12, 13]);
        assert_eq!(read(&log, 12, 99, (3, 1000)), [12, 13, 14]);
        assert_eq!(read(&log, 12, 99, (3, 25)), [12, 13]);
        assert_eq!(read(&log, 12, 99, (3, 0)), [12]);
        assert_eq!(log.read(10, 99, all, &mut into), Read::Lost(15));
        assert_eq!(log.read(17, 99, all, &mut into), Read::Lost(15));
        // A revision that does not follow: what came before is not what a reader expects.
        log.push(entry(20, 10), &mut removed);
        assert_eq!((log.first(), log.last(), removed.len()), (20, 20, 5));
        assert_eq!(log.read(16, 99, all, &mut into), Read::Lost(20));
        assert_eq!(read(&log, 20, 99, all), [20]);
    }
}

//! Watchers that are behind: matching a stretch of revisions against a group of them.
//!
//! The dispatcher does this itself for revisions that are in the event log. Older ones come from
//! the store, which may mean reading the disk, so that is the history thread's work.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::history::{History, HistoryError};
use crate::index::Index;
use crate::item::{Filters, Part};
use crate::log::Revision;
use crate::range::KeyRange;
use crate::slab::Handle;

/// How many watchers are served together.
pub(crate) const GROUP: usize = 512;

/// How many revisions one answer of a watcher behind covers at most.
pub(crate) const BATCH_REVISIONS: usize = 1000;

/// What is needed to serve a watcher behind.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    pub watcher: Handle,
    pub range: KeyRange,
    pub filters: Filters,
    /// The first revision it needs.
    pub next: i64,
}

/// The parts of a stretch that a watcher gets.
pub(crate) type Parts = SmallVec<[Part; 1]>;

/// Which events of a stretch each cursor gets, in the order of the cursors.
pub(crate) fn matching(cursors: &[Cursor], stretch: &[Revision]) -> Vec<Parts> {
    let mut parts = vec![Parts::new(); cursors.len()];
    let matcher = Matcher::new(cursors);
    let mut matches = Vec::new();
    for entry in stretch {
        matches.clear();
        matcher.find(entry, &mut matches);
        matches.sort_unstable();
        for group in matches.chunk_by(|a, b| a.0 == b.0) {
            let number = group[0].0 as usize;
            let cursor = &cursors[number];
            if entry.revision < cursor.next {
                continue;
            }
            let places: SmallVec<[u32; 8]> = group.iter().map(|pair| pair.1).collect();
            parts[number].extend(cursor.filters.part(entry, Some(&places)));
        }
    }
    parts
}

/// Finds (cursor, event) pairs; an index pays off from a few cursors on.
enum Matcher<'a> {
    Few(&'a [Cursor]),
    Many(Index),
}

impl<'a> Matcher<'a> {
    fn new(cursors: &'a [Cursor]) -> Self {
        if cursors.len() <= 8 {
            return Self::Few(cursors);
        }
        let mut index = Index::default();
        for (number, cursor) in cursors.iter().enumerate() {
            index.insert(&cursor.range, number as u32);
        }
        Self::Many(index)
    }

    fn find(&self, entry: &Revision, matches: &mut Vec<(u32, u32)>) {
        let mut found = Vec::new();
        for (place, event) in entry.events.iter().enumerate() {
            found.clear();
            match self {
                Self::Few(cursors) => found.extend(
                    (0..cursors.len() as u32)
                        .filter(|&n| cursors[n as usize].range.contains(&event.key)),
                ),
                Self::Many(index) => index.search(&event.key, &mut found),
            }
            matches.extend(found.iter().map(|&number| (number, place as u32)));
        }
    }
}

/// Work for the history thread: cursors whose revisions are no longer in the log.
pub(crate) struct CatchUp {
    pub cursors: Vec<Cursor>,
    /// The last revision to deliver: the dispatcher's position. Nobody gets ahead of it.
    pub upto: i64,
    pub history: Arc<dyn History>,
    pub max_bytes: usize,
}

/// What became of a [`CatchUp`].
#[derive(Debug)]
pub(crate) struct CaughtUp {
    pub outcomes: Vec<(Handle, Outcome)>,
    /// The store could not be read: wait before asking again.
    pub failed: bool,
}

/// What became of one cursor.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Deliver the parts; the next revision it needs.
    Parts(Parts, i64),
    /// Revisions it needs are compacted, up to this revision.
    Compacted(i64),
    /// Its turn comes later.
    Later,
}

impl CatchUp {
    /// Reads one stretch of history, beginning at the cursor that is furthest behind.
    pub(crate) fn run(mut self) -> CaughtUp {
        let mut outcomes = Vec::with_capacity(self.cursors.len());
        self.remove_compacted(&mut outcomes);
        let Some(from) = self.cursors.iter().map(|cursor| cursor.next).min() else {
            return CaughtUp {
                outcomes,
                failed: false,
            };
        };
        let read = self
            .history
            .events_since(from, BATCH_REVISIONS, self.max_bytes);
        // A compaction that ran meanwhile may have removed any part of what was read. What is
        // needed below its revision is lost, what was read from there on is complete.
        self.remove_compacted(&mut outcomes);
        let (mut revisions, next, failed) = match read {
            Ok(chunk) => (chunk.revisions, chunk.next, false),
            // Those it concerns were just removed.
            Err(HistoryError::Compacted) => (Vec::new(), from, false),
            Err(HistoryError::Store(error)) => {
                tracing::warn!(%error, "failed to read history for watchers");
                (Vec::new(), from, true)
            }
        };
        let next = next.min(self.upto + 1);
        // A store that does not get ahead must not be asked again at once.
        let stuck = next <= from && self.cursors.iter().any(|cursor| cursor.next <= from);
        revisions.retain(|entry| entry.revision < next);
        let (now, later): (Vec<_>, Vec<_>) = self
            .cursors
            .into_iter()
            .partition(|cursor| cursor.next < next);
        let parts = matching(&now, &revisions);
        outcomes.extend(
            now.iter()
                .zip(parts)
                .map(|(cursor, parts)| (cursor.watcher, Outcome::Parts(parts, next))),
        );
        outcomes.extend(later.iter().map(|cursor| (cursor.watcher, Outcome::Later)));
        CaughtUp {
            outcomes,
            failed: failed || stuck,
        }
    }

    fn remove_compacted(&mut self, outcomes: &mut Vec<(Handle, Outcome)>) {
        let compacted = self.history.compact_revision();
        self.cursors.retain(|cursor| {
            let lost = cursor.next < compacted;
            if lost {
                outcomes.push((cursor.watcher, Outcome::Compacted(compacted)));
            }
            !lost
        });
    }
}

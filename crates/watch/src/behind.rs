//! The dispatcher's part of serving watchers that are behind.
//!
//! Each has the revision it needs next. If the log still has that, the dispatcher serves it, in
//! groups and bounded steps; else the history thread reads the store. Once a watcher needs the
//! revision after the dispatcher's position it is synced. A watcher whose next revision is
//! compacted and no longer in the log is told so: nothing is ever skipped.

use crate::catch_up::{
    BATCH_REVISIONS, CatchUp, CaughtUp, Cursor, GROUP, Outcome, Parts, matching,
};
use crate::dispatcher::Dispatcher;
use crate::item::{Body, Part, WatchItem};
use crate::log::Read;
use crate::queue::Pushed;
use crate::slab::Handle;
use crate::stats::Stats;
use crate::watcher::State;

/// How many stretches of the log are served in one round.
const STRETCHES: usize = 4;

impl Dispatcher {
    /// Serves a group of waiting watchers whose next revision is in the log and sorts out those
    /// that need the history thread.
    pub(crate) fn serve_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut cursors = self.take_waiting();
        cursors.sort_by_key(|cursor| cursor.next);
        let mut rest = &cursors[..];
        for _ in 0..STRETCHES {
            let Some(first) = rest.first() else { break };
            let mut stretch = Vec::new();
            let bounds = (BATCH_REVISIONS, self.batch_bytes);
            let read = self
                .shared
                .log()
                .read(first.next, self.position, bounds, &mut stretch);
            let Some(last) = stretch.last() else {
                debug_assert!(read != Read::Done, "the log is never behind the dispatcher");
                break;
            };
            let next = last.revision + 1;
            let (now, later) = rest.split_at(rest.partition_point(|cursor| cursor.next < next));
            for (cursor, parts) in now.iter().zip(matching(now, &stretch)) {
                self.give(cursor.watcher, parts, next);
            }
            rest = later;
        }
        self.waiting
            .extend(rest.iter().map(|cursor| cursor.watcher));
    }

    /// Takes up to a group of waiting watchers; gives those that the log can serve.
    fn take_waiting(&mut self) -> Vec<Cursor> {
        let first = self.shared.log().first();
        let mut cursors = Vec::new();
        for _ in 0..GROUP.min(self.waiting.len()) {
            let Some(handle) = self.waiting.pop_front() else {
                break;
            };
            let Some(watcher) = self.watchers.get_mut(handle) else {
                continue;
            };
            if watcher.state != State::Waiting {
                continue;
            }
            if watcher.next > self.position {
                watcher.state = State::Synced;
                Stats::sub(&self.shared.stats.behind, 1);
            } else if watcher.next >= first {
                cursors.push(watcher.cursor(handle));
            } else {
                self.cold.push_back(handle);
            }
        }
        cursors
    }

    /// Gives a watcher behind the parts of a stretch that ends before revision `next`.
    fn give(&mut self, handle: Handle, parts: Parts, next: i64) {
        let Some(watcher) = self.watchers.get_mut(handle) else {
            return;
        };
        if !parts.is_empty() {
            let count: usize = parts.iter().map(Part::len).sum();
            let bytes = parts.iter().map(|part| part.bytes).sum();
            let body = Body::Events(watcher.events(parts));
            let item = WatchItem::plain(watcher.id, self.position, body);
            match watcher.queue.push_events(item, bytes) {
                Pushed::Yes(waker) => {
                    watcher.active = true;
                    self.wake_later(waker);
                }
                Pushed::Full => return self.park(handle),
            }
            Stats::add(&self.shared.stats.events, count as u64);
        }
        let Some(watcher) = self.watchers.get_mut(handle) else {
            return;
        };
        watcher.next = next;
        if next > self.position {
            watcher.state = State::Synced;
            Stats::sub(&self.shared.stats.behind, 1);
        } else {
            watcher.state = State::Waiting;
            self.waiting.push_back(handle);
        }
    }

    /// Work for the history thread, if there is some and it has none.
    pub(crate) fn take_catch_up(&mut self) -> Option<CatchUp> {
        if self.away {
            return None;
        }
        let mut cursors = Vec::new();
        while cursors.len() < GROUP {
            let Some(handle) = self.cold.pop_front() else {
                break;
            };
            if let Some(watcher) = self.watchers.get_mut(handle)
                && watcher.state == State::Waiting
            {
                watcher.state = State::Away;
                cursors.push(watcher.cursor(handle));
            }
        }
        if cursors.is_empty() {
            return None;
        }
        self.away = true;
        Some(CatchUp {
            cursors,
            upto: self.position,
            history: self.shared.history(),
            max_bytes: self.batch_bytes,
        })
    }

    /// Takes what the history thread found.
    pub(crate) fn caught_up(&mut self, caught_up: CaughtUp) {
        self.away = false;
        for (handle, outcome) in caught_up.outcomes {
            let Some(watcher) = self.watchers.get_mut(handle) else {
                continue;
            };
            watcher.state = State::Waiting;
            match outcome {
                Outcome::Parts(parts, next) => self.give(handle, parts, next),
                Outcome::Compacted(revision) => self.lose(handle, revision),
                Outcome::Later => self.waiting.push_back(handle),
            }
        }
    }
}

//! Watchers and streams as the dispatcher keeps them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catch_up::Cursor;
use crate::catch_up::Parts;
use crate::command::StreamId;
use crate::item::{Events, Filters};
use crate::queue::Queue;
use crate::range::KeyRange;
use crate::slab::Handle;

/// Where a watcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Gets revisions as they are dispatched.
    Synced,
    /// Is behind and waits for its turn.
    Waiting,
    /// Is behind, and the history thread works on it.
    Away,
    /// Is behind, and its stream's queue is full.
    Parked,
    /// What it needs is compacted; its id waits to be cancelled.
    Lost,
}

/// One watcher.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub stream: StreamId,
    pub id: i64,
    pub queue: Arc<Queue>,
    pub range: KeyRange,
    /// First revision the client asked for; 0 if none.
    pub start: i64,
    /// First revision it has not been given. While it is synced, the dispatcher's position counts
    /// too, whichever is later.
    pub next: i64,
    pub filters: Filters,
    pub prev_kv: bool,
    pub fragment: bool,
    pub progress_notify: bool,
    pub state: State,
    /// Got events since the last progress interval.
    pub active: bool,
}

impl Watcher {
    /// Whether "all events up to `position` were sent" is true and not less than what the watcher
    /// knows already.
    pub(crate) fn is_served_up_to(&self, position: i64) -> bool {
        self.state == State::Synced && self.start <= position && self.next <= position + 1
    }

    pub(crate) fn cursor(&self, watcher: Handle) -> Cursor {
        Cursor {
            watcher,
            range: self.range.clone(),
            filters: self.filters,
            next: self.next,
        }
    }

    pub(crate) fn events(&self, parts: Parts) -> Events {
        Events {
            parts,
            prev_kv: self.prev_kv,
            fragment: self.fragment,
        }
    }
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub queue: Arc<Queue>,
    pub watchers: HashMap<i64, Handle>,
    /// Where to look for the next free id.
    pub next_id: i64,
    /// Watchers for whose events the queue had no room.
    pub parked: Vec<Handle>,
}

impl Stream {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            watchers: HashMap::new(),
            next_id: 0,
            parked: Vec::new(),
        }
    }

    /// The id for a new watcher: the wanted one or, for 0, the next free one. `None` if taken.
    pub(crate) fn pick_id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.watchers.contains_key(&wanted)).then_some(wanted);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        Some(id)
    }
}

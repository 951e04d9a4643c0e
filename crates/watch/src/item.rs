//! What a stream's receiver gets.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::log::Revision;
use crate::{Event, EventKind};

/// One answer on a watch stream.
#[derive(Debug, Clone)]
pub struct WatchItem {
    /// The watcher it is for; −1 when it is for none.
    pub watch_id: i64,
    /// Revision for the response header.
    pub revision: i64,
    /// What there is to say.
    pub body: Body,
}

/// Kinds of answers.
#[derive(Debug, Clone)]
pub enum Body {
    /// The watcher exists from now on; precedes everything else for its id.
    Created,
    /// A wish for a watcher was refused.
    Refused {
        /// Text for the client.
        reason: Cow<'static, str>,
    },
    /// Something happened to the watched keys.
    Events(Events),
    /// All events up to `revision` were sent: of this watcher, or with id −1 of all watchers of
    /// the stream.
    Progress,
    /// The watcher was cancelled as asked.
    Canceled,
    /// The watcher ended because revisions it still needs are compacted. Its id stays taken until
    /// it is cancelled.
    Compacted {
        /// The store's compaction revision.
        compact_revision: i64,
    },
}

/// Events for one watcher: one revision when the watcher is up to date, several when it catches
/// up. A revision is never divided.
#[derive(Debug, Clone)]
pub struct Events {
    pub(crate) parts: SmallVec<[Part; 1]>,
    /// The watcher wants the state before each event.
    pub prev_kv: bool,
    /// The watcher takes large answers in pieces.
    pub fragment: bool,
}

impl Events {
    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.parts.iter().flat_map(Part::iter)
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Never true for what a receiver gets.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// Events of one revision, shared with the log, and which of them are meant.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub revision: i64,
    pub events: Arc<[Event]>,
    /// Memory the events hold on to.
    pub bytes: usize,
    /// Places in `events`; `None` means all.
    pub chosen: Option<Box<[u32]>>,
}

impl Part {
    pub(crate) fn len(&self) -> usize {
        self.chosen
            .as_ref()
            .map_or(self.events.len(), |chosen| chosen.len())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        let all = if self.chosen.is_none() {
            &self.events[..]
        } else {
            &[]
        };
        let some = self.chosen.as_deref().unwrap_or_default();
        all.iter()
            .chain(some.iter().map(|&place| &self.events[place as usize]))
    }
}

/// Events a watcher does not want.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filters {
    /// No puts.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
}

impl Filters {
    /// Whether an event is wanted.
    pub fn pass(self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    /// The part of a revision at `places` (`None` = all) that passes, or nothing.
    pub(crate) fn part(self, entry: &Revision, places: Option<&[u32]>) -> Option<Part> {
        let Revision {
            revision,
            events,
            bytes,
        } = entry;
        let chosen = if self == Self::default() {
            places
                .filter(|places| places.len() < events.len())
                .map(Box::from)
        } else {
            let passes = |place: &u32| self.pass(&events[*place as usize]);
            let chosen: Box<[u32]> = match places {
                Some(places) => places.iter().copied().filter(passes).collect(),
                None => (0..events.len() as u32).filter(passes).collect(),
            };
            if chosen.is_empty() {
                return None;
            }
            (chosen.len() < events.len()).then_some(chosen)
        };
        Some(Part {
            revision: *revision,
            events: Arc::clone(events),
            bytes: *bytes,
            chosen,
        })
    }
}

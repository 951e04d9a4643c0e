//! Changes as watchers see them.

use std::sync::Arc;

use api::RawKv;
use bytes::Bytes;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was stored.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key, sharing memory with `kv`.
    pub key: Bytes,
    /// The pair that was stored; for a deletion the key and the revision of the deletion.
    pub kv: RawKv,
    /// Whether this put brought the key to life.
    pub create: bool,
    /// The pair before the change if it was at hand. `None` does not mean that there was none: unless `create` is
    /// set, [`crate::Store::kv_at`] of the revision before knows.
    pub prev: Option<RawKv>,
    /// Number of changes of the same transaction before this one.
    pub sub: i64,
}

/// Takes in changes in the order in which they happen.
pub trait EventSink: Send + Sync {
    /// A transaction is about to become visible. Called on the applying thread for one revision after the other,
    /// just before readers can see it, so that no progress report can run ahead of its events.
    fn publish(&self, revision: i64, events: Arc<[Event]>);
    /// History before this revision can no longer be read.
    fn compacted(&self, revision: i64);
}

/// A piece of history.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// Whole transactions in order, with their revisions.
    pub transactions: Vec<(i64, Arc<[Event]>)>,
    /// From where to go on.
    pub next: i64,
    /// The store's revision when this was read: `next` is higher exactly if nothing is left.
    pub current: i64,
}

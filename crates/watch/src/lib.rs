//! Watching: who wants to know about which keys, and how they get to know it. The rules are in
//! `docs/watch.md`.

mod behind;
mod catch_up;
mod command;
mod dispatcher;
mod history;
mod hub;
mod index;
mod item;
mod log;
mod queue;
mod range;
mod response;
mod shared;
mod slab;
mod spec;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod watcher;

pub use history::{History, HistoryChunk, HistoryError};
pub use hub::{Config, Hub};
pub use item::{Body, Events, Filters, WatchItem};
pub use log::{LogLimits, Revision};
pub use mvcc::{Event, EventKind};
pub use queue::StreamConfig;
pub use range::KeyRange;
pub use spec::WatchSpec;
pub use stats::StatsSnapshot;
pub use stream::{Busy, StreamControl, StreamReceiver};

//! The database of a member: ten buckets in one file of bbolt's format, with memory above it.
//!
//! The thread that applies raft entries writes through [`Writer`] and never waits for the file. Its changes gather in
//! an open batch; a batch is sealed at an entry boundary only, together with the position of that entry, and becomes
//! immutable; the backend's own thread brings sealed batches into the file, many per commit. Readers see running
//! entry, open batch, sealed batches and the newest committed state of the file as one. `docs/backend.md` tells more.
//!
//! **Architecture invariants:**
//!
//! * Data and the position they stand for (consistent index, term, conf state) reach the file in one commit: only
//!   [`Writer::end_entry`] moves the position, and only complete entries are sealed.
//! * Nobody who serves clients takes a lock that is held during I/O: not for a commit, not for a rewrite of the file.
//! * This crate does not know what the keys mean.

#![allow(clippy::disallowed_methods)] // The edge: it owns a thread and keeps the batch interval.

mod bucket;
mod committer;
mod config;
mod control;
mod defrag;
mod error;
mod file;
mod handle;
mod hash;
mod layer;
mod layers;
mod merge;
mod open;
mod position;
mod replace;
mod rewrite;
mod shared;
mod snapshot;
mod text;
mod ticket;
mod view;
mod writer;

pub use bucket::Bucket;
pub use config::{Config, Observer};
pub use error::Error;
pub use handle::{Backend, Maintenance, Op};
pub use hash::hash_database;
pub use open::{exists, open};
pub use position::Position;
pub use snapshot::SnapshotImage;
pub use text::human_bytes;
pub use ticket::Ticket;
pub use view::View;
pub use writer::Writer;

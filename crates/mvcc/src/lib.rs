//! The key-value store with all its revisions: index, transactions, reads at a revision, compaction, hashes, history.
//!
//! [`Store`] is read from any thread; [`Writer`] belongs to the thread that applies the raft log. The index lives in
//! memory and knows every change of every key since the last compaction; records are in bucket `key` of the backend,
//! values of living keys also in memory as far as the budget goes. `docs/mvcc.md` tells more.
//!
//! **Architecture invariants:**
//!
//! * The same sequence of transactions and compactions gives the same records and the same answers on every member:
//!   nothing here asks for time, chance or configuration to decide.
//! * No lock that a reader or the writer needs is held during I/O, or for longer than a bounded number of steps.
//! * This crate knows neither gRPC nor raft, and of leases only that a record carries a number.

mod compaction;
mod error;
mod event;
mod events;
mod hash;
mod index;
mod options;
mod pins;
mod read;
mod record;
mod restore;
mod revision;
mod rows;
mod scrub;
mod share;
mod span;
mod state;
mod store;
mod txn;
mod writer;

pub use compaction::CompactionJob;
pub use error::Error;
pub use event::{Event, EventBatch, EventKind, EventSink};
pub use hash::{CompactionHash, HashKv};
pub use index::KeyMeta;
pub use options::{RangeOptions, RangeResult, SortOrder, SortTarget};
pub use revision::Revision;
pub use store::{Config, Stats, Store};
pub use txn::{Deleted, TxnEnd, WriteTxn};
pub use writer::{Restored, Writer, open};

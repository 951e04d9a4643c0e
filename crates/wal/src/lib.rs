//! The write-ahead log and the `.snap` files beside it, byte for byte as etcd writes and reads them.
//!
//! A member appends raft's entries and hard states to segments of 64 MB and syncs them before it
//! acknowledges anything; after a crash it reads them back. The format and its life cycle are described
//! in `docs/wal-format.md`.
//!
//! * [`Wal`] is the writing side, used by one thread. [`Wal::append`] and [`Wal::sync`] are separate so
//!   that several appends can share one sync; [`Wal::save`] does both as etcd would.
//! * [`Wal::open`], [`read_only`], [`verify`] and [`valid_snapshots`] are the reading side.
//! * [`snap::Snapshotter`] reads and writes `.snap` files and receives databases from a leader.
//! * [`purge`] removes what is no longer needed.
//!
//! **Architecture invariants.** This crate does not know raft: it stores what it is given in the order
//! it is given. All files are reached through [`disk::Fs`]. Bytes read from a file can neither panic nor
//! make it allocate more than the file holds. After a failed write or sync a [`Wal`] refuses all work,
//! because nobody knows what the disk holds then.

// Durations of syncs are measured for the metrics, the pipeline is a thread of its own, and broken
// directories get the time into their name. Nothing that is replayed depends on any of these.
#![allow(clippy::disallowed_methods)]

mod appender;
mod error;
mod frame;
mod names;
mod observe;
mod options;
mod pipeline;
pub mod purge;
mod reader;
mod repair;
mod replay;
pub mod snap;
mod wal;

pub use api::walpb::Snapshot as WalSnapshot;
pub use error::Error;
pub use names::exists;
pub use observe::{NoObserver, Observer, SnapTimes};
pub use options::{Options, Preparation, SEGMENT_SIZE};
pub use repair::repair;
pub use replay::{Recovered, read_only, valid_snapshots, verify};
pub use wal::Wal;

//! bbolt's file format and transactions: one B+tree file with nested buckets, one writer, any number of
//! readers on stable states. Files are exchanged with Go's bbolt in both directions; the format and its
//! rules are in `docs/bbolt-format.md`.
//!
//! * [`Db`] is a shared handle. [`Db::read`] gives a [`ReadTx`] on the last committed state; it is owned,
//!   can be sent and shared between threads, and neither waits for the writer nor makes it wait.
//!   [`Db::write`] gives the one [`WriteTx`].
//! * Everything that reads returns a `Result`: bytes of a file are not trusted, and a damaged page shows
//!   as [`Error::Corrupt`] where it is met, never as a panic or a read outside of the file.
//! * A commit is durable when [`WriteTx::commit`] returns. After a failed write or sync the database
//!   refuses all further writes ([`Error::Poisoned`]).
//!
//! Architecture invariant: this crate does not know what etcd keeps in the file.
//!
//! How a commit works: a write transaction copies the pages on the way to a change into nodes in memory
//! (`changes`, `nodes`); the commit joins and cuts them (`spill`), gives each piece a page that no state
//! in use contains (`freelist`), writes these pages, syncs, and writes one of the two meta pages
//! (`commit`). `space` is the only place where the mapping becomes slices.

mod bucket;
mod changes;
mod check;
mod commit;
mod cursor;
mod db;
mod encode;
mod error;
mod format;
mod freelist;
mod nodes;
mod open;
mod options;
mod page;
mod read;
mod space;
mod spill;
mod walk;
mod write;

pub use bucket::{Bucket, BucketNames};
pub use check::CheckError;
pub use commit::CommitStats;
pub use cursor::{Cursor, Item};
pub use db::{Db, Stats};
pub use error::Error;
pub use format::{MAX_KEY_LEN, MAX_VALUE_LEN};
pub use options::Options;
pub use read::ReadTx;
pub use write::{BucketMut, WriteTx};

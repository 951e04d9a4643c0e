//! Leases: keys that go away when nobody renews them. The rules are in `docs/lease.md`.
//!
//! [`Lessor`] is a plain state machine. The time is an argument of every call that needs it, and
//! nothing here knows about raft, threads or requests. It is meant to sit in a mutex: every call
//! takes a short, bounded time, whatever the number of leases, except [`Lessor::leases`], which
//! copies all ids once.

mod calendar;
mod config;
mod error;
mod lessor;
mod listing;
mod primary;
mod record;
mod spread;
mod table;

pub use config::{
    CHECKPOINT_ENTRIES_PER_ROUND, CHECKPOINT_INTERVAL, CHECKPOINTS_PER_ENTRY, Config,
    EXPIRED_PER_ROUND, MAX_TTL, ROUND, min_ttl,
};
pub use error::{Error, RecoverError};
pub use lessor::{Expired, Lessor, Renewal, Revoked, TimeToLive};
pub use listing::Listing;
pub use record::Records;

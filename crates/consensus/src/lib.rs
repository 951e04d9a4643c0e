//! The raft core behind one narrow interface.
//!
//! * [`Node`] is the handle everybody holds; [`Node::start`] starts the consensus thread and the log thread.
//! * [`Core`] is what the consensus thread drives: a state machine without threads, clock and I/O.
//! * [`LogStore`], [`Transport`], [`Apply`], [`ReadSink`] and [`Events`] are what the surroundings provide.
//!
//! Entries, messages and hard states are etcd's ([`api::raftpb`]); the types of crate `raft` stay inside. See
//! `docs/consensus.md` for the rules and `docs/decisions/0001-raft-core.md` for the choice of the crate.
//!
//! Architecture invariant: the data of entries are bytes; nothing here knows etcd's requests.

// The consensus thread owns the member's clock: it turns time into ticks. The core has none.
#![allow(clippy::disallowed_methods)]

mod config;
mod core;
mod driver;
mod error;
mod inbox;
mod log_store;
mod log_thread;
mod node;
mod proposals;
mod reads;
mod rng;
mod status;
mod storage;
mod transitions;
mod translate;
mod types;
mod window;

pub use config::{Config, Position, Start};
pub use core::Core;
pub use error::{ConfChangeError, Error, Refused, StepError, Stopped, StoreError};
pub use log_store::{LogStore, WalStore};
pub use node::{
    Apply, CompactionPause, Events, NoPeers, Node, ReadSink, Ticket, Transport, Wiring,
};
pub use status::Status;
pub use types::{
    ApplyBatch, Leadership, LeadershipChange, MemberProgress, Output, Persist, Proposal, ReadError,
    ReadOutcome, Role,
};

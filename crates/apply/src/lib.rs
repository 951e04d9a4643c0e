//! The replicated state machine: a committed log entry in, its result out.
//!
//! [`StateMachine`] owns everything a log entry may change — keys, leases, alarms, users, membership — and
//! changes it in one deterministic step per entry, so that two members given the same log hold the
//! same data. The rules are described in `docs/apply.md`.
//!
//! Architecture invariant: nothing here reads a clock, draws a random number, waits, or knows of
//! network or threads. What the surroundings must do afterwards comes back as an [`Effect`].

mod alarm;
mod kv;
mod machine;
mod quota;
mod request;
mod txn;

pub use alarm::{AlarmView, Alarms};
pub use kv::{range_options, range_response, store_error};
pub use machine::{Applied, ConfChangeVerdict, Effect, Fatal, Parts, StateMachine};
pub use quota::{Quota, put_cost, txn_cost};
pub use request::{DecodeError, Op, Request, encode};
pub use txn::read_only as read_only_txn;

/// What an applied request answers. Headers carry only the revision; the frontend adds the rest.
#[derive(Debug)]
pub enum Response {
    /// Answer to a Range that travelled as an entry.
    Range(api::etcdserverpb::RangeResponse),
    /// Answer to a Put.
    Put(api::etcdserverpb::PutResponse),
    /// Answer to a DeleteRange.
    DeleteRange(api::etcdserverpb::DeleteRangeResponse),
    /// Answer to a Txn.
    Txn(api::etcdserverpb::TxnResponse),
    /// Answer to a Compaction; the deletion itself goes on in the background.
    Compaction(api::etcdserverpb::CompactionResponse),
    /// Answer to a LeaseGrant.
    LeaseGrant(api::etcdserverpb::LeaseGrantResponse),
    /// Answer to a LeaseRevoke.
    LeaseRevoke(api::etcdserverpb::LeaseRevokeResponse),
    /// Answer to an Alarm request.
    Alarm(api::etcdserverpb::AlarmResponse),
    /// Answer to a request about users and roles.
    Auth(auth::AuthResponse),
    /// The request has no answer of its own (attributes, versions, checkpoints).
    Done,
}

//! Users, roles, permissions, tokens and passwords. The rules are in `docs/auth.md`.
//!
//! [`AuthStore`] is the replicated part: a plain state machine that the apply thread owns. After each change it
//! publishes an immutable [`Permissions`] through the [`AuthView`] that all other threads share. Passwords are hashed by
//! a [`PasswordPool`], the only thing here with threads.
//!
//! **Architecture invariants:**
//!
//! * The same log gives the same records, answers and errors on all members, Go's included. The store takes time and
//!   positions as arguments; randomness it needs is in the log.
//! * No check of a permission takes a lock or waits.
//! * This crate knows requests, but neither raft nor gRPC.

pub mod gosort;
mod identity;
mod intervals;
mod op;
mod password;
mod permissions;
mod records;
mod response;
mod roles;
mod store;
mod token;
mod user_map;
mod users;
mod view;

pub use identity::{AuthInfo, Caller, Credentials, credentials};
pub use op::AuthOp;
pub use password::{
    Cost, HashError, PASSWORD_MAX, PasswordPool, PoolConfig, hash, verify, wrap_hash,
};
pub use permissions::{LeaseKeys, PasswordCheck, Permissions};
pub use records::{Records, RecoverError, Source, SourceError};
pub use response::{AuthResponse, Login};
pub use store::{AuthStore, Entry};
pub use token::{
    Jwt, JwtOptions, KeyError, OptionsError, SimpleTokens, TokenConfig, TokenProvider,
    simple_token_index,
};
pub use view::{AuthView, Clock, Identity};

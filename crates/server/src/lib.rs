//! A member and everything around it: start-up, threads, gRPC services, HTTP endpoints, metrics.
//!
//! [`start`] opens the files and launches the threads; [`core`] is the member they make; the frontends know it
//! only through [`frontend`].
//!
//! Architecture invariant: nothing here knows bbolt's pages or the WAL's frames.

// The edge of the program: it owns threads and clocks and hands time to the crates that must not have one.
#![allow(clippy::disallowed_methods)]

pub mod core;
pub mod frontend;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod net;
pub mod start;

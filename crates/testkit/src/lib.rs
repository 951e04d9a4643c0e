//! What the integration tests are made of: real etcd programs, our own server as a child process, command
//! line and gRPC clients, and the runner that plays the same requests to two servers and compares every answer.
//!
//! `docs/testing.md` says how to run and extend the tests. Nothing here is linked into a program.
//!
//! A test that needs something the machine lacks (Go, the network, root) asks for it through [`need!`]: it then
//! passes after printing `skipped: …`, or fails when `CI=true`, so that a pipeline cannot lose its tests silently.

// Tests live at the edge: they measure time, write files that need no durability and start threads.
#![allow(clippy::disallowed_methods)]

pub mod cache;
pub mod cluster;
pub mod diff;
pub mod etcdctl;
pub mod files;
pub mod grpc;
pub mod interop;
pub mod load;
pub mod own;
pub mod ports;
pub mod rng;
pub mod server;
pub mod skip;
pub mod wait;

pub use cluster::Cluster;
pub use etcdctl::{Etcdctl, Output};
pub use interop::Version;
pub use server::{Builder, Server, StartError};
pub use skip::Skip;

//! What the server is told: command line, environment, configuration file.
//!
//! One table ([`flags`]) describes every option of etcd 3.7 once; parsing, help, environment names
//! and file keys come out of it. [`parse`] gives a [`Config`] and what is to be logged about it, or
//! what to print and the exit code. See `docs/configuration.md`.
//!
//! Architecture invariant: nothing here touches the process: arguments, variables and the reading of
//! the file are passed in, texts and records are handed out.

mod build;
mod command_line;
mod compaction;
mod config;
mod environment;
mod file;
mod flag;
mod gates;
mod help;
mod kind;
mod outcome;
mod settings;
mod startup;
mod table;
mod validate;

pub use compaction::AutoCompaction;
pub use config::{
    BackendConfig, ClusterState, CompactionMode, Config, DiscoveryConfig, GrpcConfig, TlsConfig,
    TracingConfig,
};
pub use flag::{FileKey, Flag, Section};
pub use gates::{FEATURES, Feature, FeatureGates, Stage};
pub use kind::{Kind, Value};
pub use outcome::{Exit, Input, Outcome, Start, Version, failure_records, parse};
pub use settings::{Origin, Settings};
pub use table::{find, flags};

//! Log lines in etcd's form.
//!
//! Crates log through the `tracing` macros; this crate renders what they say as the JSON or console
//! lines operators and tools know from etcd, and writes them to the outputs the flags name. See
//! `docs/logging.md` for the rules and for how to log lists, durations and ids.
//!
//! Architecture invariant: no crate but the programs sets logging up; everybody else only says
//! things. A log line never fails the work it reports on.

#![allow(clippy::disallowed_methods)] // The edge: it reads the clock, and log files are not durable data.

mod caller;
mod config;
mod format;
mod global;
mod journal;
mod level;
mod output;
mod record;
mod rotate;
mod sampler;
mod subscriber;
mod timestamp;
mod value;

pub use config::{Config, Error, Format, Rotation, Target};
pub use global::{emit, fatal, init, level, panic, reconfigure, set_level};
pub use gotext::GoDuration;
pub use level::Level;
pub use record::Record;
pub use value::{Hex, Json, Value};

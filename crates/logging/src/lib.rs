//! Log lines in etcd's form.
//!
//! Crates log through the `tracing` macros; this crate renders what they say as the JSON or console
//! lines operators and tools know from etcd. See `docs/logging.md`.

mod value;

pub use gotext::GoDuration;
pub use value::{Hex, Json};

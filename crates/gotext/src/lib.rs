//! Texts as Go programs write and read them: durations, JSON strings, quoted strings, URLs.
//!
//! etcd's flags, log lines, member records and error messages carry these forms, and scripts, other
//! members and old data directories depend on them to the letter.
//!
//! Architecture invariant: this crate knows nothing of etcd; it does no I/O and has no state.

mod duration;
mod hex;
mod json;
mod os_error;
mod quote;
mod url;

pub use duration::{DurationError, GoDuration, format_nanos, parse_duration};
pub use hex::Hex;
pub use json::{Escape, push_json_string};
pub use os_error::os_error;
pub use quote::quote;
pub use url::{Url, UrlError, join_host_port, parse_url_list, split_host_port};

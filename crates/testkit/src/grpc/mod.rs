//! The raw gRPC differential: seeded random requests, sent to two servers one by one, whole answers compared.
//!
//! [`run`] generates a list of [`Request`]s from a seed, sends each to both servers and compares what comes back:
//! every field of the answer, or code and text of the error. Only the raft term is taken out (member and cluster ids
//! are equal by construction, lease ids are chosen by the requests). When an answer differs, the list is
//! cut down to the few requests that are needed for it, and those are printed with both answers.

mod answer;
mod asks;
mod clients;
mod generate;
mod request;
mod run;
mod stream;
mod watcher;

pub use answer::Answer;
pub use asks::KvHash;
pub use clients::Clients;
pub use generate::generate;
pub use request::Request;
pub use run::{Mismatch, run, run_list};
pub use stream::{WatchStream, watch_key, watch_prefix};
pub use watcher::WatchLog;

//! What is served beside gRPC: health, versions, metrics; and what members ask each other without raft.
//!
//! One function per listener decides by protocol: HTTP/2 is gRPC, HTTP/1 comes here. `docs/api.md` has the table
//! of paths and answers.

mod checks;
mod client;
mod filter;
mod health;
mod json;
mod peer;
mod query;
mod reply;

use std::sync::Arc;
use std::time::Duration;

pub use client::{ClientHandler, MetricsHandler};
pub use filter::Filter;
pub use peer::PeerHandler;

use crate::frontend::Frontend;
use crate::metrics::Metrics;

/// What the endpoints need to know beside the member.
#[derive(Debug)]
pub struct Endpoints<F> {
    member: Arc<F>,
    metrics: Arc<Metrics>,
    /// How long a read of `/health` may take.
    request_timeout: Duration,
}

impl<F: Frontend> Endpoints<F> {
    /// Endpoints of a member; `request_timeout` bounds the read behind `/health`.
    pub fn new(member: Arc<F>, metrics: Arc<Metrics>, request_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            member,
            metrics,
            request_timeout,
        })
    }
}

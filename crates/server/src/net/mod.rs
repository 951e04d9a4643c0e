//! Threads that serve connections.
//!
//! Each thread runs a tokio runtime of its own; a connection stays on one of them. One listener accepts for all and
//! hands connections out in turn, so that binding a port has one result.

mod connection;
mod threads;

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;

pub use connection::Options;
pub use threads::Threads;

use crate::grpc::ResponseBody;

/// Answers the requests of a listener.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. A dropped future means that the client is gone.
    fn handle(
        self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

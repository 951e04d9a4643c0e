//! Requests to other members.

mod error;
mod http;
mod queries;

pub use error::{ClientError, ForwardError};
pub use queries::{PeerClient, RemoteCluster};

pub(crate) use error::SendError;
pub(crate) use http::{Http, OutBody, address, collect, error_text, full, open};

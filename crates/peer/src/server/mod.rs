//! The peer port: who may ask what, and the answers.

mod endpoints;
mod listen;
mod raft;
mod receive;
mod reply;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::Semaphore;

pub use listen::{Listener, Listening};

use crate::body::Body;
use crate::transport::Members;
use crate::{PeerApi, text};

/// An answer on its way to another member.
pub type Reply = Response<Body>;

/// Snapshots that are received at the same time.
const MAX_SNAPSHOTS: usize = 4;

/// Answers requests of other members. Clones are the same server. Needs HTTP/1.1 and a tokio runtime with timers; see
/// [`crate::Transport::listen`] for one that fits.
#[derive(Clone)]
pub struct PeerServer {
    members: Arc<Members>,
    api: Arc<dyn PeerApi>,
    receiving: Arc<Semaphore>,
}

impl PeerServer {
    pub(crate) fn new(members: Arc<Members>, api: Arc<dyn PeerApi>) -> Self {
        Self {
            members,
            api,
            receiving: Arc::new(Semaphore::new(MAX_SNAPSHOTS)),
        }
    }

    /// Answers one request. Paths that are not of the peer port get 404.
    pub async fn handle<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = request.uri().path();
        match path {
            "/raft" => self.raft(request).await,
            "/raft/probing" => probing(),
            "/raft/snapshot" => self.snapshot(request).await,
            "/members" => self.member_list(&request),
            "/members/hashkv" => self.hash_kv(request).await,
            "/leases" => self.renew_lease(request).await,
            "/leases/internal" => self.lease_time_to_live(request).await,
            "/downgrade/enabled" => self.downgrade_enabled(&request).await,
            "/version" => self.versions(&request),
            _ if path.starts_with("/raft/stream/") => self.stream(&request),
            _ if path.starts_with("/members/promote/") => self.promote(&request).await,
            _ => reply::not_found(),
        }
    }
}

/// The time, for whoever compares clocks. Any method does.
fn probing() -> Reply {
    let now = text::timestamp(SystemTime::now());
    reply::text(format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n"))
}

/// The refusal of other methods than the one; `None` when it is that.
fn unless<B>(request: &Request<B>, method: &Method) -> Option<Reply> {
    (request.method() != method).then(|| reply::not_allowed(Some(method)))
}

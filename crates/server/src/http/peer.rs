//! The peer port's plain endpoints; raft's own paths come with the peer transport.

use std::fmt::Write;
use std::sync::Arc;

use api::Error;
use api::etcdserverpb as pb;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::reply::{self, Reply};
use super::{Endpoints, json};
use crate::frontend::Frontend;
use crate::net::Handler;

/// Longest body that is read here.
const MAX_BODY: usize = 64 * 1024;
const CLUSTER_ID: &str = "x-etcd-cluster-id";

/// A peer listener.
#[derive(Debug)]
pub struct PeerHandler<F>(Arc<Endpoints<F>>);

impl<F: Frontend> PeerHandler<F> {
    /// Serves what members ask each other.
    pub const fn new(endpoints: Arc<Endpoints<F>>) -> Self {
        Self(endpoints)
    }
}

impl<F> Clone for PeerHandler<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Frontend> Handler for PeerHandler<F> {
    async fn handle(self, request: Request<Incoming>) -> Reply {
        Box::pin(self.0.peer(request)).await
    }
}

impl<F: Frontend> Endpoints<F> {
    async fn peer(&self, request: Request<Incoming>) -> Reply {
        match request.uri().path() {
            "/version" => self.version(&request),
            "/members" => self.members(&request).await,
            "/members/hashkv" => self.peer_hash_kv(request).await,
            "/downgrade/enabled" => self.downgrade_enabled(&request).await,
            _ => reply::not_found(),
        }
    }

    /// All members as this one knows them.
    async fn members<B>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = reply::unless_get(request) {
            return refusal;
        }
        self.with_cluster_id(match self.member.member_list(false).await {
            Ok(members) => reply::json(members_json(&members)),
            Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, error.text()),
        })
    }

    /// Tells the caller whose answer it is.
    fn with_cluster_id(&self, mut reply: Reply) -> Reply {
        let id = format!("{:x}", self.member.header().cluster_id);
        if let Ok(id) = HeaderValue::try_from(id) {
            reply.headers_mut().insert(CLUSTER_ID, id);
        }
        reply
    }

    /// Checksum of the history for the comparison between members.
    async fn peer_hash_kv(&self, request: Request<Incoming>) -> Reply {
        if let Some(refusal) = reply::unless_get(&request) {
            return refusal;
        }
        let own = format!("{:x}", self.member.header().cluster_id);
        if request
            .headers()
            .get(CLUSTER_ID)
            .is_some_and(|theirs| theirs.as_bytes() != own.as_bytes())
        {
            return reply::error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let Some(revision) = body.ok().and_then(|body| revision_of(&body.to_bytes())) else {
            return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        match self.member.hash_kv(revision).await {
            Ok(response) => reply::json(hash_kv_json(&response)),
            // Between members, texts have no prefix.
            Err(error) => {
                let text = error.text();
                let text = text.strip_prefix("etcdserver: ").unwrap_or(text);
                reply::error(StatusCode::BAD_REQUEST, text)
            }
        }
    }

    async fn downgrade_enabled<B: Sync>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = reply::unless_get(request) {
            return refusal;
        }
        self.with_cluster_id(match self.read(false).await {
            Ok(()) => {
                let info = self.member.status().downgrade_info;
                let enabled = info.is_some_and(|info| info.enabled);
                reply::with_type(enabled.to_string(), HeaderValue::from_static("text/plain"))
            }
            Err(error) => failed_read(&error),
        })
    }
}

fn failed_read(error: &Error) -> Reply {
    reply::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!("failed linearized read: {error}"),
    )
}

/// The revision in a request's JSON; absent means 0.
fn revision_of(body: &[u8]) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    match value.as_object()?.get("revision") {
        None => Some(0),
        Some(revision) => revision.as_i64(),
    }
}

/// Fields that are zero are left out.
fn hash_kv_json(response: &pb::HashKvResponse) -> String {
    let mut body = String::from("{");
    let number = |body: &mut String, name: &str, value: i64| {
        if value != 0 {
            json::field(body, name);
            // Writing to a string does not fail.
            let _ = write!(body, "{value}");
        }
    };
    if let Some(header) = &response.header {
        json::field(&mut body, "header");
        body.push('{');
        number(&mut body, "revision", header.revision);
        body.push('}');
    }
    number(&mut body, "hash", response.hash.into());
    number(&mut body, "compact_revision", response.compact_revision);
    number(&mut body, "hash_revision", response.hash_revision);
    body.push('}');
    body
}

fn members_json(members: &[pb::Member]) -> String {
    let mut body = String::from("[");
    for member in members {
        json::item(&mut body);
        // Writing to a string does not fail.
        let _ = write!(body, "{{\"id\":{}", member.id);
        json::field(&mut body, "peerURLs");
        json::strings(&mut body, &member.peer_urls);
        if member.is_learner {
            body.push_str(",\"isLearner\":true");
        }
        if !member.name.is_empty() {
            json::field(&mut body, "name");
            json::string(&mut body, &member.name);
        }
        if !member.client_urls.is_empty() {
            json::field(&mut body, "clientURLs");
            json::strings(&mut body, &member.client_urls);
        }
        body.push('}');
    }
    body.push_str("]\n");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_members_write_them() {
        let started = pb::Member {
            id: 10501334649042878790,
            name: "m1".into(),
            peer_urls: vec!["http://a:2380".into(), "http://b/?x=1&y=2".into()],
            client_urls: vec!["http://a:2379".into()],
            is_learner: false,
        };
        let learner = pb::Member {
            id: 7,
            is_learner: true,
            ..Default::default()
        };
        assert_eq!(
            members_json(&[started, learner]),
            "[{\"id\":10501334649042878790,\"peerURLs\":[\"http://a:2380\",\"http://b/?x=1\\u0026y=2\"],\
            \"name\":\"m1\",\"clientURLs\":[\"http://a:2379\"]},{\"id\":7,\"peerURLs\":[],\"isLearner\":true}]\n"
        );
        assert_eq!(members_json(&[]), "[]\n");
    }

    #[test]
    fn hashes_are_written_without_zeros() {
        let header = pb::ResponseHeader {
            revision: 2,
            cluster_id: 9,
            ..Default::default()
        };
        let response = pb::HashKvResponse {
            header: Some(header),
            hash: 3305255506,
            compact_revision: -1,
            hash_revision: 0,
        };
        assert_eq!(
            hash_kv_json(&response),
            "{\"header\":{\"revision\":2},\"hash\":3305255506,\"compact_revision\":-1}"
        );
    }

    #[test]
    fn revisions_are_read_from_json() {
        assert_eq!(revision_of(b"{\"revision\":5}"), Some(5));
        assert_eq!(revision_of(b"{}"), Some(0));
        assert_eq!(revision_of(b""), None);
        assert_eq!(revision_of(b"[]"), None);
        assert_eq!(revision_of(b"{\"revision\":\"5\"}"), None);
    }
}

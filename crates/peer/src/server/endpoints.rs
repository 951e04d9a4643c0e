//! What members ask each other beside raft.

use std::fmt::Write as _;

use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader};
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use bytes::{Bytes, BytesMut};
use cluster::Member;
use gotext::{Escape, push_json_string};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as HttpBody;

use super::raft::next_data;
use super::{PeerServer, Reply, reply, unless};
use crate::body::Body;
use crate::{HashKv, LeaseError, PromoteError, Versions, headers};

/// Longest body that is read here.
const MAX_BODY: usize = 64 << 10;

impl PeerServer {
    /// `GET /version`.
    pub(super) fn versions<B>(&self, request: &Request<B>) -> Reply {
        unless(request, &Method::GET)
            .unwrap_or_else(|| reply::json(versions_json(&self.api.versions())))
    }

    /// `GET /members`: all members as this one knows them.
    pub(super) fn member_list<B>(&self, request: &Request<B>) -> Reply {
        unless(request, &Method::GET)
            .unwrap_or_else(|| self.identified(members_json(&self.api.members())))
    }

    /// `POST /members/promote/<id>`.
    pub(super) async fn promote<B: Send>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = unless(request, &Method::POST) {
            return refusal;
        }
        let id = request
            .uri()
            .path()
            .strip_prefix("/members/promote/")
            .unwrap_or_default();
        let authorization = request.headers().get(header::AUTHORIZATION);
        let token = authorization
            .and_then(|token| token.to_str().ok())
            .map(str::to_owned);
        let reply = self.promote_member(id, token).await;
        self.identified(reply)
    }

    async fn promote_member(&self, text: &str, token: Option<String>) -> Reply {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let Some(id) = digits.then(|| text.parse().ok()).flatten() else {
            let text = format!("member {text} not found in cluster");
            return reply::error(StatusCode::NOT_FOUND, &text);
        };
        let error = match self.api.promote(id, token).await {
            Ok(members) => return members_json(&members),
            Err(error) => error,
        };
        let status = match &error {
            PromoteError::NotFound => StatusCode::NOT_FOUND,
            PromoteError::NotLearner | PromoteError::NotReady => StatusCode::PRECONDITION_FAILED,
            PromoteError::Other(error) => {
                tracing::warn!("member-id" = %gotext::Hex(id), error, "failed to promote a member");
                let mut reply = reply::json("{\"message\":\"Internal Server Error\"}".to_owned());
                *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return reply;
            }
        };
        reply::error(status, &error.to_string())
    }

    /// `GET /members/hashkv`: checksum of the history.
    pub(super) async fn hash_kv<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        if let Some(refusal) = unless(&request, &Method::GET) {
            return refusal;
        }
        let theirs = headers::text(request.headers(), &headers::CLUSTER_ID);
        if !theirs.is_empty() && theirs != self.members.shared().config.cluster_text().to_string() {
            return reply::error(StatusCode::PRECONDITION_FAILED, headers::CLUSTER_MISMATCH);
        }
        let body = match read_body(request.into_body()).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let revision = match revision_of(&body) {
            Ok(revision) => revision,
            Err(error) => {
                tracing::warn!(error, "failed to unmarshal request");
                return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request");
            }
        };
        match self.api.hash_kv(revision).await {
            Ok(hash) => self.identified(reply::json(hash_kv_json(&hash))),
            Err(error) => {
                tracing::warn!("requested-revision" = revision, %error, "failed to get hashKV");
                reply::error(StatusCode::BAD_REQUEST, &error.to_string())
            }
        }
    }

    /// `POST /leases`: renews a lease.
    pub(super) async fn renew_lease<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let request: LeaseKeepAliveRequest = match read_message(request).await {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        let id = request.id;
        match self.api.renew_lease(id).await {
            Ok(ttl) => reply::protobuf(&LeaseKeepAliveResponse {
                id,
                ttl,
                ..Default::default()
            }),
            Err(error) => lease_error(&error, StatusCode::BAD_REQUEST),
        }
    }

    /// `POST /leases/internal`: what is left of a lease.
    pub(super) async fn lease_time_to_live<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let request: LeaseInternalRequest = match read_message(request).await {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        let Some(request) = request.lease_time_to_live_request else {
            return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        match self.api.lease_time_to_live(request).await {
            Ok(mut answer) => {
                answer.header = Some(ResponseHeader::default());
                reply::protobuf(&LeaseInternalResponse {
                    lease_time_to_live_response: Some(answer),
                })
            }
            Err(error) => lease_error(&error, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// `GET /downgrade/enabled`.
    pub(super) async fn downgrade_enabled<B: Send>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = unless(request, &Method::GET) {
            return refusal;
        }
        self.identified(match self.api.downgrade_enabled().await {
            Ok(enabled) => reply::with_type(
                Body::text(enabled.to_string()),
                HeaderValue::from_static("text/plain"),
            ),
            Err(error) => reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("failed linearized read: {error}"),
            ),
        })
    }
}

/// Reads a short body.
async fn read_body<B>(mut body: B) -> Result<Bytes, Reply>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut bytes = BytesMut::new();
    loop {
        match next_data(&mut body).await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(data)) if bytes.len() + data.len() <= MAX_BODY => {
                bytes.extend_from_slice(&data);
            }
            Ok(Some(_)) => {
                return Err(reply::error(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "request body too large",
                ));
            }
            Err(_) => return Err(reply::error(StatusCode::BAD_REQUEST, "error reading body")),
        }
    }
}

/// Reads a message that was posted.
async fn read_message<B, M>(request: Request<B>) -> Result<M, Reply>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
    M: prost::Message + Default,
{
    if request.method() != Method::POST {
        return Err(reply::not_allowed(None));
    }
    let body = read_body(request.into_body()).await?;
    M::decode(body)
        .map_err(|_| reply::error(StatusCode::BAD_REQUEST, "error unmarshalling request"))
}

fn lease_error(error: &LeaseError, other: StatusCode) -> Reply {
    let status = match error {
        LeaseError::CatchUpTimeout => StatusCode::REQUEST_TIMEOUT,
        LeaseError::NotFound => StatusCode::NOT_FOUND,
        LeaseError::NotPrimary | LeaseError::Other(_) => other,
    };
    reply::error(status, &error.to_string())
}

fn members_json(members: &[Member]) -> Reply {
    reply::json(Member::list_to_json(members) + "\n")
}

fn versions_json(versions: &Versions) -> String {
    let mut json = String::from("{\"etcdserver\":");
    push_json_string(&mut json, &versions.server, Escape::Html);
    json.push_str(",\"etcdcluster\":");
    let cluster = versions.cluster.as_deref().unwrap_or("not_decided");
    push_json_string(&mut json, cluster, Escape::Html);
    json.push_str(",\"storage\":");
    push_json_string(
        &mut json,
        versions.storage.as_deref().unwrap_or("unknown"),
        Escape::Html,
    );
    json.push('}');
    json
}

/// Fields that are zero are left out.
fn hash_kv_json(hash: &HashKv) -> String {
    let mut json = String::from("{\"header\":{");
    let number = |json: &mut String, name: &str, value: i64| {
        if value != 0 {
            if !json.ends_with('{') {
                json.push(',');
            }
            // Writing to a string does not fail.
            let _ = write!(json, "\"{name}\":{value}");
        }
    };
    number(&mut json, "revision", hash.revision);
    json.push('}');
    number(&mut json, "hash", hash.hash.into());
    number(&mut json, "compact_revision", hash.compact_revision);
    number(&mut json, "hash_revision", hash.hash_revision);
    json.push('}');
    json
}

/// The revision in a request's JSON; absent means 0.
fn revision_of(body: &[u8]) -> Result<i64, String> {
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("not a JSON object")?;
    match object.get("revision") {
        None | Some(serde_json::Value::Null) => Ok(0),
        Some(revision) => revision.as_i64().ok_or_else(|| "not a revision".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_without_zeros() {
        let hash = HashKv {
            revision: 2,
            hash: 3_305_255_506,
            compact_revision: -1,
            hash_revision: 2,
        };
        assert_eq!(
            hash_kv_json(&hash),
            "{\"header\":{\"revision\":2},\"hash\":3305255506,\"compact_revision\":-1,\"hash_revision\":2}"
        );
        assert_eq!(hash_kv_json(&HashKv::default()), "{\"header\":{}}");
    }

    #[test]
    fn revisions_are_read_from_json() {
        assert_eq!(revision_of(b"{\"revision\":5}"), Ok(5));
        assert_eq!(revision_of(b"{}"), Ok(0));
        for bad in [
            &b""[..],
            b"[]",
            b"{\"revision\":\"5\"}",
            b"{\"revision\":1.5}",
        ] {
            assert!(revision_of(bad).is_err());
        }
    }

    #[test]
    fn unknown_versions_have_their_words() {
        let versions = Versions {
            server: "3.7.3".into(),
            cluster: None,
            storage: Some("3.5.0".into()),
        };
        assert_eq!(
            versions_json(&versions),
            "{\"etcdserver\":\"3.7.3\",\"etcdcluster\":\"not_decided\",\"storage\":\"3.5.0\"}"
        );
    }
}

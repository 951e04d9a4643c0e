//! What the server asks other members.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use bytes::Bytes;
use cluster::{Member, Version};
use gotext::Hex;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use prost::Message as _;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{ClientError, ForwardError, Http, OutBody, full};
use crate::io::Dialer;
use crate::runtime::{PeerRuntime, run_on};
use crate::{HashKv, HashKvError, LeaseError, PeerUrl, PromoteError, Versions, headers};

/// Longest answer that is read where etcd has no bound.
const MAX_ANSWER: usize = 16 << 20;
/// etcd's bound for answers about leases, which may name all keys.
const MAX_LEASE_ANSWER: usize = 100 << 20;
/// How much of an unexpected answer is shown.
const MAX_SHOWN: usize = 512;

/// The cluster as one of its members knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    /// Its id.
    pub id: u64,
    /// Its members.
    pub members: Vec<Member>,
}

/// Asks other members. Works before there is a [`crate::Transport`]; may be used on any runtime. Redirects are not
/// followed.
#[derive(Clone)]
pub struct PeerClient {
    http: Arc<Http>,
    runtime: Handle,
}

impl PeerClient {
    /// A client that works on the threads of `runtime`.
    pub fn new(runtime: &PeerRuntime, dialer: Arc<dyn Dialer>, dial_timeout: Duration) -> Self {
        Self {
            http: Arc::new(Http::new(dialer, dial_timeout)),
            runtime: runtime.handle().clone(),
        }
    }

    async fn fetch(
        &self,
        url: &str,
        path: &str,
        request: Request<OutBody>,
        timeout: Duration,
        max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let url = PeerUrl::parse(url).map_err(ClientError::Url)?;
        let (http, path) = (Arc::clone(&self.http), path.to_owned());
        let fetch = async move { http.fetch(&url, &path, request, timeout, max).await };
        run_on(&self.runtime, fetch)
            .await
            .unwrap_or_else(|| Err(ClientError::Io("context canceled".to_owned())))
    }

    async fn get(
        &self,
        url: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<Response<Bytes>, ClientError> {
        let answer = self
            .fetch(
                url,
                path,
                Request::new(full(Bytes::new())),
                timeout,
                MAX_ANSWER,
            )
            .await?;
        if answer.status() == StatusCode::OK {
            Ok(answer)
        } else {
            Err(unexpected(&answer))
        }
    }

    async fn post(
        &self,
        url: &str,
        path: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(full(body.into()));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/protobuf");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.fetch(url, path, request, timeout, MAX_LEASE_ANSWER)
            .await
    }

    /// The cluster as the first member knows it that answers with at least one member. `urls` are tried in the order
    /// of their texts, `timeout` is for each of them; what fails is logged if `log` is set.
    pub async fn get_members(
        &self,
        urls: &[String],
        timeout: Duration,
        log: bool,
    ) -> Result<RemoteCluster, ClientError> {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        for url in &urls {
            match self.members_of(url, timeout).await {
                Ok(cluster) if !cluster.members.is_empty() => return Ok(cluster),
                Ok(_) => {}
                Err((what, error)) => {
                    if log {
                        tracing::warn!(address = format!("{url}/members"), %error, "{what}");
                    }
                }
            }
        }
        Err(ClientError::NoAnswer)
    }

    async fn members_of(
        &self,
        url: &str,
        timeout: Duration,
    ) -> Result<RemoteCluster, (&'static str, ClientError)> {
        let answer = self
            .get(url, "/members", timeout)
            .await
            .map_err(|error| ("failed to get cluster response", error))?;
        let members = Member::list_from_json(answer.body()).map_err(|error| {
            (
                "failed to unmarshal cluster response",
                ClientError::Answer(error),
            )
        })?;
        let id = headers::text(answer.headers(), &headers::CLUSTER_ID);
        let Some(id) = Hex::parse(id) else {
            let error = ClientError::Answer(format!("no cluster ID: \"{id}\""));
            return Err(("failed to parse cluster ID", error));
        };
        Ok(RemoteCluster { id, members })
    }

    /// The versions of a member: the answer of the first of its URLs that gives one.
    pub async fn get_versions(
        &self,
        urls: &[String],
        timeout: Duration,
    ) -> Result<Versions, ClientError> {
        self.first(urls, |url| async move {
            let answer = self.get(&url, "/version", timeout).await?;
            parse_versions(answer.body()).map_err(ClientError::Answer)
        })
        .await
    }

    /// Whether a member knows of a running downgrade.
    pub async fn downgrade_enabled(
        &self,
        urls: &[String],
        timeout: Duration,
    ) -> Result<bool, ClientError> {
        self.first(urls, |url| async move {
            let answer = self.get(&url, "/downgrade/enabled", timeout).await?;
            match answer.body().as_ref() {
                b"true" => Ok(true),
                b"false" => Ok(false),
                _ => Err(unexpected(&answer)),
            }
        })
        .await
    }

    /// Tries URLs in turn; the last error if all fail.
    async fn first<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        urls: &[String],
        ask: impl Fn(String) -> F,
    ) -> Result<T, ClientError> {
        let mut result = Err(ClientError::NoAnswer);
        for url in urls {
            result = ask(url.clone()).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Asks the leader at `url` to promote a learner; returns the members after that.
    pub async fn promote(
        &self,
        url: &str,
        id: u64,
        token: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<Member>, ForwardError<PromoteError>> {
        let mut request = Request::new(full(Bytes::new()));
        *request.method_mut() = Method::POST;
        if let Some(token) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let path = format!("/members/promote/{id}");
        let answer = self.fetch(url, &path, request, timeout, MAX_ANSWER).await?;
        let body = String::from_utf8_lossy(answer.body());
        let error = match answer.status() {
            StatusCode::OK => {
                let members = Member::list_from_json(answer.body()).map_err(ClientError::Answer)?;
                return Ok(members);
            }
            StatusCode::NOT_FOUND => PromoteError::NotFound,
            StatusCode::PRECONDITION_FAILED
                if body.contains(&PromoteError::NotReady.to_string()) =>
            {
                PromoteError::NotReady
            }
            StatusCode::PRECONDITION_FAILED
                if body.contains(&PromoteError::NotLearner.to_string()) =>
            {
                PromoteError::NotLearner
            }
            _ => {
                let text = format!("member promote: unknown error({})", body.trim_end());
                return Err(ClientError::Answer(text).into());
            }
        };
        Err(error.into())
    }

    /// Asks the leader at `url` to renew a lease; returns its TTL in seconds.
    pub async fn renew_lease(
        &self,
        url: &str,
        id: i64,
        timeout: Duration,
    ) -> Result<i64, ForwardError<LeaseError>> {
        let body = LeaseKeepAliveRequest { id }.encode_to_vec();
        let answer = self.post(url, "/leases", body, timeout).await?;
        lease_status(&answer)?;
        let answer = LeaseKeepAliveResponse::decode(answer.into_body()).map_err(malformed)?;
        if answer.id != id {
            return Err(ClientError::Answer("lease: renew id mismatch".to_owned()).into());
        }
        Ok(answer.ttl)
    }

    /// Asks the leader at `url` what is left of a lease. The header of the result is empty.
    pub async fn lease_time_to_live(
        &self,
        url: &str,
        request: LeaseTimeToLiveRequest,
        timeout: Duration,
    ) -> Result<LeaseTimeToLiveResponse, ForwardError<LeaseError>> {
        let id = request.id;
        let body = LeaseInternalRequest {
            lease_time_to_live_request: Some(request),
        };
        let answer = self
            .post(url, "/leases/internal", body.encode_to_vec(), timeout)
            .await?;
        lease_status(&answer)?;
        let answer = LeaseInternalResponse::decode(answer.into_body()).map_err(malformed)?;
        match answer.lease_time_to_live_response {
            Some(answer) if answer.id == id => Ok(answer),
            _ => Err(ClientError::Answer("lease: TTL id mismatch".to_owned()).into()),
        }
    }

    /// The checksum a member of cluster `cluster` has at `revision`.
    pub async fn hash_kv(
        &self,
        url: &str,
        cluster: u64,
        revision: i64,
        timeout: Duration,
    ) -> Result<HashKv, ForwardError<HashKvError>> {
        let body = if revision == 0 {
            "{}".to_owned()
        } else {
            format!("{{\"revision\":{revision}}}")
        };
        let mut request = Request::new(full(body.into()));
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        request
            .headers_mut()
            .insert(headers::CLUSTER_ID, headers::value(&Hex(cluster)));
        let answer = self
            .fetch(url, "/members/hashkv", request, timeout, MAX_ANSWER)
            .await?;
        if answer.status() == StatusCode::OK {
            return Ok(parse_hash_kv(answer.body()).map_err(ClientError::Answer)?);
        }
        let body = String::from_utf8_lossy(answer.body());
        let error = [HashKvError::Compacted, HashKvError::FutureRevision]
            .into_iter()
            .find(|error| body.contains(&error.to_string()));
        Err(match error {
            Some(error) => ForwardError::Answer(error),
            None => unexpected(&answer).into(),
        })
    }
}

fn unexpected(answer: &Response<Bytes>) -> ClientError {
    let body = answer.body();
    let shown = &body[..body.len().min(MAX_SHOWN)];
    ClientError::Status {
        status: answer.status(),
        body: String::from_utf8_lossy(shown).into_owned(),
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn malformed(error: prost::DecodeError) -> ClientError {
    ClientError::Answer(error.to_string())
}

fn lease_status(answer: &Response<Bytes>) -> Result<(), ForwardError<LeaseError>> {
    let body = String::from_utf8_lossy(answer.body());
    let says = |error: &LeaseError| body.trim_end() == error.to_string();
    Err(match answer.status() {
        StatusCode::OK => return Ok(()),
        StatusCode::REQUEST_TIMEOUT if says(&LeaseError::CatchUpTimeout) => {
            LeaseError::CatchUpTimeout.into()
        }
        StatusCode::NOT_FOUND if says(&LeaseError::NotFound) => LeaseError::NotFound.into(),
        _ if says(&LeaseError::NotPrimary) => LeaseError::NotPrimary.into(),
        _ => unexpected(answer).into(),
    })
}

/// Reads the answer of `/version`. Old members have no storage version.
fn parse_versions(body: &[u8]) -> Result<Versions, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let known = |key: &str| text(key).filter(|text| Version::from_str(text).is_ok());
    Ok(Versions {
        server: text("etcdserver").ok_or("no etcdserver in the answer")?,
        cluster: known("etcdcluster"),
        storage: known("storage"),
    })
}

fn parse_hash_kv(body: &[u8]) -> Result<HashKv, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let number = |value: Option<&Value>| match value {
        None => Ok(0),
        Some(value) => value.as_i64().ok_or("not a number in the answer"),
    };
    let header = value.get("header").ok_or("no header in the answer")?;
    Ok(HashKv {
        revision: number(header.get("revision"))?,
        hash: u32::try_from(number(value.get("hash"))?).map_err(|error| error.to_string())?,
        compact_revision: number(value.get("compact_revision"))?,
        hash_revision: number(value.get("hash_revision"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_releases_are_read() {
        let read = |text: &str| parse_versions(text.as_bytes());
        let new = read(r#"{"etcdserver":"3.7.3","etcdcluster":"not_decided","storage":"unknown"}"#);
        let want = Versions {
            server: "3.7.3".into(),
            cluster: None,
            storage: None,
        };
        assert_eq!(new, Ok(want));
        let old = read(r#"{"etcdserver":"3.5.35","etcdcluster":"3.5.0"}"#).unwrap();
        assert_eq!(old.cluster.as_deref(), Some("3.5.0"));
        assert!(read("{}").is_err());
        assert!(read("[").is_err());
    }

    #[test]
    fn hashes_are_read() {
        let body = br#"{"header":{"revision":2},"hash":3305255506,"compact_revision":-1}"#;
        let want = HashKv {
            revision: 2,
            hash: 3_305_255_506,
            compact_revision: -1,
            hash_revision: 0,
        };
        assert_eq!(parse_hash_kv(body), Ok(want));
        assert!(parse_hash_kv(br#"{"header":{},"hash":-1}"#).is_err());
        assert!(parse_hash_kv(br#"{"hash":1}"#).is_err());
    }
}

//! Messages sent one by one, for members without a stream.

use std::sync::Arc;
use std::time::Duration;

use api::raftpb::Message;
use bytes::Bytes;
use gotext::Hex;
use http::{HeaderValue, Method, Request, StatusCode, header};
use prost::Message as _;

use crate::client::{self, SendError};
use crate::headers;
use crate::link::Link;

/// How long the answer to a message may take. A follower keeps a proposal while it looks for a leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Posts what waits until nothing does.
pub(crate) async fn work(link: Arc<Link>) {
    while let Some(message) = link.next_post() {
        let sent = tokio::select! {
            sent = post(&link, &message) => sent,
            () = link.stop.cancelled() => continue,
        };
        match sent {
            Ok(bytes) => {
                link.activity.activate();
                link.shared.observer.sent(link.id, bytes);
            }
            Err(error) => {
                link.activity
                    .deactivate("write", "pipeline", &error.to_string());
                link.lost(&message);
                if matches!(error, SendError::Removed) {
                    link.shared.removed();
                }
            }
        }
    }
}

async fn post(link: &Link, message: &Message) -> Result<usize, SendError> {
    let url = link.picker.pick().ok_or(SendError::NoUrl)?;
    let body = Bytes::from(message.encode_to_vec());
    let length = body.len();
    let mut request = Request::new(client::full(body));
    *request.method_mut() = Method::POST;
    request.headers_mut().clone_from(&link.shared.headers);
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/protobuf"),
    );
    let fetched = link
        .shared
        .http
        .fetch(&url, "/raft", request, ANSWER_TIMEOUT, MAX_ANSWER)
        .await;
    let answer = match fetched {
        Ok(answer) => answer,
        Err(error) => {
            link.picker.unreachable(&url);
            return Err(SendError::Io(error));
        }
    };
    check_answer(link, answer.status(), answer.body())
        .map(|()| length)
        .inspect_err(|_| link.picker.unreachable(&url))
}

/// What the status of an answer to a message or snapshot says.
pub(crate) fn check_answer(link: &Link, status: StatusCode, body: &[u8]) -> Result<(), SendError> {
    let body = String::from_utf8_lossy(body);
    let text = body.strip_suffix('\n').unwrap_or(&body);
    match status {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::FORBIDDEN => Err(SendError::Removed),
        StatusCode::PRECONDITION_FAILED if text == headers::INCOMPATIBLE_VERSION => {
            log_incompatible(link);
            Err(SendError::Incompatible)
        }
        StatusCode::PRECONDITION_FAILED if text == headers::CLUSTER_MISMATCH => {
            log_cluster_mismatch(link, "");
            Err(SendError::ClusterMismatch)
        }
        StatusCode::PRECONDITION_FAILED => Err(SendError::Precondition(text.to_owned())),
        other => Err(SendError::Status(other)),
    }
}

pub(crate) fn log_incompatible(link: &Link) {
    tracing::warn!(
        "local-member-id" = %link.shared.config.id_text(),
        "remote-peer-id" = %Hex(link.id),
        error = %SendError::Incompatible,
        "request sent was ignored by remote peer due to server version incompatibility"
    );
}

pub(crate) fn log_cluster_mismatch(link: &Link, remote_cluster: &str) {
    tracing::warn!(
        "remote-peer-id" = %Hex(link.id),
        "remote-peer-cluster-id" = remote_cluster,
        "local-member-id" = %link.shared.config.id_text(),
        "local-member-cluster-id" = %link.shared.config.cluster_text(),
        error = %SendError::ClusterMismatch,
        "request sent was ignored by remote peer due to cluster ID mismatch"
    );
}

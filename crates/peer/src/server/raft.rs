//! Raft's own paths: messages one by one, and streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gotext::{Hex, quote};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;

use super::{PeerServer, Reply, reply, unless};
use crate::body::Body;
use crate::codec::{MAX_MESSAGE, decode_message};
use crate::headers;
use crate::kind::StreamKind;
use crate::writer::StreamWriter;

/// How long the next bytes of a request may take, as on etcd's listener.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The next bytes of a request's body; `None` at its end.
pub(super) async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, String>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        return match tokio::time::timeout(READ_TIMEOUT, body.frame()).await {
            Err(_) => Err("i/o timeout".to_owned()),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(error.to_string()),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                Err(_) => continue,
            },
        };
    }
}

impl PeerServer {
    /// Puts the cluster's id on an answer.
    pub(super) fn identified(&self, mut reply: Reply) -> Reply {
        let id = self.members.shared().config.cluster_text();
        reply
            .headers_mut()
            .insert(headers::CLUSTER_ID, headers::value(&id));
        reply
    }

    /// What raft's paths demand of a request before anything else; the refusal if it is not so.
    pub(super) fn refusal<B>(&self, request: &Request<B>, method: &Method) -> Option<Reply> {
        unless(request, method).or_else(|| {
            let text = headers::check(&self.members.shared().config, request.headers()).err()?;
            Some(self.identified(reply::error(StatusCode::PRECONDITION_FAILED, text)))
        })
    }

    /// Remembers where an unknown sender can be reached.
    pub(super) fn note_sender(&self, sender: Option<u64>, headers: &HeaderMap) {
        let urls = headers::sender_urls(headers);
        if let Some(id) = sender
            && !urls.is_empty()
        {
            self.members.meet(id, &urls);
        }
    }

    /// `POST /raft`: one message.
    pub(super) async fn raft<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        if let Some(refusal) = self.refusal(&request, &Method::POST) {
            return refusal;
        }
        self.note_sender(headers::sender(request.headers()), request.headers());
        let reply = self.raft_message(request.into_body()).await;
        self.identified(reply)
    }

    async fn raft_message<B>(&self, mut body: B) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let shared = self.members.shared();
        let local = shared.config.id_text();
        let mut bytes = BytesMut::new();
        loop {
            let error = match next_data(&mut body).await {
                Ok(None) => break,
                Ok(Some(data)) if (bytes.len() + data.len()) as u64 <= MAX_MESSAGE => {
                    bytes.extend_from_slice(&data);
                    continue;
                }
                Ok(Some(_)) => "request body too large".to_owned(),
                Err(error) => error,
            };
            tracing::warn!("local-member-id" = %local, error, "failed to read Raft message");
            shared.observer.receive_failed(0);
            return reply::error(StatusCode::BAD_REQUEST, "error reading raft message");
        }
        let message = match decode_message(&bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!("local-member-id" = %local, %error, "failed to unmarshal Raft message");
                shared.observer.receive_failed(0);
                return reply::error(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
            }
        };
        shared.observer.received(message.from, bytes.len());
        if let Err(error) = shared.process(message) {
            tracing::warn!("local-member-id" = %local, %error, "failed to process Raft message");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return reply::error_and_abort(status, "error processing raft message");
        }
        reply::no_content()
    }

    /// `GET /raft/stream/<kind>/<id>`: our messages for the member that asks.
    pub(super) fn stream<B>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = unless(request, &Method::GET) {
            return refusal;
        }
        let config = &self.members.shared().config;
        let reply = match headers::check(config, request.headers()) {
            Err(text) => reply::error(StatusCode::PRECONDITION_FAILED, text),
            Ok(()) => self.open_stream(request),
        };
        let mut reply = self.identified(reply);
        reply
            .headers_mut()
            .insert(headers::SERVER_VERSION, headers::value(&config.version));
        reply
    }

    fn open_stream<B>(&self, request: &Request<B>) -> Reply {
        let shared = self.members.shared();
        let local = shared.config.id_text();
        let path = request.uri().path().trim_end_matches('/');
        let path = path.strip_prefix("/raft/stream/").unwrap_or_default();
        // The last part is the id; all before it is the kind.
        let (kind, id) = path.rsplit_once('/').unwrap_or((path, path));
        let Some(kind) = StreamKind::from_name(kind) else {
            tracing::debug!("local-member-id" = %local, path = request.uri().path(), "ignored unexpected streaming request path");
            return reply::error(StatusCode::NOT_FOUND, "invalid path");
        };
        let Some(from) = Hex::parse(id) else {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-peer-id-stream-handler" = %local,
                path = id,
                error = %format_args!("strconv.ParseUint: parsing {}: invalid syntax", quote(id)),
                "failed to parse path into ID"
            );
            return reply::error(StatusCode::NOT_FOUND, "invalid from");
        };
        if shared.is_removed(from) {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-peer-id-stream-handler" = %local,
                "remote-peer-id-from" = %Hex(from),
                "rejected stream from remote peer because it was removed"
            );
            return reply::error(StatusCode::GONE, "removed member");
        }
        let Some(peer) = self.members.peer(from) else {
            self.note_sender(Some(from), request.headers());
            tracing::warn!(
                "local-member-id" = %local,
                "remote-peer-id-stream-handler" = %local,
                "remote-peer-id-from" = %Hex(from),
                "cluster-id" = %shared.config.cluster_text(),
                "failed to find remote peer in cluster"
            );
            return reply::error(StatusCode::NOT_FOUND, "error sender not found");
        };
        let to = headers::text(request.headers(), &headers::RAFT_TO);
        if to != local.to_string() {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-peer-id-stream-handler" = %local,
                "remote-peer-id-header" = to,
                "remote-peer-id-from" = %Hex(from),
                "cluster-id" = %shared.config.cluster_text(),
                "ignored streaming request; ID mismatch"
            );
            return reply::error(StatusCode::PRECONDITION_FAILED, "to field mismatch");
        }
        Reply::new(Body::stream(StreamWriter::attach(peer, kind)))
    }
}

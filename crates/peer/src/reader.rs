//! Another member's messages, on a connection we opened.

use std::sync::Arc;

use bytes::Bytes;
use cluster::Version;
use gotext::Hex;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use crate::client::{self, SendError, error_text};
use crate::codec::{CodecError, Decoded, Frame, MessageDecoder, MsgAppDecoder};
use crate::kind::StreamKind;
use crate::peer::Peer;
use crate::shared::{Rejected, type_name};
use crate::{PeerUrl, headers, pipeline};

/// Longest refusal that is read.
const MAX_REFUSAL: usize = 64 << 10;
/// The first release with both streams.
const FIRST_WITH_STREAMS: Version = Version::new(2, 1, 0);

enum Decoder {
    MsgApp(MsgAppDecoder),
    Message(MessageDecoder),
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::MsgApp(decoder) => decoder.push(bytes),
            Self::Message(decoder) => decoder.push(bytes),
        }
    }

    fn decode(&mut self) -> Decoded {
        match self {
            Self::MsgApp(decoder) => decoder.decode(),
            Self::Message(decoder) => decoder.decode(),
        }
    }

    fn is_between_frames(&self) -> bool {
        match self {
            Self::MsgApp(decoder) => decoder.is_between_frames(),
            Self::Message(decoder) => decoder.is_between_frames(),
        }
    }
}

/// How a stream ended.
#[derive(Debug)]
enum End {
    /// The member closed it in good order.
    Eof,
    Broken(String),
    Codec(CodecError),
}

/// Keeps a stream from the member open until the member is given up.
pub(crate) async fn run(peer: Arc<Peer>, kind: StreamKind) {
    let link = &peer.link;
    let (local, remote) = (link.shared.config.id_text(), Hex(link.id));
    tracing::info!(
        "stream-reader-type" = %kind,
        "local-member-id" = %local,
        "remote-peer-id" = %remote,
        "started stream reader with remote peer"
    );
    let redial = link.shared.config.redial;
    loop {
        let next = Instant::now() + redial;
        tokio::select! {
            () = attempt(&peer, kind) => {}
            () = link.stop.cancelled() => break,
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = link.stop.cancelled() => break,
        }
    }
    tracing::info!(
        "stream-reader-type" = %kind,
        "local-member-id" = %local,
        "remote-peer-id" = %remote,
        "stopped stream reader with remote peer"
    );
}

/// Opens the stream and reads it to its end.
async fn attempt(peer: &Peer, kind: StreamKind) {
    if peer.is_paused() {
        return;
    }
    let link = &peer.link;
    let result = match link.picker.pick() {
        None => Err(SendError::NoUrl),
        Some(url) => {
            let result = stream(peer, kind, &url).await;
            if result.is_err() {
                link.picker.unreachable(&url);
            }
            result
        }
    };
    let Err(error) = result else { return };
    link.activity
        .deactivate("dial", &kind.to_string(), &error.to_string());
    if error == SendError::Removed {
        link.shared.removed();
    }
}

/// One connection. An error if the stream could not be opened.
async fn stream(peer: &Peer, kind: StreamKind, url: &PeerUrl) -> Result<(), SendError> {
    let shared = &peer.link.shared;
    let limit = Some(shared.config.io_timeout);
    let http = &shared.http;
    let opened = client::open(http.dialer.as_ref(), url, http.dial_timeout, limit, limit).await;
    let (mut sender, driver) = opened.map_err(SendError::Io)?;
    let mut request = Request::new(client::full(Bytes::new()));
    request.headers_mut().clone_from(&shared.headers);
    request
        .headers_mut()
        .insert(headers::RAFT_TO, headers::value(&Hex(peer.link.id)));
    let path = format!("/raft/stream/{}/{}", kind.name(), shared.config.id_text());
    client::address(&mut request, url, &path).map_err(SendError::Io)?;

    // The connection works as long as this task drives it.
    let mut driver = std::pin::pin!(driver);
    let mut driven = false;
    let work = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| SendError::Io(client::ClientError::Io(error_text(&error))))?;
        let body = accept(peer, response).await?;
        read(peer, kind, body).await;
        Ok(())
    };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            // Its errors reach the request or the body as well.
            _ = &mut driver, if !driven => driven = true,
        }
    }
}

/// Looks at the answer to a stream request; its body if the stream begins.
async fn accept(peer: &Peer, response: Response<Incoming>) -> Result<Incoming, SendError> {
    let link = &peer.link;
    let (head, body) = response.into_parts();
    let version = headers::version(&head.headers, &headers::SERVER_VERSION).cluster();
    if version < link.shared.config.version.cluster() && version < FIRST_WITH_STREAMS {
        return Err(SendError::UnsupportedStream);
    }
    match head.status {
        StatusCode::OK => return Ok(body),
        StatusCode::GONE => return Err(SendError::Removed),
        StatusCode::NOT_FOUND => {
            return Err(SendError::UnknownHere(format!(
                "peer {} failed to find local node {}",
                Hex(link.id),
                link.shared.config.id_text()
            )));
        }
        StatusCode::PRECONDITION_FAILED => {}
        other => return Err(SendError::StreamStatus(other)),
    }
    let body = client::collect(body, MAX_REFUSAL)
        .await
        .map_err(SendError::Io)?;
    let body = String::from_utf8_lossy(&body);
    match body.strip_suffix('\n').unwrap_or(&body) {
        headers::INCOMPATIBLE_VERSION => {
            pipeline::log_incompatible(link);
            Err(SendError::Incompatible)
        }
        headers::CLUSTER_MISMATCH => {
            let theirs = headers::text(&head.headers, &headers::CLUSTER_ID);
            pipeline::log_cluster_mismatch(link, theirs);
            Err(SendError::ClusterMismatch)
        }
        other => Err(SendError::Precondition(other.to_owned())),
    }
}

/// Reads a stream until it ends.
async fn read(peer: &Peer, kind: StreamKind, body: Incoming) {
    let link = &peer.link;
    let (local, remote) = (link.shared.config.id_text(), Hex(link.id));
    link.activity.activate();
    tracing::info!(
        "stream-reader-type" = %kind,
        "local-member-id" = %local,
        "remote-peer-id" = %remote,
        "established TCP streaming connection with remote peer"
    );
    let end = read_frames(peer, kind, body).await;
    let error = match &end {
        End::Eof => "EOF".to_owned(),
        End::Broken(error) => error.clone(),
        End::Codec(error) => error.to_string(),
    };
    tracing::warn!(
        "stream-reader-type" = %kind,
        "local-member-id" = %local,
        "remote-peer-id" = %remote,
        error,
        "lost TCP streaming connection with remote peer"
    );
    if !matches!(end, End::Eof) {
        link.activity.deactivate("read", &kind.to_string(), &error);
        link.shared.observer.receive_failed(link.id);
    }
}

async fn read_frames(peer: &Peer, kind: StreamKind, mut body: Incoming) -> End {
    let config = &peer.link.shared.config;
    let mut decoder = match kind {
        StreamKind::MsgApp => Decoder::MsgApp(MsgAppDecoder::new(peer.link.id, config.id)),
        StreamKind::Message => Decoder::Message(MessageDecoder::default()),
    };
    loop {
        let data = match body.frame().await {
            None if decoder.is_between_frames() => return End::Eof,
            None => return End::Broken("unexpected EOF".to_owned()),
            Some(Err(error)) => return End::Broken(error_text(&error)),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        decoder.push(&data);
        loop {
            match decoder.decode() {
                Ok(None) => break,
                Ok(Some(frame)) => take(peer, frame),
                Err(error) => return End::Codec(error),
            }
        }
    }
}

/// Hands one frame to the member.
fn take(peer: &Peer, frame: Frame) {
    let link = &peer.link;
    let observer = &link.shared.observer;
    let Some(message) = frame.message else {
        observer.received(0, frame.bytes);
        return;
    };
    observer.received(message.from, frame.bytes);
    if peer.is_paused() {
        return;
    }
    let (kind, from) = (type_name(&message), message.from);
    match link.shared.process(message) {
        Ok(()) => {}
        Err(Rejected::Raft(consensus::StepError::Full)) => {
            if link.activity.may_log_drop() {
                tracing::warn!(
                    "message-type" = kind,
                    "local-member-id" = %link.shared.config.id_text(),
                    from = %Hex(from),
                    "remote-peer-active" = link.activity.since().is_some(),
                    "dropped internal Raft message since receiving buffer is full (overloaded network)"
                );
            }
            observer.receive_failed(from);
        }
        Err(error) => tracing::warn!(%error, "failed to process Raft message"),
    }
}

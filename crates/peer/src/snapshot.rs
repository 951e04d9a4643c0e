//! A snapshot on its way to a member that is too far behind for the log.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::raftpb::Message;
use bytes::{Bytes, BytesMut};
use gotext::Hex;
use http::{HeaderValue, Method, Request, header};
use tokio::sync::mpsc;

use crate::client::{self, OutBody, SendError, error_text};
use crate::codec;
use crate::link::Link;
use crate::pipeline::check_answer;
use crate::text;

/// Bytes read from the database at once.
const PIECE: usize = 256 << 10;
/// Pieces between the thread that reads and the connection.
const PIECES: usize = 4;
/// How long a write may be stuck. etcd waits for ever.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the body of the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 64 << 10;

/// The state of the member for one that needs it.
pub struct SnapshotToSend {
    /// A `MsgSnap` with the position of `database` and the members at that point.
    pub message: Message,
    /// The database file, whose consistent index is the snapshot's. Read on a thread where blocking is allowed.
    pub database: Box<dyn Read + Send>,
    /// Its length in bytes; if it turns out otherwise, the transfer fails.
    pub length: u64,
    /// Dropped when the receiver does not need the log behind the snapshot any more: 30 s after it has been sent, or at
    /// once if that failed.
    pub hold: Box<dyn Send>,
}

impl fmt::Debug for SnapshotToSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotToSend")
            .field("message", &self.message)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Sends a snapshot and reports how that ended.
pub(crate) async fn send(link: Arc<Link>, snapshot: SnapshotToSend) {
    let SnapshotToSend {
        message,
        database,
        length,
        hold,
    } = snapshot;
    let index = message
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.metadata.index);
    // What is logged counts the message, too.
    let bytes = length + prost::Message::encoded_len(&message) as u64;
    let (to, size) = (Hex(link.id), text::size(bytes));
    let observer = &link.shared.observer;
    tracing::info!("snapshot-index" = index, "remote-peer-id" = %to, bytes, size, "sending database snapshot");
    observer.snapshot_sending(link.id);
    let start = Instant::now();
    let sent = tokio::select! {
        sent = post(&link, &message, database, length) => sent,
        () = link.stop.cancelled() => Err(SendError::Source("context canceled".to_owned())),
    };
    observer.snapshot_sent(link.id, sent.is_ok(), start.elapsed());
    match sent {
        Ok(sent) => {
            link.activity.activate();
            observer.sent(link.id, sent);
            link.shared.report_snapshot(link.id, true);
            tracing::info!("snapshot-index" = index, "remote-peer-id" = %to, bytes, size, "sent database snapshot");
            tokio::select! {
                () = tokio::time::sleep(link.shared.config.snapshot_hold) => {}
                () = link.stop.cancelled() => {}
            }
        }
        Err(error) => {
            tracing::warn!(
                "snapshot-index" = index, "remote-peer-id" = %to, bytes, size, %error,
                "failed to send database snapshot"
            );
            link.activity
                .deactivate("post", "sendMsgSnap", &error.to_string());
            link.lost(&message);
            if error == SendError::Removed {
                link.shared.removed();
            }
        }
    }
    drop(hold);
}

/// One try; the number of bytes sent.
async fn post(
    link: &Link,
    message: &Message,
    database: Box<dyn Read + Send>,
    length: u64,
) -> Result<usize, SendError> {
    let url = link.picker.pick().ok_or(SendError::NoUrl)?;
    let mut head = BytesMut::new();
    codec::encode_message(message, &mut head);
    let total = head.len() + length as usize;
    let (pieces, body) = mpsc::channel(PIECES);
    let mut request = Request::new(OutBody::pieces(body));
    *request.method_mut() = Method::POST;
    request.headers_mut().clone_from(&link.shared.headers);
    let kind = HeaderValue::from_static("application/octet-stream");
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    client::address(&mut request, &url, "/raft/snapshot").map_err(SendError::Io)?;

    let http = &link.shared.http;
    let opened = client::open(
        http.dialer.as_ref(),
        &url,
        http.dial_timeout,
        None,
        Some(WRITE_TIMEOUT),
    )
    .await;
    let (mut sender, driver) = opened.map_err(|error| {
        link.picker.unreachable(&url);
        SendError::Io(error)
    })?;
    let driving = tokio::spawn(driver);
    let head = head.freeze();
    let reading = tokio::task::spawn_blocking(move || pump(head, database, length, &pieces));
    let result = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| SendError::Io(client::ClientError::Io(error_text(&error))))?;
        let status = response.status();
        let answer = client::collect(response.into_body(), MAX_ANSWER);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .unwrap_or(Ok(Bytes::new()))
            .map_err(SendError::Io)?;
        check_answer(link, status, &answer)
    };
    let result = result.await;
    // Also ends the thread that reads: nobody takes its pieces any more.
    driving.abort();
    // What went wrong here explains what went wrong there.
    if result.is_err()
        && let Ok(Err(error)) = reading.await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(SendError::Source(error.to_string()));
    }
    result
        .map(|()| total)
        .inspect_err(|_| link.picker.unreachable(&url))
}

/// Reads the database into the body of the request. The last piece says that nothing is missing.
fn pump(
    head: Bytes,
    mut database: Box<dyn Read + Send>,
    length: u64,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let send = |piece| {
        pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    send(head)?;
    let mut left = length;
    while left > 0 {
        let mut piece = BytesMut::zeroed(PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
        database.read_exact(&mut piece)?;
        left -= piece.len() as u64;
        send(piece.freeze())?;
    }
    if database.read(&mut [0])? != 0 {
        return Err(io::Error::other("the database is longer than announced"));
    }
    send(Bytes::new())
}

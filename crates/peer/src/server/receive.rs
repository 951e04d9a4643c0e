//! `POST /raft/snapshot`: a message, and the database of a leader.

use std::time::Instant;

use api::raftpb::{Message, MessageType};
use bytes::{Bytes, BytesMut};
use gotext::Hex;
use http::{Method, Request, StatusCode};
use http_body::Body as HttpBody;

use super::raft::next_data;
use super::{PeerServer, Reply, reply};
use crate::codec::{CodecError, MAX_SNAPSHOT_MESSAGE, decode_message};
use crate::shared::type_name;
use crate::{BoxError, SnapshotFile, headers, text};

/// Bytes handed to the disk at once.
const PIECE: usize = 1 << 20;

impl PeerServer {
    pub(super) async fn snapshot<B>(&self, request: Request<B>) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        if let Some(refusal) = self.refusal(&request, &Method::POST) {
            self.members.shared().observer.snapshot_refused();
            return refusal;
        }
        let sender = headers::sender(request.headers());
        self.note_sender(sender, request.headers());
        let reply = self.receive(request.into_body()).await;
        self.identified(reply)
    }

    async fn receive<B>(&self, mut body: B) -> Reply
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let shared = self.members.shared();
        let local = shared.config.id_text();
        let start = Instant::now();
        let (message, rest) = match read_head(&mut body).await {
            Ok(head) => head,
            Err(error) => {
                tracing::warn!("local-member-id" = %local, "remote-snapshot-sender-id" = "0", error, "failed to decode Raft message");
                shared.observer.snapshot_refused();
                let text = format!("failed to decode raft message ({error})");
                return reply::error(StatusCode::BAD_REQUEST, &text);
            }
        };
        let from = Hex(message.from);
        if message.r#type != MessageType::MsgSnap as i32 {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-snapshot-sender-id" = %from,
                "message-type" = type_name(&message),
                "unexpected Raft message type"
            );
            shared.observer.snapshot_refused();
            return reply::error(StatusCode::BAD_REQUEST, "wrong raft message type");
        }
        shared.observer.snapshot_receiving(message.from);
        let sender = message.from;
        let result = self.save_and_step(message, rest, body, start).await;
        shared
            .observer
            .snapshot_received(sender, result.is_ok(), start.elapsed());
        match result {
            Ok(()) => reply::no_content(),
            Err(text) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, &text),
        }
    }

    async fn save_and_step<B>(
        &self,
        message: Message,
        rest: Bytes,
        body: B,
        start: Instant,
    ) -> Result<(), String>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let shared = self.members.shared();
        let (local, from) = (shared.config.id_text(), Hex(message.from));
        let index = message
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.metadata.index);
        let size = prost::Message::encoded_len(&message);
        tracing::info!(
            "local-member-id" = %local,
            "remote-snapshot-sender-id" = %from,
            "incoming-snapshot-index" = index,
            "incoming-snapshot-message-size-bytes" = size,
            "incoming-snapshot-message-size" = text::size(size as u64),
            "receiving database snapshot"
        );
        let saved = self.save(index, rest, body).await.map_err(|error| {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-snapshot-sender-id" = %from,
                "incoming-snapshot-index" = index,
                error = %error,
                "failed to save incoming database snapshot"
            );
            format!("failed to save KV snapshot ({error})")
        })?;
        shared.observer.received(message.from, saved as usize);
        tracing::info!(
            "local-member-id" = %local,
            "remote-snapshot-sender-id" = %from,
            "incoming-snapshot-index" = index,
            "incoming-snapshot-size-bytes" = saved,
            "incoming-snapshot-size" = text::size(saved),
            "download-took" = ?start.elapsed(),
            "received and saved database snapshot"
        );
        shared.process(message).map_err(|error| {
            tracing::warn!(
                "local-member-id" = %local,
                "remote-snapshot-sender-id" = %from,
                error = %error,
                "failed to process Raft message"
            );
            format!("failed to process raft message ({error})")
        })
    }

    /// Writes the database to disk; its length.
    async fn save<B>(&self, index: u64, rest: Bytes, mut body: B) -> Result<u64, BoxError>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let _permit = self
            .receiving
            .try_acquire()
            .map_err(|_| "too many snapshots are being received")?;
        let shared = self.members.shared_arc();
        let mut file = blocking(move || shared.receive_snapshot(index)).await?;
        let mut piece = BytesMut::from(rest.as_ref());
        while let Some(data) = next_data(&mut body).await? {
            piece.extend_from_slice(&data);
            if piece.len() >= PIECE {
                file = write(file, piece.split().freeze()).await?;
            }
        }
        let file = write(file, piece.freeze()).await?;
        blocking(move || file.finish()).await
    }
}

async fn write(
    mut file: Box<dyn SnapshotFile>,
    bytes: Bytes,
) -> Result<Box<dyn SnapshotFile>, BoxError> {
    blocking(move || file.write(&bytes).map(|()| file)).await
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    tokio::task::spawn_blocking(work).await?
}

/// The message in front of the database, and what was received of that already.
async fn read_head<B>(body: &mut B) -> Result<(Message, Bytes), String>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut bytes = BytesMut::new();
    loop {
        if let Some(length) = bytes.first_chunk::<8>() {
            let length = u64::from_be_bytes(*length);
            if length > MAX_SNAPSHOT_MESSAGE {
                return Err(CodecError::TooLong.to_string());
            }
            let end = 8 + length as usize;
            if bytes.len() >= end {
                let head = bytes.split_to(end);
                let message = decode_message(&head[8..]).map_err(|error| error.to_string())?;
                return Ok((message, bytes.freeze()));
            }
        }
        match next_data(body).await? {
            Some(data) => bytes.extend_from_slice(&data),
            None if bytes.is_empty() => return Err("EOF".to_owned()),
            None => return Err("unexpected EOF".to_owned()),
        }
    }
}

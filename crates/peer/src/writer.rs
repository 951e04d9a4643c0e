//! Our messages on a connection another member opened.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::raftpb::Message;
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::codec::{self, MsgAppEncoder};
use crate::kind::StreamKind;
use crate::outbox::{Outbox, Taken};
use crate::peer::Peer;

/// How often a stream shows that it lives: three times before the other side gives it up.
const HEARTBEAT: Duration = Duration::from_nanos(5_000_000_000 / 3);

/// The endless body of an answer to a stream request. It encodes when the connection asks for more, so it needs no
/// task of its own; dropped before it was told to end, it reports the connection as lost.
pub(crate) struct StreamWriter {
    peer: Arc<Peer>,
    kind: StreamKind,
    outbox: Arc<Outbox>,
    encoder: Encoder,
    heartbeat: Interval,
    /// Length of the last chunk, for the memory of the next one.
    last: usize,
    ended: bool,
}

enum Encoder {
    MsgApp(MsgAppEncoder),
    Message,
}

impl Encoder {
    fn message(&mut self, message: &Message, out: &mut BytesMut) {
        match self {
            Self::MsgApp(encoder) => encoder.encode(message, out),
            Self::Message => codec::encode_message(message, out),
        }
    }

    fn heartbeat(&self, out: &mut BytesMut) {
        match self {
            Self::MsgApp(_) => MsgAppEncoder::heartbeat(out),
            Self::Message => codec::encode_message_heartbeat(out),
        }
    }
}

impl StreamWriter {
    /// Attaches a connection to the member. Must be called on a runtime.
    pub fn attach(peer: Arc<Peer>, kind: StreamKind) -> Self {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            outbox: peer.attach(kind),
            peer,
            kind,
            encoder: match kind {
                StreamKind::MsgApp => Encoder::MsgApp(MsgAppEncoder::default()),
                StreamKind::Message => Encoder::Message,
            },
            heartbeat,
            last: 0,
            ended: false,
        }
    }

    /// The next chunk, or the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut out = BytesMut::with_capacity(self.last);
        match self.outbox.poll_take(cx) {
            Poll::Ready(Taken::Closed) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Taken::Batch(messages)) => self.encode(&messages, &mut out),
            Poll::Pending => {
                ready!(self.heartbeat.poll_tick(cx));
                self.encoder.heartbeat(&mut out);
                // Asks for the next tick when it is polled again, which the transport does once this is written.
            }
        }
        self.last = out.len();
        Poll::Ready(Some(Ok(out.freeze())))
    }

    fn encode(&mut self, messages: &[Message], out: &mut BytesMut) {
        let observer = &self.peer.link.shared.observer;
        for message in messages {
            let before = out.len();
            self.encoder.message(message, out);
            observer.sent(self.peer.link.id, out.len() - before);
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.peer
            .lost_outbox(self.kind, &self.outbox, "connection closed");
    }
}

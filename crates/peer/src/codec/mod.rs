//! What travels between members, byte for byte: raft messages and the frames around them.
//!
//! Decoders are fed with whatever arrives and give complete messages back. They hold at most what was received, never
//! what a length field announces.

mod buffer;
mod message;
mod msgapp;
mod raft;

pub use message::MessageDecoder;
pub use msgapp::{MsgAppDecoder, MsgAppEncoder};
pub use raft::decode_message;

use api::raftpb::{Message, MessageType};
use bytes::{BufMut as _, BytesMut};
use prost::Message as _;

/// Longest message on a stream or in a `POST /raft`, in bytes; etcd's own bound for the message stream.
pub const MAX_MESSAGE: u64 = 512 << 20;

/// Longest message in front of a database snapshot, in bytes; the database itself has no bound.
pub const MAX_SNAPSHOT_MESSAGE: u64 = 64 << 20;

/// Most entries of one message. etcd cuts messages at 1 MiB, where less than 200,000 of the shortest entries fit.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Why bytes of a peer are no message. The texts are etcd's where a peer gets to see them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A length beyond the limit of its place.
    #[error("rafthttp: error limit exceeded")]
    TooLong,
    /// Not protobuf, or not of a raft message.
    #[error("proto: cannot parse invalid wire-format data")]
    Malformed,
    /// The first byte of a msgapp frame is none of the three.
    #[error("unknown frame type {0} in msgappv2 stream")]
    FrameType(u64),
}

/// A frame of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// A message of raft; `None` if the frame only keeps the connection alive.
    pub message: Option<Message>,
    /// How many bytes it had.
    pub bytes: usize,
}

/// The next frame; `None` if more bytes are needed.
pub type Decoded = Result<Option<Frame>, CodecError>;

/// Appends a frame of the `message` stream: length and message.
pub fn encode_message(message: &Message, out: &mut BytesMut) {
    let length = message.encoded_len();
    out.reserve(8 + length);
    out.put_u64(length as u64);
    // The buffer grows as needed, which is the only way this can fail.
    let _ = message.encode(out);
}

/// Appends the frame that keeps a `message` stream alive.
pub fn encode_message_heartbeat(out: &mut BytesMut) {
    out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 2, 8, MessageType::MsgHeartbeat as u8]);
}

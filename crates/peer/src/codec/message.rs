//! The `message` stream: each message behind its length.

use api::raftpb::MessageType;

use super::buffer::Buffer;
use super::{Decoded, Frame, MAX_MESSAGE, decode_message};

/// Reads a `message` stream.
#[derive(Debug, Default)]
pub struct MessageDecoder {
    buffer: Buffer,
}

impl MessageDecoder {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// The next message. After an error the stream cannot be read on.
    pub fn decode(&mut self) -> Decoded {
        let Some(bytes) = self.buffer.prefixed(0, MAX_MESSAGE)? else {
            return Ok(None);
        };
        let length = bytes.len();
        let message = decode_message(bytes)?;
        self.buffer.consume(8 + length);
        let heartbeat = message.r#type == MessageType::MsgHeartbeat as i32
            && message.from == 0
            && message.to == 0;
        Ok(Some(Frame {
            message: (!heartbeat).then_some(message),
            bytes: length,
        }))
    }

    /// Whether the stream may end here: no frame is half received.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.len() == 0
    }
}

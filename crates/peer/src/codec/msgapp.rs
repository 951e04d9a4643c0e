//! The `msgapp` stream, version 2: entries without the message around them where the receiver can know it.
//!
//! Both sides remember term and index of the last entry that was sent. A message that continues exactly there, in the
//! same term, is only its entries and the commit index.

use api::raftpb::{Entry, Message, MessageType};
use bytes::{BufMut as _, BytesMut};
use prost::Message as _;

use super::buffer::Buffer;
use super::raft::decode_entry;
use super::{CodecError, Decoded, Frame, MAX_ENTRIES, MAX_MESSAGE, decode_message};

const LINK_HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// Memory of an entry besides its data, in bytes: what a hostile frame of many empty entries costs.
const ENTRY_COST: u64 = 64;

/// Where a stream stands: both sides begin at zero with each connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    term: u64,
    index: u64,
}

impl Place {
    /// Behind a whole message.
    fn after(message: &Message) -> Self {
        let last = message.entries.last();
        Self {
            term: message.term,
            index: last.map_or(message.index, |entry| entry.index),
        }
    }
}

/// Writes a `msgapp` stream.
#[derive(Debug, Default)]
pub struct MsgAppEncoder {
    place: Place,
}

impl MsgAppEncoder {
    /// Appends the frame of a message of type `MsgApp`.
    pub fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        let continues = self.place.index == message.index
            && self.place.term == message.log_term
            && message.log_term == message.term;
        if continues {
            self.encode_entries(message, out);
            return;
        }
        let length = message.encoded_len();
        out.reserve(9 + length);
        out.put_u8(MESSAGE);
        out.put_u64(length as u64);
        // The buffer grows as needed, which is the only way this can fail.
        let _ = message.encode(out);
        self.place = Place::after(message);
    }

    fn encode_entries(&mut self, message: &Message, out: &mut BytesMut) {
        out.put_u8(ENTRIES);
        out.put_u64(message.entries.len() as u64);
        for entry in &message.entries {
            let length = entry.encoded_len();
            out.reserve(8 + length);
            out.put_u64(length as u64);
            let _ = entry.encode(out);
        }
        out.put_u64(message.commit);
        self.place.index += message.entries.len() as u64;
    }

    /// Appends the frame that keeps the stream alive.
    pub fn heartbeat(out: &mut BytesMut) {
        out.put_u8(LINK_HEARTBEAT);
    }
}

/// Entries of a frame that is half received.
#[derive(Debug)]
struct Collecting {
    left: u64,
    entries: Vec<Entry>,
    /// Bytes of the frame so far.
    bytes: usize,
    /// Memory it may still take.
    budget: u64,
}

/// Reads a `msgapp` stream.
#[derive(Debug)]
pub struct MsgAppDecoder {
    buffer: Buffer,
    place: Place,
    from: u64,
    to: u64,
    collecting: Option<Collecting>,
}

impl MsgAppDecoder {
    /// A stream from the member `from` to the member `to`, which short frames do not name.
    pub fn new(from: u64, to: u64) -> Self {
        Self {
            buffer: Buffer::default(),
            place: Place::default(),
            from,
            to,
            collecting: None,
        }
    }

    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// The next frame. After an error the stream cannot be read on.
    pub fn decode(&mut self) -> Decoded {
        if self.collecting.is_some() {
            return self.next_entries();
        }
        match self.buffer.first() {
            None => Ok(None),
            Some(LINK_HEARTBEAT) => {
                self.buffer.consume(1);
                Ok(Some(Frame {
                    message: None,
                    bytes: 1,
                }))
            }
            Some(ENTRIES) => {
                let Some(left) = self.buffer.u64_at(1) else {
                    return Ok(None);
                };
                if left > MAX_ENTRIES as u64 {
                    return Err(CodecError::TooLong);
                }
                self.buffer.consume(9);
                self.collecting = Some(Collecting {
                    left,
                    entries: Vec::new(),
                    bytes: 9,
                    budget: MAX_MESSAGE,
                });
                self.next_entries()
            }
            Some(MESSAGE) => self.next_message(),
            Some(other) => Err(CodecError::FrameType(u64::from(other))),
        }
    }

    fn next_message(&mut self) -> Decoded {
        let Some(bytes) = self.buffer.prefixed(1, MAX_MESSAGE)? else {
            return Ok(None);
        };
        let length = bytes.len();
        let message = decode_message(bytes)?;
        self.buffer.consume(9 + length);
        self.place = Place::after(&message);
        Ok(Some(Frame {
            message: Some(message),
            bytes: 9 + length,
        }))
    }

    fn next_entries(&mut self) -> Decoded {
        let Some(frame) = &mut self.collecting else {
            return Ok(None);
        };
        while frame.left > 0 {
            let Some(bytes) = self.buffer.prefixed(0, frame.budget)? else {
                return Ok(None);
            };
            let length = bytes.len();
            frame.entries.push(decode_entry(bytes)?);
            frame.bytes += 8 + length;
            frame.left -= 1;
            frame.budget = frame
                .budget
                .checked_sub(length as u64 + ENTRY_COST)
                .ok_or(CodecError::TooLong)?;
            self.buffer.consume(8 + length);
        }
        let Some(commit) = self.buffer.u64_at(0) else {
            return Ok(None);
        };
        self.buffer.consume(8);
        let Some(frame) = self.collecting.take() else {
            return Ok(None);
        };
        let message = Message {
            r#type: MessageType::MsgApp as i32,
            to: self.to,
            from: self.from,
            term: self.place.term,
            log_term: self.place.term,
            index: self.place.index,
            entries: frame.entries,
            commit,
            ..Message::default()
        };
        let count = message.entries.len() as u64;
        self.place.index = self.place.index.wrapping_add(count);
        Ok(Some(Frame {
            message: Some(message),
            bytes: frame.bytes + 8,
        }))
    }

    /// Whether the stream may end here: no frame is half received.
    pub fn is_between_frames(&self) -> bool {
        self.buffer.len() == 0 && self.collecting.is_none()
    }
}

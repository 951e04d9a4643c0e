//! Messages on the wire: a flag, a length, the message.

use std::io::Read;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tonic::{Code, Status};

/// Bytes before each message: compression flag and length.
pub const HEADER: usize = 5;

/// How the messages of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// By gzip, each message of its own; a message may still say that it is not.
    Gzip,
}

/// The messages of a request as they arrive.
///
/// Holds at most one message beyond what the transport has delivered; lengths are believed only up to `max`.
#[derive(Debug)]
pub struct Messages {
    body: Incoming,
    /// Received and not yet taken.
    rest: Bytes,
    encoding: Encoding,
    max: usize,
}

impl Messages {
    /// Reads messages of up to `max` bytes.
    pub const fn new(body: Incoming, encoding: Encoding, max: usize) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            encoding,
            max,
        }
    }

    /// The next message and the length it had on the wire, `None` after the last one. Cancel-safe.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<(M, usize)>, Status> {
        let Some((compressed, bytes)) = self.next_bytes().await? else {
            return Ok(None);
        };
        let length = bytes.len();
        let bytes = if compressed {
            self.decompress(&bytes)?
        } else {
            bytes
        };
        match M::decode(bytes) {
            Ok(message) => Ok(Some((message, length))),
            Err(error) => Err(Status::new(
                Code::Internal,
                format!("grpc: error unmarshalling request: {error}"),
            )),
        }
    }

    async fn next_bytes(&mut self) -> Result<Option<(bool, Bytes)>, Status> {
        loop {
            if let Some(length) = self.announced()?
                && self.rest.len() >= HEADER + length
            {
                let compressed = self.rest[0] == 1;
                self.rest.advance(HEADER);
                return Ok(Some((compressed, self.rest.split_to(length))));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.append(data);
                    }
                }
                Some(Err(error)) => return Err(transport_error(&error)),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "unexpected EOF")),
            }
        }
    }

    /// Length of the message at the front, once its header is here.
    fn announced(&self) -> Result<Option<usize>, Status> {
        let Some(header) = self.rest.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        if header[0] > 1 {
            let text = format!("grpc: received unexpected payload format {}", header[0]);
            return Err(Status::new(Code::Internal, text));
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > self.max {
            let text = format!(
                "grpc: received message larger than max ({length} vs. {})",
                self.max
            );
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(Some(length))
    }

    /// Most messages arrive in one piece and are never copied; the parts of others are joined.
    fn append(&mut self, data: Bytes) {
        if self.rest.is_empty() {
            self.rest = data;
            return;
        }
        let mut joined = std::mem::take(&mut self.rest)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(&data);
        self.rest = joined.freeze();
    }

    fn decompress(&self, bytes: &[u8]) -> Result<Bytes, Status> {
        if self.encoding == Encoding::Identity {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        let mut plain = Vec::new();
        let limit = self.max as u64 + 1;
        if let Err(error) = flate2::read::MultiGzDecoder::new(bytes)
            .take(limit)
            .read_to_end(&mut plain)
        {
            let text = format!("grpc: failed to decompress the received message: {error}");
            return Err(Status::new(Code::Internal, text));
        }
        if plain.len() > self.max {
            let text = format!(
                "grpc: received message after decompression larger than max {}",
                self.max
            );
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(plain.into())
    }
}

/// The client reset the stream or the connection broke.
fn transport_error(error: &hyper::Error) -> Status {
    tracing::debug!(%error, "a request ended early");
    Status::new(Code::Cancelled, "context canceled")
}

/// A message with its header, ready to send.
pub fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEADER + length);
    put_header(&mut buffer, length);
    // The buffer has room for exactly this.
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// Writes the header of an uncompressed message.
pub fn put_header(buffer: &mut BytesMut, length: usize) {
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
}

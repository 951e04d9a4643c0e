//! Bytes that were received and not decoded yet.

use bytes::{Buf as _, BytesMut};

use super::CodecError;

/// Memory that is kept while nothing waits, in bytes.
const KEEP: usize = 1 << 20;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: BytesMut,
}

impl Buffer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn first(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// The integer that starts at `offset`, if it is there already.
    pub fn u64_at(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    /// What follows the length field at `offset`, as soon as all of it is there. Lengths beyond `limit` are an error.
    pub fn prefixed(&self, offset: usize, limit: u64) -> Result<Option<&[u8]>, CodecError> {
        let Some(length) = self.u64_at(offset) else {
            return Ok(None);
        };
        if length > limit {
            return Err(CodecError::TooLong);
        }
        let start = offset + 8;
        // Fits: `limit` does.
        Ok(self.bytes.get(start..start + length as usize))
    }

    /// Drops what was decoded.
    pub fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = BytesMut::new();
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

//! A copy of the whole database while it is in use.

use std::io;

/// The image of a database file at one commit: a complete, valid file of [`SnapshotImage::len`] bytes, readable
/// piece by piece while the database goes on. Holds back the reuse of pages while it lives.
#[derive(Debug)]
pub struct SnapshotImage {
    tx: bbolt::ReadTx,
}

impl SnapshotImage {
    pub(crate) fn new(tx: bbolt::ReadTx) -> Self {
        Self { tx }
    }

    /// Length of the image in bytes: used pages only, not the file's preallocated rest.
    pub fn len(&self) -> u64 {
        self.tx.size()
    }

    /// Never true: an image has at least its two meta pages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads bytes of the image from `offset` on; 0 means its end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.tx.copy_chunk(offset, buf)
    }

    /// Writes the whole image; returns its length.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<u64> {
        self.tx.write_to(out)
    }
}

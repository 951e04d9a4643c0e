use std::io;
use std::sync::Arc;

use disk::Map;

use crate::bucket::{Bucket, BucketNames};
use crate::check::{self, CheckError};
use crate::db::Shared;
use crate::error::Error;
use crate::format::Meta;
use crate::space::{NodeRef, Space};

/// A state of the database that stays readable, whatever is committed later. Clones share it; the pages
/// are held until the last one is dropped.
#[derive(Clone, Debug)]
pub struct ReadTx {
    pin: Arc<Pin>,
}

/// Keeps the pages of a state from being used again, and the mapping in place.
#[derive(Debug)]
struct Pin {
    shared: Arc<Shared>,
    map: Arc<Map>,
    meta: Meta,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.end_read(self.meta.txid);
    }
}

impl ReadTx {
    pub(crate) fn begin(shared: &Arc<Shared>) -> Result<ReadTx, Error> {
        let (meta, map) = shared.begin_read()?;
        Ok(ReadTx {
            pin: Arc::new(Pin {
                shared: shared.clone(),
                map,
                meta,
            }),
        })
    }

    fn space(&self) -> Space<'_> {
        let meta = &self.pin.meta;
        // SAFETY: the high-water mark of a committed state lies inside the file (checked by the opening, and
        // the file is grown before a commit). The pin is registered as a reader as long as `self` lives,
        // so none of its state's pages is written.
        unsafe { Space::new(&self.pin.map, meta.page_size, meta.high_water, None) }
    }

    fn root(&self) -> Bucket<'_> {
        Bucket::new(
            self.space(),
            NodeRef::Page(self.pin.meta.root),
            self.pin.meta.sequence,
        )
    }

    /// A bucket of the first level.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, Error> {
        self.root().bucket(name)
    }

    /// The names of the buckets of the first level, ascending.
    pub fn buckets(&self) -> BucketNames<'_> {
        self.root().buckets()
    }

    /// Number of the transaction that committed this state.
    pub fn id(&self) -> u64 {
        self.pin.meta.txid
    }

    /// Size of this state in bytes, which is the length of its copy.
    pub fn size(&self) -> u64 {
        self.pin.meta.high_water * u64::from(self.pin.meta.page_size)
    }

    /// Reads from a copy of this state that is a database of its own: [`ReadTx::size`] bytes with two
    /// meta pages of this state. Returns how many bytes were read, 0 at the end. Pages that do not belong
    /// to the state hold whatever is in them.
    pub fn copy_chunk(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let meta = &self.pin.meta;
        let page_size = u64::from(meta.page_size);
        if offset < 2 * page_size {
            let id = offset / page_size;
            // The older number in page 1 makes page 0 the one that counts.
            let txid = meta.txid.saturating_sub(id);
            let page = Meta { txid, ..*meta }.encode_page(id);
            let rest = &page[(offset % page_size) as usize..];
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            return Ok(len);
        }
        let left = self.size().saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if len == 0 {
            return Ok(0);
        }
        loop {
            match self.pin.shared.file.read_at(&mut buf[..len], offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes the whole copy that [`ReadTx::copy_chunk`] reads; returns its length.
    pub fn write_to(&self, out: &mut dyn io::Write) -> io::Result<u64> {
        let mut buf = vec![0; 256 << 10];
        let mut offset = 0;
        loop {
            let len = self.copy_chunk(offset, &mut buf)?;
            if len == 0 {
                return Ok(offset);
            }
            out.write_all(&buf[..len])?;
            offset += len as u64;
        }
    }

    /// Looks for all damage that bbolt's own check finds: pages used twice, out of bounds, of a wrong
    /// kind or both used and free, and keys out of order.
    pub fn check(&self) -> Vec<CheckError> {
        check::check(self.space(), &self.pin.meta, check::Rules::Readers)
    }

    /// Like [`ReadTx::check`], and also what bbolt relies on when it goes on to write to the file: that
    /// each branch key is the first key of its child, and that no page but a root is empty.
    pub fn check_strictly(&self) -> Vec<CheckError> {
        check::check(self.space(), &self.pin.meta, check::Rules::Writers)
    }
}

//! The write buffer of the last segment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::raftpb::{Entry, HardState};
use disk::File;

use crate::error::At;
use crate::frame;
use crate::observe::Observer;
use crate::pipeline::ZeroAhead;
use crate::{Error, Options};

/// More than this is not kept in memory without being handed to the operating system.
const BUFFER: usize = 128 * 1024;
/// Early writes end at multiples of this, so that a page is not written twice.
const PAGE: u64 = 4096;
/// A buffer that a huge entry made larger than this is given back.
const KEEP: usize = 4 * BUFFER;
/// A sync that takes longer is reported.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// Appends records to one segment.
#[derive(Debug)]
pub(crate) struct Appender {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
    /// Encoded frames that were not handed to the operating system.
    buf: Vec<u8>,
    /// Offset in the file of the first byte of `buf`.
    written: u64,
    /// Offset up to which the file is known to be durable.
    synced: u64,
    crc: u32,
    zero: Arc<ZeroAhead>,
    observer: Arc<dyn Observer>,
    no_sync: bool,
}

impl Appender {
    /// Continues `file` at `offset` with a running checksum.
    pub fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        offset: u64,
        crc: u32,
        options: &Options,
    ) -> Self {
        Self {
            file,
            path,
            buf: Vec::with_capacity(BUFFER + PAGE as usize),
            written: offset,
            synced: offset,
            crc,
            zero: Arc::default(),
            observer: Arc::clone(&options.observer),
            no_sync: options.no_sync,
        }
    }

    /// Moves on to another segment, keeping buffer and checksum. Everything must have been flushed.
    pub fn switch(&mut self, file: Arc<dyn File>, path: PathBuf) {
        debug_assert!(self.buf.is_empty());
        self.file = file;
        self.path = path;
        self.written = 0;
        self.synced = 0;
        self.zero = Arc::default();
    }

    /// Lets a thread write zeros behind the end; the appender keeps out of its way.
    pub fn zero_ahead(&mut self, from: u64) -> Arc<ZeroAhead> {
        self.zero = Arc::new(ZeroAhead::new(from));
        Arc::clone(&self.zero)
    }

    /// Length of the segment with everything that was appended.
    pub fn offset(&self) -> u64 {
        self.written + self.buf.len() as u64
    }

    pub fn put_crc(&mut self) {
        frame::put_crc(&mut self.buf, self.crc);
    }

    pub fn put_data(&mut self, kind: i64, data: &[u8]) {
        self.crc = frame::put_data(&mut self.buf, kind, self.crc, data);
    }

    pub fn put_state(&mut self, state: &HardState) {
        self.crc = frame::put_state(&mut self.buf, self.crc, state);
    }

    /// Appends an entry; writes whole pages when the buffer is full.
    pub fn put_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.crc = frame::put_entry(&mut self.buf, self.crc, entry);
        if self.buf.len() < BUFFER {
            return Ok(());
        }
        // A rest of a page stays, so that the next write starts at a page.
        let end = self.offset() / PAGE * PAGE;
        self.write(end.saturating_sub(self.written) as usize)
    }

    /// Hands everything to the operating system, in one write.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.write(self.buf.len())
    }

    fn write(&mut self, n: usize) -> Result<(), Error> {
        if n == 0 {
            return Ok(());
        }
        let start = Instant::now();
        self.zero.claim(self.written + n as u64);
        self.file
            .write_all_at(&self.buf[..n], self.written)
            .inspect_err(|_| self.abandon())
            .at(&self.path)?;
        self.observer.wal_written(n as u64, start.elapsed());
        self.written += n as u64;
        self.buf.drain(..n);
        if self.buf.is_empty() && self.buf.capacity() > KEEP {
            self.buf.shrink_to(BUFFER + PAGE as usize);
        }
        Ok(())
    }

    /// Flushes and makes everything durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.no_sync {
            self.synced = self.written;
            return Ok(());
        }
        self.observer.wal_before_sync();
        let start = Instant::now();
        self.file
            .sync_data()
            .inspect_err(|_| self.abandon())
            .at(&self.path)?;
        self.synced = self.written;
        let took = start.elapsed();
        if took > SLOW_SYNC {
            tracing::warn!(took = ?took, "expected-duration" = ?SLOW_SYNC, "slow fdatasync");
        }
        self.observer.wal_synced(took);
        Ok(())
    }

    /// Takes back what is not durable after a failed write or sync, as well as that goes. Half a record
    /// would look like damage to the next start. And after a failed sync the page cache can hold bytes
    /// that will never be written: the next start would take them for safe.
    fn abandon(&self) {
        if let Err(error) = self.file.set_len(self.synced) {
            let path = self.path.display().to_string();
            tracing::warn!(path, %error, "failed to cut off what was not synced to a WAL segment");
        }
    }
}

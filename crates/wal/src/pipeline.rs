//! The thread that prepares segments before they are needed.
//!
//! Go prepares `0.tmp` and `1.tmp` in turn, each locked and reserved. So does this thread, but it also
//! writes the zeros that reserved space reads as: a sync into blocks that were written before does not
//! have to change the file's extents. The content is the same to every reader.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use disk::{File, Fs, LockKind, OpenOptions};

use crate::error::At;
use crate::{Error, Options, Preparation};

/// Zeros are written and synced in pieces of this size, so that a sync of the log never waits for more.
const PIECE: usize = 1 << 20;

/// Longest rest after a piece; closing the log may have to wait for it.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Keeps the thread that zeroes the rest of a segment and the one that appends to it apart.
///
/// The zeroing thread writes only from `next` on, under the lock; an appender that would come beyond
/// `next` ends the zeroing for good.
#[derive(Debug)]
pub(crate) struct ZeroAhead {
    over: AtomicBool,
    next: Mutex<u64>,
}

impl Default for ZeroAhead {
    /// Nothing is being zeroed.
    fn default() -> Self {
        Self {
            over: AtomicBool::new(true),
            next: Mutex::new(u64::MAX),
        }
    }
}

impl ZeroAhead {
    pub fn new(from: u64) -> Self {
        Self {
            over: AtomicBool::new(false),
            next: Mutex::new(from),
        }
    }

    /// The appender is about to write up to `end`.
    pub fn claim(&self, end: u64) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if end > *next {
            *next = u64::MAX;
            self.over.store(true, Ordering::Release);
        }
    }

    fn end(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = u64::MAX;
        self.over.store(true, Ordering::Release);
    }

    /// Zeroes one more piece before `limit`; false when there is nothing left to do.
    fn step(&self, file: &dyn File, limit: u64, zeros: &[u8]) -> std::io::Result<bool> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next >= limit {
            return Ok(false);
        }
        let n = (limit - *next).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], *next)?;
        *next += n;
        Ok(true)
    }
}

/// The rest of the segment that is in use: what is to be zeroed first.
#[derive(Debug)]
pub(crate) struct Tail {
    pub path: PathBuf,
    pub zero: Arc<ZeroAhead>,
    pub limit: u64,
}

/// A segment that can be used: locked, reserved, all zeros.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
}

#[derive(Debug, Default)]
struct Signals {
    /// Somebody waits: do not pause between pieces.
    hurry: AtomicBool,
    stop: AtomicBool,
}

/// Gives out prepared segments.
#[derive(Debug)]
pub(crate) enum Pipeline {
    /// Made by a thread in advance.
    Thread(Worker),
    /// Made when asked for.
    OnDemand(Maker),
}

/// Makes `N.tmp` files.
#[derive(Debug)]
pub(crate) struct Maker {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    size: u64,
    count: u64,
}

#[derive(Debug)]
pub(crate) struct Worker {
    ready: Option<Receiver<Result<Prepared, Error>>>,
    signals: Arc<Signals>,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts preparing segments in `dir`, after the rest of `tail`.
    pub fn start(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &Options,
        tail: Option<Tail>,
    ) -> Result<Self, Error> {
        let maker = Maker {
            fs,
            dir: dir.to_path_buf(),
            size: options.segment_size,
            count: 0,
        };
        let zero = match options.preparation {
            Preparation::OnDemand => return Ok(Pipeline::OnDemand(maker)),
            Preparation::ZeroFilled => true,
            Preparation::Reserved => false,
        };
        let signals = Arc::new(Signals::default());
        let (give, ready) = sync_channel(0);
        let job = Job {
            maker,
            zero,
            signals: Arc::clone(&signals),
        };
        let thread = std::thread::Builder::new()
            .name("wal-pipeline".into())
            .spawn(move || job.run(tail, &give))
            .at(dir)?;
        Ok(Pipeline::Thread(Worker {
            ready: Some(ready),
            signals,
            thread: Some(thread),
        }))
    }

    /// The next segment; waits until it is ready.
    pub fn take(&mut self) -> Result<Prepared, Error> {
        match self {
            Pipeline::OnDemand(maker) => maker.make(),
            Pipeline::Thread(worker) => worker.take(),
        }
    }
}

impl Worker {
    fn take(&mut self) -> Result<Prepared, Error> {
        self.signals.hurry.store(true, Ordering::Relaxed);
        let prepared = match &self.ready {
            Some(ready) => ready.recv().unwrap_or(Err(Error::Poisoned)),
            None => Err(Error::Poisoned),
        };
        self.signals.hurry.store(false, Ordering::Relaxed);
        prepared
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.ready = None; // a thread that waits for a taker wakes up and removes its file
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that prepares WAL segments panicked");
        }
    }
}

impl Maker {
    /// Makes the next file, without zeros written to it.
    fn make(&mut self) -> Result<Prepared, Error> {
        let path = self.dir.join(format!("{}.tmp", self.count % 2));
        // What a crash left is of no use, and other content would be read as records.
        let options = OpenOptions {
            truncate: true,
            ..OpenOptions::create()
        };
        let file = self.fs.open(&path, options).at(&path)?;
        let prepare = || {
            file.try_lock(LockKind::OpenFileWrite)?;
            file.allocate(self.size)
        };
        if let Err(source) = prepare() {
            let _ = self.fs.remove_file(&path); // the error that counts is the first one
            return Err(Error::Io { path, source });
        }
        self.count += 1;
        Ok(Prepared { file, path })
    }
}

/// The body of the thread.
struct Job {
    maker: Maker,
    zero: bool,
    signals: Arc<Signals>,
}

impl Job {
    fn run(mut self, tail: Option<Tail>, give: &SyncSender<Result<Prepared, Error>>) {
        if let Some(tail) = tail
            && self.zero
        {
            self.zero_tail(&tail);
        }
        while !self.stopped() {
            let made = self.maker.make().and_then(|prepared| self.fill(prepared));
            let failed = made.is_err();
            if let Err(unwanted) = give.send(made) {
                if let Ok(prepared) = unwanted.0 {
                    self.remove(&prepared.path);
                }
                return;
            }
            if failed {
                return;
            }
        }
    }

    fn stopped(&self) -> bool {
        self.signals.stop.load(Ordering::Relaxed)
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.maker.fs.remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "failed to remove temporary WAL segment");
        }
    }

    fn fill(&self, prepared: Prepared) -> Result<Prepared, Error> {
        if !self.zero {
            return Ok(prepared);
        }
        let all = ZeroAhead::new(0);
        match self.zero_file(prepared.file.as_ref(), &all, self.maker.size) {
            Ok(()) => Ok(prepared),
            Err(source) => {
                self.remove(&prepared.path);
                Err(Error::Io {
                    path: prepared.path,
                    source,
                })
            }
        }
    }

    /// Zeroes what the log has not reached yet of the segment in use. The log does not need it: errors
    /// are logged, and the appender meets them itself if they concern it. The file is opened anew for
    /// this: the kernel reports a failed write-back once per open file, and the appender must get its
    /// report.
    fn zero_tail(&self, tail: &Tail) {
        let result = self
            .maker
            .fs
            .open(&tail.path, OpenOptions::write())
            .and_then(|file| self.zero_file(file.as_ref(), &tail.zero, tail.limit));
        if let Err(error) = result {
            tracing::warn!(path = %tail.path.display(), %error, "failed to zero the rest of a WAL segment");
        }
        tail.zero.end();
    }

    /// Zeroes piece by piece, and rests after each for as long as it took, unless somebody waits: the
    /// log's own syncs go to the same disk.
    fn zero_file(&self, file: &dyn File, zero: &ZeroAhead, limit: u64) -> std::io::Result<()> {
        let zeros = vec![0; PIECE];
        loop {
            let start = Instant::now();
            if self.stopped() || !zero.step(file, limit, &zeros)? {
                return Ok(());
            }
            file.sync_data()?;
            if !self.signals.hurry.load(Ordering::Relaxed) {
                std::thread::sleep(start.elapsed().min(MAX_PAUSE));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroing_never_touches_what_an_appender_claimed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = disk::RealFs.open(&path, OpenOptions::create()).unwrap();
        let zero = ZeroAhead::new(10);
        zero.claim(10);
        assert!(zero.step(file.as_ref(), 100, &[0; 8]).unwrap());
        assert_eq!(file.len().unwrap(), 18);
        zero.claim(18);
        zero.claim(19);
        assert!(!zero.step(file.as_ref(), 100, &[0; 8]).unwrap());
        assert_eq!(file.len().unwrap(), 18);
    }
}

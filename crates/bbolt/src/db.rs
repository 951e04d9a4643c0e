use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use disk::{File, Fs, LockKind, Map, OpenOptions};

use crate::commit::CommitStats;
use crate::error::Error;
use crate::format::{Meta, TxId};
use crate::freelist::{Freelist, Readers, Span};
use crate::options::Options;
use crate::read::ReadTx;
use crate::space::Space;
use crate::write::WriteTx;
use crate::{open, walk};

/// An open database. Clones share it; it is closed by [`Db::close`] or when the last clone and the last
/// transaction are dropped.
#[derive(Clone, Debug)]
pub struct Db {
    shared: Arc<Shared>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of the last committed transaction.
    pub txid: u64,
    /// Pages that can be used at once.
    pub free_pages: u64,
    /// Pages that become free when the readers of older states are gone.
    pub pending_pages: u64,
    /// Open read transactions.
    pub open_readers: u64,
    /// Commits since opening.
    pub commits: u64,
    /// What the last commit did.
    pub last_commit: CommitStats,
}

/// What all handles and transactions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) file: Arc<dyn File>,
    pub(crate) options: Options,
    pub(crate) page_size: u32,
    state: Mutex<State>,
    writer: Mutex<Option<Box<Writer>>>,
    writer_back: Condvar,
    poison: OnceLock<String>,
    closed: AtomicBool,
    free_pages: AtomicU64,
    pending_pages: AtomicU64,
    stats: Mutex<(u64, CommitStats)>,
}

/// The committed state, and who reads what.
#[derive(Debug)]
struct State {
    meta: Meta,
    map: Arc<Map>,
    readers: Readers,
    /// Oldest state whose last reader has gone since pages were released.
    closed: Option<TxId>,
}

/// What belongs to the one open write transaction.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) freelist: Freelist,
    pub(crate) freelist_page: Option<Span>,
    pub(crate) file_len: u64,
    /// Where pages are put together for writing.
    pub(crate) scratch: Vec<u8>,
}

/// How often a lock that somebody else has is asked for.
const LOCK_RETRY: Duration = Duration::from_millis(50);

impl Db {
    /// Opens a database, creating it if it is missing (unless for reading only). Waits for the lock of
    /// another process as [`Options::lock_timeout`] says.
    ///
    /// For writing, every page of the file is visited to find the free ones; this fails if a page is used
    /// twice or out of bounds.
    #[allow(clippy::needless_pass_by_value)] // handed over like a file to its owner
    pub fn open(fs: Arc<dyn Fs>, path: &Path, options: Options) -> Result<Db, Error> {
        let how = if options.read_only {
            OpenOptions::read()
        } else {
            OpenOptions::create()
        };
        let file = fs.open(path, how).map_err(Error::io("open database"))?;
        lock(file.as_ref(), &options)?;
        if !options.read_only {
            open::create_if_new(fs.as_ref(), file.as_ref(), path, &options)?;
        }
        let meta = open::read_meta(file.as_ref())?;
        let file_len = file.len().map_err(Error::io("read length of database"))?;
        let map = Arc::new(open::map(
            file.as_ref(),
            &options,
            meta.high_water * u64::from(meta.page_size),
            file_len,
        )?);
        let writer = if options.read_only {
            None
        } else {
            // SAFETY: `read_meta` has compared the high-water mark with the length of the file, and nothing
            // writes to it before this function returns.
            let space = unsafe { Space::new(&map, meta.page_size, meta.high_water, None) };
            let found = walk::inventory(space, &meta)?;
            let (freelist, freelist_page) = (found.freelist, found.freelist_page);
            Some(Box::new(Writer {
                freelist,
                freelist_page,
                file_len,
                scratch: Vec::new(),
            }))
        };
        let free = writer.as_ref().map_or(0, |w| w.freelist.free_pages());
        let shared = Shared {
            file,
            page_size: meta.page_size,
            options,
            state: Mutex::new(State {
                meta,
                map,
                readers: Readers::new(),
                closed: None,
            }),
            writer: Mutex::new(writer),
            writer_back: Condvar::new(),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            free_pages: AtomicU64::new(free),
            pending_pages: AtomicU64::new(0),
            stats: Mutex::default(),
        };
        Ok(Db {
            shared: Arc::new(shared),
        })
    }

    /// Begins a read transaction on the last committed state. Never waits for a writer.
    pub fn read(&self) -> Result<ReadTx, Error> {
        ReadTx::begin(&self.shared)
    }

    /// Begins the write transaction; waits until the one that is open has ended.
    pub fn write(&self) -> Result<WriteTx, Error> {
        WriteTx::begin(&self.shared)
    }

    /// Size of the last committed state in bytes, free pages included. The file may be longer.
    pub fn size(&self) -> u64 {
        let meta = self.shared.lock_state().meta;
        meta.high_water * u64::from(meta.page_size)
    }

    /// [`Db::size`] without the free pages. Pages that an old reader holds count as in use. Of a database
    /// opened for reading only, free pages are not known.
    pub fn size_in_use(&self) -> u64 {
        let free = self.shared.free_pages.load(Ordering::Relaxed);
        self.size()
            .saturating_sub(free * u64::from(self.shared.page_size))
    }

    /// Size of a page in bytes.
    pub fn page_size(&self) -> u32 {
        self.shared.page_size
    }

    /// Whether the database was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.shared.options.read_only
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let (txid, open_readers) = {
            let state = self.shared.lock_state();
            (
                state.meta.txid,
                state.readers.values().sum::<usize>() as u64,
            )
        };
        let (commits, last_commit) = *lock_mutex(&self.shared.stats);
        Stats {
            txid,
            free_pages: self.shared.free_pages.load(Ordering::Relaxed),
            pending_pages: self.shared.pending_pages.load(Ordering::Relaxed),
            open_readers,
            commits,
            last_commit,
        }
    }

    /// Waits for the open write transaction, refuses new ones and gives the lock of the file back. Open
    /// read transactions go on to work.
    pub fn close(self) -> Result<(), Error> {
        let writer = if self.is_read_only() {
            None
        } else {
            self.shared.take_writer().ok()
        };
        {
            // Under the lock that waiters check it with, so that none of them sleeps on.
            let _slot = lock_mutex(&self.shared.writer);
            self.shared.closed.store(true, Ordering::SeqCst);
        }
        drop(writer);
        // Whoever waits for the write transaction learns that there will be none.
        self.shared.writer_back.notify_all();
        let unlocked = self.shared.file.unlock(lock_kind(&self.shared.options));
        unlocked.map_err(Error::io("unlock database"))
    }
}

impl Shared {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        lock_mutex(&self.state)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Registers a reader of the last committed state.
    pub(crate) fn begin_read(&self) -> Result<(Meta, Arc<Map>), Error> {
        let mut state = self.lock_state();
        self.check_open()?;
        let meta = state.meta;
        *state.readers.entry(meta.txid).or_default() += 1;
        Ok((meta, state.map.clone()))
    }

    /// Takes a reader back.
    pub(crate) fn end_read(&self, txid: TxId) {
        let mut state = self.lock_state();
        if let Some(count) = state.readers.get_mut(&txid) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&txid);
                state.closed = Some(state.closed.map_or(txid, |c| c.min(txid)));
            }
        }
    }

    /// The last committed state, for the writer.
    pub(crate) fn committed(&self) -> (Meta, Arc<Map>) {
        let state = self.lock_state();
        (state.meta, state.map.clone())
    }

    /// Waits for the right to write.
    pub(crate) fn take_writer(&self) -> Result<Box<Writer>, Error> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let mut slot = lock_mutex(&self.writer);
        loop {
            self.check_open()?;
            if let Some(reason) = self.poison.get() {
                return Err(Error::Poisoned(reason.clone()));
            }
            if let Some(mut writer) = slot.take() {
                self.release(&mut writer.freelist);
                return Ok(writer);
            }
            slot = self
                .writer_back
                .wait(slot)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the right to write back.
    pub(crate) fn return_writer(&self, writer: Box<Writer>) {
        *lock_mutex(&self.writer) = Some(writer);
        self.writer_back.notify_one();
    }

    /// Frees the pages that no reader needs any more. The readers are copied so that beginning ones do not
    /// wait: those see the last committed state, to which no pending page belongs.
    fn release(&self, freelist: &mut Freelist) {
        let (readers, closed) = {
            let mut state = self.lock_state();
            (state.readers.clone(), state.closed.take())
        };
        freelist.release(&readers, closed);
        self.free_pages
            .store(freelist.free_pages(), Ordering::Relaxed);
        self.pending_pages
            .store(freelist.pending_pages(), Ordering::Relaxed);
    }

    /// Makes a committed state the one that new transactions begin with.
    pub(crate) fn publish(
        &self,
        writer: &mut Writer,
        meta: Meta,
        map: Arc<Map>,
        took: &[Span],
        freed: &[Span],
        stats: CommitStats,
    ) {
        let (readers, old_map) = {
            let mut state = self.lock_state();
            state.meta = meta;
            (
                state.readers.clone(),
                std::mem::replace(&mut state.map, map),
            )
        };
        // Giving a large mapping up takes time; nobody waits for it here.
        drop(old_map);
        writer.freelist.commit(meta.txid, took, freed, &readers);
        self.release(&mut writer.freelist);
        let mut commits = lock_mutex(&self.stats);
        *commits = (commits.0 + 1, stats);
    }

    /// Refuses all later writes.
    pub(crate) fn set_poison(&self, error: &Error) {
        // The first reason counts.
        let _ = self.poison.set(error.to_string());
    }
}

/// A panic elsewhere cannot leave these data half changed: every holder changes them in one step.
fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_kind(options: &Options) -> LockKind {
    if options.read_only {
        LockKind::FlockShared
    } else {
        LockKind::FlockExclusive
    }
}

fn lock(file: &dyn File, options: &Options) -> Result<(), Error> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock(lock_kind(options)) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("lock database")(e)),
        }
        if options.lock_timeout.is_some_and(|limit| waited >= limit) {
            return Err(Error::Timeout);
        }
        std::thread::sleep(LOCK_RETRY);
        waited += LOCK_RETRY;
    }
}

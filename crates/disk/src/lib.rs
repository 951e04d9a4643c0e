//! The seam to the file system.
//!
//! Everything that must survive a crash goes through [`Fs`] and [`File`], so that tests can record every
//! write and sync, build the image a crash would leave at any point, and make any step fail. The
//! product uses [`RealFs`].
//!
//! Architecture invariant: this crate knows no file format.

mod real;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealFs;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Allow writing. Reading is always allowed.
    pub write: bool,
    /// Create the file if it is missing.
    pub create: bool,
    /// Fail with [`io::ErrorKind::AlreadyExists`] if it is there; implies `create`.
    pub create_new: bool,
    /// Cut the file to length 0.
    pub truncate: bool,
    /// Unix permission bits for a new file, before the umask; 0 means 0o600.
    pub mode: u32,
}

impl OpenOptions {
    /// Read an existing file.
    pub fn read() -> Self {
        Self::default()
    }

    /// Read and write an existing file.
    pub fn write() -> Self {
        Self {
            write: true,
            ..Self::default()
        }
    }

    /// Read and write, creating the file if missing.
    pub fn create() -> Self {
        Self {
            write: true,
            create: true,
            ..Self::default()
        }
    }
}

/// Which advisory lock to take. The kinds do not exclude each other: a Go process is only kept out by
/// the kind it uses itself (flock for the database, open-file-description locks for WAL segments).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `flock(2)` exclusive.
    FlockExclusive,
    /// `flock(2)` shared.
    FlockShared,
    /// `fcntl(F_OFD_SETLK)` write lock on the whole file.
    OpenFileWrite,
}

/// An open file. All methods take `&self`; offsets are explicit, so a file can be shared by threads.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the whole buffer at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content (and the size needed to read it back) durable: `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes content and all metadata durable: `fsync`.
    fn sync_all(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space so that `[0, len)` exists and reads as zeros where nothing was written
    /// (`fallocate` mode 0, `ftruncate` where the file system has none).
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Takes the lock without waiting; [`io::ErrorKind::WouldBlock`] when somebody else has it.
    fn try_lock(&self, kind: LockKind) -> io::Result<()>;
    /// Gives the lock back. Closing the last handle does the same.
    fn unlock(&self, kind: LockKind) -> io::Result<()>;
    /// Maps `len` bytes from offset 0, shared and read-only. The mapping may reach beyond the end of
    /// the file; the caller must not touch pages there. Later writes through the file are visible.
    fn map(&self, len: u64, populate: bool) -> io::Result<Map>;

    /// Fills the whole buffer or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A shared read-only mapping of a file.
#[derive(Debug)]
pub struct Map {
    inner: memmap2::MmapRaw,
}

impl Map {
    /// First byte of the mapping. Reading a page beyond the end of the file kills the process, and
    /// bytes that are written through the file change under the reader: whoever makes a slice of this
    /// proves that its range lies inside the file and is not written while the slice lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.inner.as_ptr()
    }

    /// Length of the mapping in bytes.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether the mapping has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `len` bytes of the mapping in memory (`mlock`). Bytes beyond the end of the file
    /// cannot be locked.
    pub fn lock(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.len());
        // SAFETY: the range lies inside the mapping, which lives as long as `self`; locking changes
        // nothing that safe code can see.
        let rc = unsafe { libc::mlock(self.as_ptr().cast(), len) };
        if rc == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The file system.
pub trait Fs: Send + Sync + std::fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>>;
    /// Creates a directory and its parents, each with `mode`. Existing ones are left alone.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Names in a directory, sorted bytewise. Names that are not UTF-8 are left out.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames atomically; durable only after [`Fs::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it; no error if it is missing.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether something is at the path.
    fn exists(&self, path: &Path) -> bool;
}

/// The directory a path lies in, `.` for a bare name.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

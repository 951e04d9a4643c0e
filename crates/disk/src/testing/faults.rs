use std::io;

/// What kind of call an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Opening a file.
    Open,
    /// Creation of a file or directory.
    Create,
    /// Reading through the file (not through a mapping).
    Read,
    /// Writing bytes.
    Write,
    /// `sync_data` or `sync_all` of a file.
    Sync,
    /// Cutting or extending a file.
    SetLen,
    /// Reserving space.
    Allocate,
    /// Renaming.
    Rename,
    /// Removing a file or a directory tree.
    Remove,
    /// Syncing a directory.
    SyncDir,
    /// Mapping a file.
    Map,
    /// Taking a lock.
    Lock,
}

/// A failure to inject.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which calls count.
    pub kind: OpKind,
    /// How many calls of that kind still succeed before the failing one.
    pub skip: u64,
    /// The error, as the operating system numbers it (`libc::EIO`, `libc::ENOSPC`).
    pub errno: i32,
    /// Whether all later calls of the kind fail too.
    pub forever: bool,
}

/// The failures that are armed.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one call and says whether it has to fail.
    pub(super) fn hit(&mut self, kind: OpKind) -> io::Result<()> {
        let mut errno = None;
        self.0.retain_mut(|fault| {
            if fault.kind != kind || errno.is_some() {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            errno = Some(fault.errno);
            fault.forever
        });
        errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

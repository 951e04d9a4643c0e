use std::time::Duration;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only reading; takes a shared lock and never changes the file.
    pub read_only: bool,
    /// Leave out every sync. A crash of the machine can then lose or damage everything.
    pub no_sync: bool,
    /// Do not write the list of free pages; it is rebuilt at the next opening. etcd does this.
    pub no_freelist_sync: bool,
    /// Least number of bytes of address space to map. A larger one saves mapping again as the file grows.
    pub initial_mmap: u64,
    /// Read the whole file into memory when mapping it.
    pub populate: bool,
    /// Keep the mapped file in memory (`mlock`).
    pub mlock: bool,
    /// Page size of a new file in bytes; 0 means that of the operating system. An existing file keeps
    /// its own.
    pub page_size: u32,
    /// How long to wait for another process's lock on the file; `None` waits for ever.
    pub lock_timeout: Option<Duration>,
    /// How full (0.1 to 1.0) pages are made when one is split, unless a bucket sets its own.
    pub fill_percent: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            no_sync: false,
            no_freelist_sync: true,
            initial_mmap: 0,
            populate: false,
            mlock: false,
            page_size: 0,
            lock_timeout: None,
            fill_percent: 0.5,
        }
    }
}

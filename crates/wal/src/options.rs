//! How a log is written.

use std::sync::Arc;

use crate::observe::{NoObserver, Observer};

/// Size at which a segment is closed, in bytes. Decimal, as in etcd.
pub const SEGMENT_SIZE: u64 = 64_000_000;

/// How the next segment comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// A thread reserves and zero-fills the next segment while the present one is in use, and
    /// zero-fills the rest of the present one. A sync of blocks that were written before is about a
    /// third cheaper than one that has to turn reserved space into written space.
    #[default]
    ZeroFilled,
    /// A thread reserves the next segment but leaves its blocks unwritten, as etcd does. Halves the
    /// bytes written to disk, for slower syncs.
    Reserved,
    /// No thread: the next segment is made when it is needed. For tools that write a short log.
    OnDemand,
}

/// Options of a log that is written to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size at which a segment is closed, in bytes.
    pub segment_size: u64,
    /// How the next segment comes to be.
    pub preparation: Preparation,
    /// Never sync (`--unsafe-no-fsync`): a crash of the machine can lose acknowledged writes.
    pub no_sync: bool,
    /// Gets durations and sizes.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: SEGMENT_SIZE,
            preparation: Preparation::default(),
            no_sync: false,
            observer: Arc::new(NoObserver),
        }
    }
}

impl Options {
    /// Options for a tool that writes a log once and ends: no thread, no segments in advance.
    pub fn for_tools() -> Self {
        Self {
            preparation: Preparation::OnDemand,
            ..Self::default()
        }
    }
}

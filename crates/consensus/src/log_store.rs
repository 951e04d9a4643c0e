//! Where the log thread writes to.

use api::raftpb::{Entry, HardState, Snapshot};
use wal::Wal;
use wal::snap::Snapshotter;

use crate::StoreError;

/// The durable log. One thread calls it; after an error it is not used again, because nobody knows what the disk
/// holds then.
pub trait LogStore: Send {
    /// Writes entries, then the hard state. Entries continue the log or overwrite a tail of it.
    fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), StoreError>;
    /// Makes everything written durable.
    fn sync(&mut self) -> Result<(), StoreError>;
    /// Writes the snapshot file and the log's record of it; both are durable afterwards.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError>;
    /// The log before this index is not needed any more.
    fn release_to(&mut self, index: u64) -> Result<(), StoreError>;
    /// Nobody waits: time for work that would delay the next append.
    fn idle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// etcd's WAL segments and `.snap` files.
pub struct WalStore {
    wal: Wal,
    snapshotter: Snapshotter,
}

impl WalStore {
    /// Takes over the append side of a WAL.
    pub fn new(wal: Wal, snapshotter: Snapshotter) -> Self {
        Self { wal, snapshotter }
    }
}

impl LogStore for WalStore {
    fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        Ok(self.wal.append(hard_state, entries)?)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(self.wal.sync()?)
    }

    /// In this order: a record in the WAL promises that the file exists.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.snapshotter.save(snapshot)?;
        let metadata = &snapshot.metadata;
        Ok(self.wal.save_snapshot(&api::walpb::Snapshot {
            index: metadata.index,
            term: metadata.term,
            conf_state: Some(metadata.conf_state.clone()),
        })?)
    }

    fn release_to(&mut self, index: u64) -> Result<(), StoreError> {
        self.wal.release_to(index);
        Ok(self.snapshotter.release_db_before(index)?)
    }
    fn idle(&mut self) -> Result<(), StoreError> {
        self.wal.cut_if_full()?;
        Ok(())
    }
}

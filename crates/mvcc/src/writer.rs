//! The handle of the applying thread.

use std::sync::Arc;
use std::thread::JoinHandle;

use backend::{Backend, Bucket};
use bytes::Bytes;

use crate::compaction::{self, CompactionJob, Job, SCHEDULED};
use crate::state::State;
use crate::{Config, Error, Revision, Store, WriteTxn, restore};

/// A store rebuilt from its backend.
#[derive(Debug)]
pub struct Restored {
    /// The read side.
    pub store: Arc<Store>,
    /// The write side.
    pub writer: Writer,
    /// Which keys are attached to which leases, in key order.
    pub leases: Vec<(i64, Bytes)>,
}

/// Changes the store. There is one, and whoever has it applies the raft log. Dropping it ends background work at the
/// next safe point.
#[derive(Debug)]
pub struct Writer {
    store: Arc<Store>,
    /// Same as the state's, without its lock.
    current: i64,
    worker: Option<JoinHandle<()>>,
}

/// Rebuilds the index from the backend and resumes a compaction that was cut short.
///
/// Fails if the backend does, or holds records that are none of etcd's.
pub fn open(backend: Arc<Backend>, config: Config) -> Result<Restored, Error> {
    let restored = restore::run(backend, config.value_cache_bytes)?;
    let current = restored.state.current;
    let marks = restored.marks;
    let store = Arc::new(Store::new(config, restored.state));
    store.compaction.reset(marks.finished, marks.unfinished());
    let mut writer = Writer {
        store: store.clone(),
        current,
        worker: None,
    };
    writer.start();
    Ok(Restored {
        store,
        writer,
        leases: restored.leases,
    })
}

impl Writer {
    /// The read side.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn current(&self) -> i64 {
        self.current
    }

    pub(crate) fn set_current(&mut self, revision: i64) {
        self.current = revision;
    }

    /// Begins a transaction. What it changes belongs to the raft entry that `backend` is in.
    pub fn begin<'a>(&'a mut self, backend: &'a mut backend::Writer) -> WriteTxn<'a> {
        WriteTxn::new(self, backend)
    }

    /// Applies a compaction: from now on nothing before `revision` can be read. The deletion of what is no longer
    /// needed happens in the background, after the running raft entry has ended and is durable.
    ///
    /// Fails with [`Error::Compacted`] if this was done already, with [`Error::FutureRev`] beyond the present revision.
    pub fn compact(
        &mut self,
        backend: &mut backend::Writer,
        revision: i64,
    ) -> Result<CompactionJob, Error> {
        let mut state = self.store.write();
        let previous = state.compacted;
        if revision <= previous {
            return Err(Error::Compacted);
        }
        if revision > state.current {
            return Err(Error::FutureRev);
        }
        state.compacted = revision;
        drop(state);
        let mark = Revision::new(revision, 0).key(false);
        backend.put(
            Bucket::Meta,
            SCHEDULED,
            Bytes::copy_from_slice(mark.as_ref()),
        );
        let ticket = backend.commit();
        if let Some(sink) = self.store.sink() {
            sink.compacted(revision);
        }
        self.store.compaction.enqueue(Job {
            revision,
            previous,
            ticket: Some(ticket),
            keep_hash: true,
        });
        Ok(CompactionJob::new(self.store.clone(), revision))
    }

    /// Replaces the whole content by that of another database, as after a snapshot from the leader. Readers see the
    /// one or the other. Returns the lease attachments.
    pub fn restore(&mut self, backend: Arc<Backend>) -> Result<Vec<(i64, Bytes)>, Error> {
        let restored = restore::run(backend, self.store.config.value_cache_bytes)?;
        self.stop();
        self.current = restored.state.current;
        self.store.hashes.clear();
        let marks = restored.marks;
        let mut state = self.store.write();
        let epoch = state.epoch + 1;
        let old = std::mem::replace(
            &mut *state,
            State {
                epoch,
                ..restored.state
            },
        );
        drop(state);
        self.store
            .compaction
            .reset(marks.finished, marks.unfinished());
        self.start();
        drop(old);
        Ok(restored.leases)
    }

    /// Stops deleting what is compacted, before the database is replaced; [`Writer::restore`] starts it again.
    pub fn suspend(&mut self) {
        self.stop();
    }

    fn start(&mut self) {
        self.worker = compaction::spawn(self.store.clone());
    }

    fn stop(&mut self) {
        self.store.compaction.stop();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

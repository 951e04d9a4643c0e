//! The side of the thread that applies raft entries.

use std::sync::Arc;

use bytes::Bytes;

use crate::layer::Key;
use crate::layers::Mark;
use crate::position::{self, Position};
use crate::shared::Shared;
use crate::{Backend, Bucket, Error, Ticket};

/// Changes the database, entry by entry. There is one, and whoever has it applies the raft log.
///
/// Everything written between two calls of [`Writer::end_entry`] belongs to one raft entry and reaches the file in
/// one commit with that entry's position; there is no other way to write the position.
#[derive(Debug)]
pub struct Writer {
    backend: Arc<Backend>,
}

impl Writer {
    pub(crate) fn new(backend: Arc<Backend>) -> Self {
        Self { backend }
    }

    /// The shared side. Lookups through it see what this writer has written.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    fn shared(&self) -> &Shared {
        self.backend.shared()
    }

    /// Stores a value. The keys that make up the position are refused.
    ///
    /// # Panics
    /// On an empty key and on the keys of bucket `meta` that [`Writer::end_entry`] and [`Writer::set_conf_state`]
    /// write: that is a bug of the caller, never input.
    pub fn put(&mut self, bucket: Bucket, key: impl AsRef<[u8]>, value: Bytes) {
        let key = checked(bucket, key.as_ref());
        self.shared().layers_mut().push(bucket, key, Some(value));
    }

    /// Stores several values of one bucket at once.
    pub fn put_all<K: AsRef<[u8]>>(
        &mut self,
        bucket: Bucket,
        pairs: impl IntoIterator<Item = (K, Bytes)>,
    ) {
        let mut layers = self.shared().layers_mut();
        for (key, value) in pairs {
            layers.push(bucket, checked(bucket, key.as_ref()), Some(value));
        }
    }

    /// Deletes a key; nothing happens if it is not there.
    pub fn delete(&mut self, bucket: Bucket, key: impl AsRef<[u8]>) {
        let key = checked(bucket, key.as_ref());
        self.shared().layers_mut().push(bucket, key, None);
    }

    /// Stores the conf state (JSON) that is in force after the running entry.
    pub fn set_conf_state(&mut self, json: Bytes) {
        let key = Key::from_slice(position::CONF_STATE);
        self.shared()
            .layers_mut()
            .push(Bucket::Meta, key, Some(json));
    }

    /// The value of a key, the running entry's changes included.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.backend.get(bucket, key)
    }

    /// The running entry is complete and has this position. Blocks only while more than
    /// [`Config::max_pending_bytes`](crate::Config::max_pending_bytes) wait for the file. A position that is not
    /// ahead of the last one leaves it as it is.
    pub fn end_entry(&mut self, position: Position) {
        let shared = self.shared();
        let after = shared.layers_mut().end_entry(position);
        if after.changes {
            shared.control.changed(after.mark, after.full);
        } else {
            shared.control.moved(after.mark);
        }
        shared.wait_for_room(after.pending);
    }

    /// Starts a commit of everything written so far, the position included, and gives a ticket to wait for it.
    /// Within an entry the commit happens when the entry has ended.
    pub fn commit(&mut self) -> Ticket {
        let shared = self.shared();
        let layers = shared.layers();
        let ended = layers.mark();
        let running = u64::from(layers.is_running());
        drop(layers);
        let mark = Mark {
            entry: ended.entry + running,
            ..ended
        };
        shared.control.request(mark, ended);
        Ticket::new(shared.control.clone(), mark)
    }
}

/// An owned key that may be written.
pub(crate) fn checked(bucket: Bucket, key: &[u8]) -> Key {
    assert!(!key.is_empty(), "no record of etcd has an empty key");
    assert!(
        !position::is_reserved(bucket, key),
        "the position is written by end_entry only"
    );
    Key::from_slice(key)
}

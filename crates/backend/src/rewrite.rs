//! What a running rewrite of the file has to know about commits to the old one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Bucket;
use crate::layer::Key;
use crate::layers::Batch;

/// How far the copy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// Keys of a state taken earlier are being copied; nobody knows up to where until that is finished.
    Unknown,
    /// Everything up to this bucket name and key, both included.
    UpTo(Vec<u8>, Vec<u8>),
}

/// Collects the keys that changed behind the copy's back. Keys the copy has not reached need no note: it will read
/// them from a newer state. So appends to the `key` bucket, nearly all of what is written, are noted only while the
/// copy is at its end.
#[derive(Debug)]
pub(crate) struct Rewrite {
    copied: Copied,
    stale: BTreeSet<(Bucket, Key)>,
}

impl Rewrite {
    pub fn new() -> Self {
        Self {
            copied: Copied::Unknown,
            stale: BTreeSet::new(),
        }
    }

    /// Batches reached the old file.
    pub fn record(&mut self, batches: &[Arc<Batch>]) {
        for bucket in Bucket::ALL {
            for batch in batches {
                let keys = batch.layer.bucket(bucket).keys();
                let behind = keys
                    .filter(|key| reached(&self.copied, bucket, key))
                    .cloned();
                self.stale.extend(behind.map(|key| (bucket, key)));
            }
        }
    }

    /// The copy goes on from the present state of the old file.
    pub fn start_step(&mut self) {
        self.copied = Copied::Unknown;
    }

    /// The copy has come up to here.
    pub fn end_step(&mut self, name: &[u8], key: &[u8]) {
        let copied = Copied::UpTo(name.to_vec(), key.to_vec());
        self.stale
            .retain(|(bucket, key)| reached(&copied, *bucket, key));
        self.copied = copied;
    }

    /// Keys whose copy is out of date. The caller reads their values from the present state.
    pub fn take_stale(&mut self) -> BTreeSet<(Bucket, Key)> {
        std::mem::take(&mut self.stale)
    }
}

fn reached(copied: &Copied, bucket: Bucket, key: &[u8]) -> bool {
    match copied {
        Copied::Unknown => true,
        Copied::UpTo(name, last) => (bucket.name().as_bytes(), key) <= (&name[..], &last[..]),
    }
}

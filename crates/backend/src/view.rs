//! Consistent reading across the layers.

use std::sync::Arc;

use bytes::Bytes;

use crate::layer::Layer;
use crate::layers::Batch;
use crate::merge::{self, Visit};
use crate::position::Position;
use crate::{Bucket, Error};

/// Sealed batches above a state of the file.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Oldest first.
    pub batches: Vec<Arc<Batch>>,
    pub base: bbolt::ReadTx,
    pub position: Option<Position>,
}

impl Frozen {
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        for batch in self.batches.iter().rev() {
            if let Some(change) = batch.layer.get(bucket, key) {
                return Ok(change.clone());
            }
        }
        crate::file::get(&self.base, bucket, key)
    }
}

/// A pinned state of the database: everything up to the end of some raft entry, and nothing later (unless it is from
/// [`crate::Backend::latest`]). It never changes, and holds back the reuse of the file's pages while it lives, so keep
/// it short.
#[derive(Clone, Debug)]
pub struct View {
    frozen: Arc<Frozen>,
    running: Option<Arc<Layer>>,
}

impl View {
    pub(crate) fn new(frozen: Arc<Frozen>, running: Option<Layer>) -> Self {
        let running = running.filter(|layer| !layer.is_empty()).map(Arc::new);
        Self { frozen, running }
    }

    /// The last raft entry contained as a whole; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        self.frozen.position
    }

    /// The value of a key.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self
            .running
            .as_ref()
            .and_then(|layer| layer.get(bucket, key))
        {
            Some(change) => Ok(change.clone()),
            None => self.frozen.get(bucket, key),
        }
    }

    /// Calls `visit` for each key from `start` on and before `end` (`None`: to the end of the bucket) in key order,
    /// until it breaks. What it gets lives as long as the view.
    pub fn for_each<'v>(
        &'v self,
        bucket: Bucket,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'v, '_>,
    ) -> Result<(), Error> {
        let running = self.running.as_deref();
        let sealed = self.frozen.batches.iter().rev().map(|batch| &batch.layer);
        let layers: Vec<&Layer> = running.into_iter().chain(sealed).collect();
        merge::merge(&layers, &self.frozen.base, bucket, start, end, visit)
    }

    /// Keys that cut a bucket into at most `parts` ranges of similar size, for reading them in parallel. Only a hint:
    /// what has not reached the file yet is not considered.
    pub fn split_keys(&self, bucket: Bucket, parts: usize) -> Result<Vec<Bytes>, Error> {
        let Some(bucket) = self.frozen.base.bucket(bucket.name().as_bytes())? else {
            return Ok(Vec::new());
        };
        Ok(bucket
            .split_keys(parts)?
            .into_iter()
            .map(Bytes::copy_from_slice)
            .collect())
    }
}

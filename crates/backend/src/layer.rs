//! Changes held in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::Bucket;

/// A key; revisions (17 or 18 bytes) need no allocation of their own.
pub(crate) type Key = SmallVec<[u8; 24]>;

/// A value to store, or `None` where a key was deleted.
pub(crate) type Change = Option<Bytes>;

/// What one change costs beside its bytes: two tree slots and the allocation of the value.
const OVERHEAD: usize = 128;

/// Memory one change is counted with.
pub(crate) fn cost(key: &[u8], change: Option<&Bytes>) -> usize {
    OVERHEAD + key.len() + change.map_or(0, Bytes::len)
}

/// The newest change of each key it knows, by bucket. A deletion is a change like any other, so a layer above hides
/// what layers below still hold.
#[derive(Debug, Default, Clone)]
pub(crate) struct Layer {
    buckets: [BTreeMap<Key, Change>; Bucket::COUNT],
    ops: usize,
    bytes: usize,
}

impl Layer {
    /// Number of changes made, overwritten ones included: the unit of the batch limit.
    pub fn ops(&self) -> usize {
        self.ops
    }

    /// Memory held, as counted by [`cost`]; overwritten changes stay counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    pub fn insert(&mut self, bucket: Bucket, key: Key, change: Change) {
        self.ops += 1;
        self.bytes += cost(&key, change.as_ref());
        self.buckets[bucket.index()].insert(key, change);
    }

    /// `Some(None)` means: known to be deleted.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Change> {
        self.buckets[bucket.index()].get(key)
    }

    /// Changes from `start` on and before `end` (`None`: to the last), in key order.
    pub fn range<'a>(
        &'a self,
        bucket: Bucket,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a Change)> + use<'a> {
        // An inverted range would make the tree panic.
        let empty = end.is_some_and(|end| end <= start);
        let bounds = (
            Bound::Included(if empty { &[][..] } else { start }),
            match end {
                Some(_) if empty => Bound::Excluded(&[][..]),
                Some(end) => Bound::Excluded(end),
                None => Bound::Unbounded,
            },
        );
        let map = &self.buckets[bucket.index()];
        let range = if empty {
            None
        } else {
            Some(map.range::<[u8], _>(bounds))
        };
        range
            .into_iter()
            .flatten()
            .map(|(key, change)| (&key[..], change))
    }

    /// All changes of one bucket, in key order.
    pub fn bucket(&self, bucket: Bucket) -> &BTreeMap<Key, Change> {
        &self.buckets[bucket.index()]
    }

    /// Lays newer changes on top of these.
    pub fn absorb(&mut self, newer: Self) {
        self.ops += newer.ops;
        self.bytes += newer.bytes;
        for (mine, theirs) in self.buckets.iter_mut().zip(newer.buckets) {
            if mine.is_empty() {
                *mine = theirs;
            } else {
                mine.extend(theirs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverted_range_is_empty() {
        let mut layer = Layer::default();
        layer.insert(Bucket::Lease, Key::from_slice(b"b"), None);
        assert_eq!(layer.range(Bucket::Lease, b"c", Some(b"a")).count(), 0);
        assert_eq!(layer.range(Bucket::Lease, b"b", Some(b"b")).count(), 0);
        assert_eq!(layer.range(Bucket::Lease, b"b", Some(b"c")).count(), 1);
        assert_eq!(layer.range(Bucket::Lease, b"", None).count(), 1);
    }
}

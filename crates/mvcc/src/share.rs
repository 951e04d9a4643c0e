//! One thread's share of the keys while the index is being rebuilt.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::Revision;
use crate::index::Entry;
use crate::record::Parsed;

/// What the index needs of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'v> {
    revision: Revision,
    tombstone: bool,
    hash: u64,
    parsed: Parsed<'v>,
}

/// Deals records out: all records of a key go to the same share.
#[derive(Debug)]
pub(crate) struct Dealer {
    hasher: DefaultHashBuilder,
    shares: usize,
}

impl Dealer {
    pub fn new(shares: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shares,
        }
    }

    pub fn shares(&self) -> usize {
        self.shares
    }

    /// The record with the number of its share.
    pub fn deal<'v>(
        &self,
        revision: Revision,
        tombstone: bool,
        parsed: Parsed<'v>,
    ) -> (usize, Record<'v>) {
        let hash = self.hasher.hash_one(parsed.key);
        // The share's table uses the lowest and the highest bits.
        let share = (hash >> 24) as u32 as usize % self.shares;
        (
            share,
            Record {
                revision,
                tombstone,
                hash,
                parsed,
            },
        )
    }
}

/// A key being rebuilt.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub entry: Entry,
    hash: u64,
    /// Lease of the newest record.
    pub lease: i64,
}

/// Keys and their histories so far.
#[derive(Debug, Default)]
pub(crate) struct Share {
    table: HashTable<usize>,
    keys: Vec<Rebuilt>,
}

impl Share {
    /// Takes in records, which come in order of revisions.
    pub fn take_in(&mut self, records: &[Record<'_>]) {
        for record in records {
            self.take_in_one(record);
        }
    }

    fn take_in_one(&mut self, record: &Record<'_>) {
        let Record {
            revision,
            tombstone,
            hash,
            parsed,
        } = *record;
        let lease = if tombstone { 0 } else { parsed.lease };
        let keys = &mut self.keys;
        let known = self
            .table
            .find(hash, |i| keys[*i].entry.key() == parsed.key)
            .copied();
        let Some(i) = known else {
            let entry = if tombstone {
                Entry::restored_tombstone(parsed.key, revision)
            } else {
                Entry::restored(parsed.key, revision, parsed.create, parsed.version)
            };
            let i = keys.len();
            keys.push(Rebuilt { entry, hash, lease });
            self.table.insert_unique(hash, i, |i| keys[*i].hash);
            return;
        };
        let key = &mut keys[i];
        key.lease = lease;
        if !tombstone {
            key.entry.put(revision);
        } else if !key.entry.tombstone(revision) {
            tracing::warn!(revision = ?revision, "tombstone encountered error");
        }
    }

    /// No more records come: the keys, sorted.
    pub fn finish(mut self) -> Vec<Rebuilt> {
        self.keys
            .sort_unstable_by(|a, b| a.entry.key().cmp(b.entry.key()));
        self.keys
    }
}

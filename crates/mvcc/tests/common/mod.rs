//! A naive store to compare with, and helpers.
#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::disallowed_methods)] // Tests are at the edge.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::RawKv;
use api::mvccpb::KeyValue;
use backend::{Backend, Position};
use bytes::Bytes;
use disk::{Fs, RealFs};
use mvcc::{Config, Error, RangeOptions, Restored, SortOrder, SortTarget};

pub fn real() -> Arc<dyn Fs> {
    Arc::new(RealFs)
}

pub fn open_backend(fs: Arc<dyn Fs>, dir: &Path) -> (Arc<Backend>, backend::Writer) {
    let config = backend::Config {
        batch_interval: Duration::from_millis(2),
        ..backend::Config::new(dir.join("db"))
    };
    backend::open(fs, config).unwrap()
}

pub fn config() -> Config {
    Config {
        value_cache_bytes: 2000,
        compaction_batch_limit: 7,
        compaction_sleep: Duration::ZERO,
    }
}

/// A store with its backend and its place in the log.
pub struct Member {
    pub backend: Arc<Backend>,
    pub log: backend::Writer,
    pub store: Arc<mvcc::Store>,
    pub writer: mvcc::Writer,
    pub leases: Vec<(i64, Bytes)>,
    pub index: u64,
}

impl Member {
    pub fn open(dir: &Path) -> Self {
        Self::open_with(real(), dir, config())
    }

    pub fn open_with(fs: Arc<dyn Fs>, dir: &Path, config: Config) -> Self {
        let (backend, log) = open_backend(fs, dir);
        let Restored {
            store,
            writer,
            leases,
        } = mvcc::open(backend.clone(), config).unwrap();
        let index = backend.position().map_or(0, |position| position.index);
        Self {
            backend,
            log,
            store,
            writer,
            leases,
            index,
        }
    }

    pub fn end_entry(&mut self) {
        self.index += 1;
        self.log.end_entry(Position {
            index: self.index,
            term: 1,
        });
    }

    /// One entry with one put.
    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        let mut txn = self.writer.begin(&mut self.log);
        txn.put(key, value, 0);
        let revision = txn.finish().revision;
        self.end_entry();
        revision
    }

    /// One entry with one deletion.
    pub fn delete(&mut self, key: &str, end: &str) -> i64 {
        let mut txn = self.writer.begin(&mut self.log);
        txn.delete_range(key.as_bytes(), end.as_bytes());
        let revision = txn.finish().revision;
        self.end_entry();
        revision
    }

    /// One entry with a compaction; waits for the deletions.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let job = self.writer.compact(&mut self.log, revision);
        self.end_entry();
        job?.wait()
    }
}

/// One change of a key.
#[derive(Clone, Debug)]
pub struct Change {
    pub main: i64,
    pub sub: i64,
    /// `None`: deleted.
    pub kv: Option<KeyValue>,
}

/// Remembers everything and looks through all of it.
#[derive(Clone, Debug)]
pub struct Model {
    pub history: BTreeMap<Vec<u8>, Vec<Change>>,
    pub current: i64,
    pub compacted: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            history: BTreeMap::new(),
            current: 1,
            compacted: -1,
        }
    }
}

impl Model {
    /// The pair after all changes up to (main, sub) of a running transaction, or of a finished state.
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let changes = self.history.get(key)?;
        changes
            .iter()
            .rev()
            .find(|change| change.main <= at)?
            .kv
            .as_ref()
    }

    pub fn put(&mut self, main: i64, sub: i64, key: &[u8], value: &[u8], lease: i64) {
        let old = self.get(key, main);
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: old.map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.map_or(1, |old| old.version + 1),
            value: Bytes::copy_from_slice(value),
            lease,
        };
        self.history.entry(key.to_vec()).or_default().push(Change {
            main,
            sub,
            kv: Some(kv),
        });
    }

    pub fn delete(&mut self, main: i64, sub: i64, key: &[u8]) {
        self.history.entry(key.to_vec()).or_default().push(Change {
            main,
            sub,
            kv: None,
        });
    }

    pub fn keys(&self, key: &[u8], end: &[u8], at: i64) -> Vec<Vec<u8>> {
        let inside = |k: &&Vec<u8>| match end {
            b"" => k[..] == *key,
            b"\0" => k[..] >= *key,
            _ => k[..] >= *key && k[..] < *end,
        };
        self.history
            .keys()
            .filter(inside)
            .filter(|k| self.get(k, at).is_some())
            .cloned()
            .collect()
    }

    /// The rules of a range read, followed literally.
    pub fn range(
        &self,
        key: &[u8],
        end: &[u8],
        options: &RangeOptions,
    ) -> Result<(Vec<KeyValue>, i64, bool), Error> {
        let at = if options.revision <= 0 {
            self.current
        } else {
            options.revision
        };
        if at > self.current {
            return Err(Error::FutureRev);
        }
        if at < self.compacted {
            return Err(Error::Compacted);
        }
        let keys = self.keys(key, end, at);
        let count = keys.len() as i64;
        if options.count_only {
            return Ok((Vec::new(), count, false));
        }
        let filters = [
            options.min_mod_revision,
            options.max_mod_revision,
            options.min_create_revision,
            options.max_create_revision,
        ];
        let unordered = options.sort_order == SortOrder::None
            || (options.sort_order == SortOrder::Ascend && options.sort_target == SortTarget::Key);
        let mut kvs: Vec<KeyValue> = keys
            .iter()
            .filter_map(|key| self.get(key, at).cloned())
            .collect();
        if options.limit > 0 && unordered && filters == [0; 4] {
            kvs.truncate(options.limit as usize + 1);
        }
        let inside = |revision: i64, min: i64, max: i64| {
            (min == 0 || revision >= min) && (max == 0 || revision <= max)
        };
        kvs.retain(|kv| {
            inside(
                kv.mod_revision,
                options.min_mod_revision,
                options.max_mod_revision,
            ) && inside(
                kv.create_revision,
                options.min_create_revision,
                options.max_create_revision,
            )
        });
        insertion_sort(&mut kvs, options);
        let more = options.limit > 0 && kvs.len() as i64 > options.limit;
        if more {
            kvs.truncate(options.limit as usize);
        }
        if options.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                if options.sort_target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Ok((kvs, count, more))
    }
}

/// What Go's sort does with few elements; of equal ones the earlier stays first.
fn insertion_sort(kvs: &mut [KeyValue], options: &RangeOptions) {
    let order = |a: &KeyValue, b: &KeyValue| match options.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    let less = |a: &KeyValue, b: &KeyValue| match options.sort_order {
        SortOrder::Descend => order(b, a).is_lt(),
        _ => order(a, b).is_lt(),
    };
    for i in 1..kvs.len() {
        let mut j = i;
        while j > 0 && less(&kvs[j], &kvs[j - 1]) {
            kvs.swap(j, j - 1);
            j -= 1;
        }
    }
}

pub fn parsed(kvs: &[RawKv]) -> Vec<KeyValue> {
    kvs.iter().map(RawKv::to_kv).collect()
}

/// The hash of docs/mvcc.md computed from the records of the bucket and nothing else.
pub fn naive_hash_kv(backend: &Backend, compacted: i64, until: i64) -> u32 {
    let records = records(backend);
    // The newest record of each key's life at `until`, unless the key is dead by then.
    let mut newest: BTreeMap<Bytes, (i64, i64, bool)> = BTreeMap::new();
    for (main, sub, tombstone, _, value) in &records {
        if *main <= until {
            newest.insert(
                RawKv::from_encoded(value.clone()).key(),
                (*main, *sub, *tombstone),
            );
        }
    }
    let keep: Vec<(i64, i64)> = newest
        .values()
        .filter(|(_, _, dead)| !dead)
        .map(|(m, s, _)| (*m, *s))
        .collect();
    let mut crc = crc32c::crc32c(b"key");
    for (main, sub, tombstone, key, value) in &records {
        let dropped = *main <= compacted && !keep.is_empty() && !keep.contains(&(*main, *sub));
        if *main > until || dropped || (*main == compacted && *tombstone) {
            continue;
        }
        crc = crc32c::crc32c_append(crc, key);
        crc = crc32c::crc32c_append(crc, value);
    }
    crc
}

/// Main, sub, tombstone, key, value of each record.
pub fn records(backend: &Backend) -> Vec<(i64, i64, bool, Bytes, Bytes)> {
    let all = backend.range(backend::Bucket::Key, b"", None, 0).unwrap();
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    all.into_iter()
        .map(|(k, v)| (number(&k[..8]), number(&k[9..17]), k.len() == 18, k, v))
        .collect()
}

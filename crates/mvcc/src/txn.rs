//! The write side.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use api::RawKv;
use backend::Bucket;
use bytes::Bytes;

use crate::index::{Entry, KeyMeta};
use crate::record;
use crate::rows::{self, Row};
use crate::span::{Keys, Span};
use crate::state::State;
use crate::{Error, Event, EventKind, RangeOptions, RangeResult, Revision, Store, Writer};

/// Changes brought into the index per hold of the lock.
const PUBLISH: usize = 512;

/// A deleted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// What was deleted; from [`WriteTxn::delete_range`] only if it was at hand.
    pub prev: Option<RawKv>,
}

/// The outcome of a transaction.
#[derive(Clone, Debug)]
pub struct TxnEnd {
    /// The store's revision now: one more than before if anything changed.
    pub revision: i64,
    /// The changes in order.
    pub events: Arc<[Event]>,
}

struct Change {
    event: Event,
    /// What is stored; for a deletion not the event's pair.
    record: Bytes,
    revision: Revision,
    /// The key's state after the change; `None` after a deletion.
    meta: Option<KeyMeta>,
}

struct Latest {
    /// The key's newest change.
    change: usize,
    /// Whether the key lived before the transaction.
    lived: bool,
}

/// One transaction. Its reads see its changes, others see them when it is finished. Dropping it without
/// [`WriteTxn::finish`] leaves no trace.
pub struct WriteTxn<'a> {
    writer: &'a mut Writer,
    backend: &'a mut backend::Writer,
    base: i64,
    changes: Vec<Change>,
    latest: BTreeMap<Bytes, Latest>,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(writer: &'a mut Writer, backend: &'a mut backend::Writer) -> Self {
        let base = writer.current();
        Self {
            writer,
            backend,
            base,
            changes: Vec::new(),
            latest: BTreeMap::new(),
        }
    }

    fn store(&self) -> &Arc<Store> {
        self.writer.store()
    }

    /// The store's revision before the transaction.
    pub fn base_revision(&self) -> i64 {
        self.base
    }

    /// The revision reads of this transaction see: one more than the base once something has changed.
    pub fn revision(&self) -> i64 {
        self.base + i64::from(self.changed())
    }

    /// Whether anything has changed.
    pub fn changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The backend's side of the transaction, for records beside the keys (leases, for one).
    pub fn backend(&mut self) -> &mut backend::Writer {
        self.backend
    }

    /// The state of a key without its value.
    pub fn meta(&self, key: &[u8]) -> Option<KeyMeta> {
        match self.latest.get(key) {
            Some(latest) => self.changes[latest.change].meta,
            None => self
                .store()
                .read()
                .tree
                .get(key)
                .and_then(|entry| entry.at(self.base)),
        }
    }

    /// The row of a key; its pair may have to be loaded.
    fn row(&self, key: &[u8]) -> Option<Row> {
        match self.latest.get(key) {
            Some(latest) => self.own_row(latest, false),
            None => self.store().row_at(key, self.base),
        }
    }

    fn own_row(&self, latest: &Latest, from_index: bool) -> Option<Row> {
        let change = &self.changes[latest.change];
        let meta = change.meta?;
        let kv = if from_index {
            rows::without_value(&change.event.key, meta)
        } else {
            change.event.kv.clone()
        };
        Some(Row { meta, kv: Some(kv) })
    }

    /// The pair of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<RawKv>, Error> {
        let Some(row) = self.row(key) else {
            return Ok(None);
        };
        let mut rows = [row];
        rows::load(self.backend.backend(), &mut rows)?;
        let [row] = rows;
        Ok(row.kv)
    }

    /// Reads a range; see [`Store::range`]. The present revision includes this transaction's changes.
    pub fn range(
        &self,
        key: &[u8],
        end: &[u8],
        options: &RangeOptions,
    ) -> Result<RangeResult, Error> {
        let revision = self.revision();
        if options.revision > revision {
            return Err(Error::FutureRev);
        }
        let own = self.changed() && (options.revision <= 0 || options.revision == revision);
        if !own {
            let result = self.store().range(key, end, options)?;
            return Ok(RangeResult { revision, ..result });
        }
        let (rows, count) = self.collect(Keys::new(key, end), options);
        let mut load = |rows: &mut [Row]| rows::load(self.backend.backend(), rows).map(drop);
        let (kvs, more) = rows::settle(rows, options, &mut load)?;
        Ok(RangeResult {
            revision,
            kvs,
            count: count as i64,
            more,
        })
    }

    /// Rows and count of a range with this transaction's changes in place.
    fn collect(&self, keys: Keys<'_>, options: &RangeOptions) -> (Vec<Row>, usize) {
        let from_index = options.needs_no_records();
        let limit = if options.count_only {
            0
        } else {
            options.read_limit()
        };
        match keys {
            Keys::One(key) => {
                let row = match self.latest.get(key) {
                    Some(latest) => self.own_row(latest, from_index),
                    None => self
                        .store()
                        .read()
                        .tree
                        .get(key)
                        .and_then(|e| Row::of(e, self.base, from_index)),
                };
                let count = usize::from(row.is_some());
                (row.into_iter().take(limit).collect(), count)
            }
            Keys::Span(span) => {
                let mut rows = Vec::new();
                if limit > 0 {
                    self.each(span, from_index, &mut |_, row| {
                        rows.push(row);
                        if rows.len() < limit {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        }
                    });
                }
                (rows, self.count(span))
            }
        }
    }

    fn own_range(&self, span: Span<'_>) -> impl Iterator<Item = (&Bytes, &Latest)> {
        let empty = span.is_empty();
        let upper = span.end.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (!empty).then(|| {
            self.latest
                .range::<[u8], _>((Bound::Included(span.start), upper))
        });
        range.into_iter().flatten()
    }

    fn count(&self, span: Span<'_>) -> usize {
        let before = self.store().count_at(span, self.base);
        let change: isize = self
            .own_range(span)
            .map(|(_, latest)| {
                isize::from(self.changes[latest.change].meta.is_some()) - isize::from(latest.lived)
            })
            .sum();
        before.saturating_add_signed(change)
    }

    /// Visits the keys of a span as they are now, in order.
    fn each(
        &self,
        span: Span<'_>,
        from_index: bool,
        visit: &mut dyn FnMut(&[u8], Row) -> ControlFlow<()>,
    ) {
        let mut own = self.own_range(span).peekable();
        let mut flow = self
            .store()
            .each_at(span, self.base, from_index, &mut |key, row| {
                while let Some((k, latest)) = own.next_if(|(k, _)| k[..] < *key) {
                    if let Some(row) = self.own_row(latest, from_index) {
                        visit(k, row)?;
                    }
                }
                match own.next_if(|(k, _)| k[..] == *key) {
                    Some((_, latest)) => match self.own_row(latest, from_index) {
                        Some(row) => visit(key, row),
                        None => ControlFlow::Continue(()),
                    },
                    None => visit(key, row),
                }
            });
        for (key, latest) in own {
            if flow.is_break() {
                return;
            }
            if let Some(row) = self.own_row(latest, from_index) {
                flow = visit(key, row);
            }
        }
    }

    /// Stores a pair; returns the revision of this transaction.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, lease: i64) -> i64 {
        let key = key.as_ref();
        let old = self.row(key);
        let revision = self.next_revision();
        let create = old.as_ref().map_or(revision.main, |row| row.meta.create);
        let version = old.as_ref().map_or(1, |row| row.meta.version + 1);
        let put = record::encode_put(key, create, revision.main, version, value.as_ref(), lease);
        let meta = KeyMeta {
            modified: revision,
            create,
            version,
        };
        let event = Event {
            kind: EventKind::Put,
            key: put.key,
            kv: put.kv,
            create: create == revision.main,
            prev: old.as_ref().and_then(|row| row.kv.clone()),
            sub: revision.sub,
        };
        let record = event.kv.encoded().clone();
        self.record(
            Change {
                event,
                record,
                revision,
                meta: Some(meta),
            },
            old.is_some(),
        );
        revision.main
    }

    fn next_revision(&self) -> Revision {
        Revision::new(self.base + 1, self.changes.len() as i64)
    }

    fn record(&mut self, change: Change, existed: bool) {
        let index = self.changes.len();
        let latest = self
            .latest
            .entry(change.event.key.clone())
            .or_insert(Latest {
                change: index,
                lived: existed,
            });
        latest.change = index;
        self.changes.push(change);
    }

    /// Deletes the keys of a range in ascending order. Values that are not in memory are not looked up.
    pub fn delete_range(&mut self, key: &[u8], end: &[u8]) -> Vec<Deleted> {
        let rows = self.doomed(key, end);
        self.delete_rows(rows)
    }

    /// Like [`WriteTxn::delete_range`], but every deleted pair is returned.
    pub fn delete_range_with_prev(
        &mut self,
        key: &[u8],
        end: &[u8],
    ) -> Result<Vec<Deleted>, Error> {
        let (keys, mut rows): (Vec<_>, Vec<_>) = self.doomed(key, end).into_iter().unzip();
        rows::load(self.backend.backend(), &mut rows)?;
        Ok(self.delete_rows(keys.into_iter().zip(rows).collect()))
    }

    fn doomed(&self, key: &[u8], end: &[u8]) -> Vec<(Vec<u8>, Row)> {
        match Keys::new(key, end) {
            Keys::One(key) => self
                .row(key)
                .map(|row| (key.to_vec(), row))
                .into_iter()
                .collect(),
            Keys::Span(span) => {
                let mut rows = Vec::new();
                self.each(span, false, &mut |key, row| {
                    rows.push((key.to_vec(), row));
                    ControlFlow::Continue(())
                });
                rows
            }
        }
    }

    fn delete_rows(&mut self, rows: Vec<(Vec<u8>, Row)>) -> Vec<Deleted> {
        let mut deleted = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let revision = self.next_revision();
            let (pair, record) = record::encode_delete(&key, revision.main);
            let event = Event {
                kind: EventKind::Delete,
                key: pair.key,
                kv: pair.kv,
                create: false,
                prev: row.kv.clone(),
                sub: revision.sub,
            };
            deleted.push(Deleted {
                key: event.key.clone(),
                prev: row.kv,
            });
            self.record(
                Change {
                    event,
                    record,
                    revision,
                    meta: None,
                },
                true,
            );
        }
        deleted
    }

    /// Ends the transaction. Its changes go to the backend, to the event sink, and then become visible to readers,
    /// all at once.
    pub fn finish(self) -> TxnEnd {
        let revision = self.revision();
        let Self {
            writer,
            backend,
            changes,
            ..
        } = self;
        if changes.is_empty() {
            return TxnEnd {
                revision,
                events: Arc::default(),
            };
        }
        let records = changes.iter().map(|change| {
            (
                change.revision.key(change.meta.is_none()),
                change.record.clone(),
            )
        });
        backend.put_all(Bucket::Key, records);
        let events: Arc<[Event]> = changes.iter().map(|change| change.event.clone()).collect();
        if let Some(sink) = writer.store().sink() {
            sink.publish(revision, events.clone());
        }
        publish(writer.store(), &changes, revision);
        writer.set_current(revision);
        TxnEnd { revision, events }
    }
}

/// Brings changes into the index. Until the last of them is in, readers see the revision before and find it
/// untouched, since they look for changes up to that revision only.
fn publish(store: &Store, changes: &[Change], revision: i64) {
    let mut rest = changes.chunks(PUBLISH).peekable();
    while let Some(part) = rest.next() {
        let mut state = store.write();
        for change in part {
            state.apply(change);
        }
        if rest.peek().is_none() {
            state.current = revision;
        }
        state.shrink_cache();
    }
}

impl State {
    fn apply(&mut self, change: &Change) {
        let kv = &change.event.kv;
        let cached = (change.meta.is_some() && self.cache.admits(kv)).then(|| kv.clone());
        if let Some(kv) = &cached {
            self.cache.added(kv);
        }
        self.revisions += 1;
        let mut cached = Some(cached);
        let mut old = None;
        let revision = change.revision;
        let put = change.meta.is_some();
        self.tree
            .upsert(&change.event.key, &mut |entry| match entry {
                Some(entry) => {
                    old = entry.set_cached(cached.take().flatten());
                    if put {
                        entry.put(revision);
                    } else {
                        entry.tombstone(revision);
                    }
                    None
                }
                None => {
                    let mut entry = Entry::new(&change.event.key, revision);
                    entry.set_cached(cached.take().flatten());
                    Some(entry)
                }
            });
        self.cache.removed(old.as_ref());
    }
}

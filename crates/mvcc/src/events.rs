//! History for watchers that have fallen behind.

use std::ops::ControlFlow;
use std::sync::Arc;

use api::RawKv;
use backend::Bucket;
use bytes::Bytes;

use crate::record;
use crate::{Error, Event, EventBatch, EventKind, Revision, Store};

/// Collects records into transactions.
struct Collector {
    batch: EventBatch,
    open: Vec<Event>,
    open_revision: i64,
    bytes: usize,
}

impl Collector {
    fn close(&mut self) {
        if !self.open.is_empty() {
            let events: Arc<[Event]> = std::mem::take(&mut self.open).into();
            self.batch.transactions.push((self.open_revision, events));
        }
    }

    /// Takes in the next record, unless it begins a transaction beyond the limits.
    fn add(
        &mut self,
        key: &[u8],
        value: &[u8],
        limits: (usize, usize),
    ) -> Result<ControlFlow<()>, Error> {
        let (revision, tombstone) = Revision::parse(key)?;
        if revision.main != self.open_revision {
            self.close();
            let (max_revisions, max_bytes) = limits;
            let taken = self.batch.transactions.len();
            if taken > 0 && (taken >= max_revisions || self.bytes >= max_bytes) {
                self.batch.next = revision.main;
                return Ok(ControlFlow::Break(()));
            }
            self.open_revision = revision.main;
        }
        self.bytes += value.len();
        self.open.push(event(revision, tombstone, value)?);
        Ok(ControlFlow::Continue(()))
    }
}

fn event(revision: Revision, tombstone: bool, value: &[u8]) -> Result<Event, Error> {
    if tombstone {
        let key = record::parse(value)?.key;
        let (pair, _) = record::encode_delete(key, revision.main);
        let (key, kv) = (pair.key, pair.kv);
        return Ok(Event {
            kind: EventKind::Delete,
            key,
            kv,
            create: false,
            prev: None,
            sub: revision.sub,
        });
    }
    let create = record::parse(value)?.create == revision.main;
    let kv = RawKv::from_encoded(Bytes::copy_from_slice(value));
    Ok(Event {
        kind: EventKind::Put,
        key: kv.key(),
        kv,
        create,
        prev: None,
        sub: revision.sub,
    })
}

impl Store {
    /// Changes from revision `from` on: whole transactions, at most `max_revisions` of them, and no further one once
    /// `max_bytes` of records have been read. At least one if there is any.
    ///
    /// Fails with [`Error::Compacted`] if `from` lies before the compacted revision.
    pub fn events_since(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<EventBatch, Error> {
        let state = self.read();
        let (current, backend) = (state.current, state.backend.clone());
        let from = from.max(1);
        if from < state.compacted {
            return Err(Error::Compacted);
        }
        if from > current {
            return Ok(EventBatch {
                transactions: Vec::new(),
                next: from,
                current,
            });
        }
        let pin = self.pins.pin(from);
        drop(state);
        let batch = EventBatch {
            transactions: Vec::new(),
            next: current + 1,
            current,
        };
        let mut collector = Collector {
            batch,
            open: Vec::new(),
            open_revision: from,
            bytes: 0,
        };
        let limits = (max_revisions, max_bytes);
        let mut result = Ok(ControlFlow::Continue(()));
        let start = Revision::new(from, 0).key(false);
        let end = Revision::new(current.saturating_add(1), 0).key(false);
        backend.for_each(
            Bucket::Key,
            start.as_ref(),
            Some(end.as_ref()),
            &mut |key, value| {
                result = collector.add(key, value, limits);
                result.as_ref().map_or(ControlFlow::Break(()), |flow| *flow)
            },
        )?;
        drop(pin);
        let _ = result?;
        collector.close();
        Ok(collector.batch)
    }
}

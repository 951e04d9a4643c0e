//! A store that is a list of revisions, and a hub without threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::RawKv;
use bytes::Bytes;

use crate::catch_up::CatchUp;
use crate::command::Command;
use crate::dispatcher::Dispatcher;
use crate::hub::open_stream;
use crate::shared::Shared;
use crate::{
    Body, Event, EventKind, History, HistoryChunk, HistoryError, LogLimits, Revision, StreamConfig,
    StreamControl, StreamReceiver, WatchItem, WatchSpec,
};

/// One change: a key, and its new value or `None` for a deletion.
pub type Change = (Bytes, Option<Bytes>);

#[derive(Default)]
struct Data {
    /// Events of revision 2, 3, …
    revisions: Vec<Arc<[Event]>>,
    live: BTreeMap<Bytes, RawKv>,
    compacted: i64,
    /// A compaction that happens in the middle of the next read.
    compact_in_read: Option<i64>,
    fail_reads: usize,
}

/// The store. Its first revision is 1, with no events.
#[derive(Default)]
pub struct Store {
    data: Mutex<Data>,
}

impl Store {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    /// Writes a revision; deletions of keys that do not exist are left out. No events, no revision.
    pub fn write(&self, changes: &[Change]) -> Option<Revision> {
        let mut data = self.data();
        let revision = data.revisions.len() as i64 + 2;
        let mut events: Vec<Event> = Vec::new();
        for (key, value) in changes {
            let prev = data.live.get(key).cloned();
            let mut event = match value {
                Some(value) => put(key, value, revision, prev),
                None if prev.is_none() => continue,
                None => delete(key, revision, prev),
            };
            event.sub = events.len() as i64;
            match event.kind {
                EventKind::Put => data.live.insert(key.clone(), event.kv.clone()),
                EventKind::Delete => data.live.remove(key),
            };
            events.push(event);
        }
        if events.is_empty() {
            return None;
        }
        let events: Arc<[Event]> = events.into();
        data.revisions.push(Arc::clone(&events));
        Some(Revision::new(revision, events))
    }

    pub fn compact(&self, revision: i64) {
        let mut data = self.data();
        data.compacted = data.compacted.max(revision);
    }

    pub fn compact_in_next_read(&self, revision: i64) {
        self.data().compact_in_read = Some(revision);
    }

    pub fn fail_next_reads(&self, times: usize) {
        self.data().fail_reads = times;
    }

    /// All events of a revision, compacted or not.
    pub fn events(&self, revision: i64) -> Arc<[Event]> {
        Arc::clone(&self.data().revisions[revision as usize - 2])
    }
}

fn put(key: &Bytes, value: &Bytes, revision: i64, prev: Option<RawKv>) -> Event {
    let (create, version) = match &prev {
        Some(prev) => (prev.create_revision(), prev.version() + 1),
        None => (revision, 1),
    };
    Event {
        kind: EventKind::Put,
        key: key.clone(),
        kv: RawKv::encode(key, create, revision, version, value, 0),
        create: create == revision,
        prev,
        sub: 0,
    }
}

fn delete(key: &Bytes, revision: i64, prev: Option<RawKv>) -> Event {
    Event {
        kind: EventKind::Delete,
        key: key.clone(),
        kv: RawKv::encode(key, 0, revision, 0, b"", 0),
        create: false,
        prev,
        sub: 0,
    }
}

impl History for Store {
    /// Like the real one, this knows no previous states, and what it read before a compaction
    /// that runs meanwhile may have holes below that compaction's revision.
    fn events_since(
        &self,
        from: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<HistoryChunk, HistoryError> {
        let mut data = self.data();
        if data.fail_reads > 0 {
            data.fail_reads -= 1;
            return Err(HistoryError::Store("disk on fire".into()));
        }
        if from < data.compacted {
            return Err(HistoryError::Compacted);
        }
        let hole = data.compact_in_read.take().unwrap_or(0);
        let mut chunk = HistoryChunk {
            revisions: Vec::new(),
            // Revision 1 has no events.
            next: from.max(2),
        };
        let mut bytes = 0;
        let all = data
            .revisions
            .iter()
            .zip(2i64..)
            .skip((from - 2).max(0) as usize);
        for (events, revision) in all.take(max_revisions) {
            let events: Vec<Event> = events
                .iter()
                .map(|event| Event {
                    prev: None,
                    ..event.clone()
                })
                .collect();
            let entry = Revision::new(revision, events.into());
            bytes += entry.bytes;
            if bytes > max_bytes && revision > from.max(2) {
                break;
            }
            chunk.next = revision + 1;
            if revision >= hole {
                chunk.revisions.push(entry);
            }
        }
        data.compacted = data.compacted.max(hole);
        Ok(chunk)
    }

    fn kv_at(&self, key: &Bytes, revision: i64) -> Option<RawKv> {
        let data = self.data();
        if revision < data.compacted {
            return None;
        }
        let before = &data.revisions[..(revision - 1).max(0) as usize];
        let last = before.iter().rev().flat_map(|events| events.iter().rev());
        let event = last.into_iter().find(|event| event.key == key)?;
        (event.kind == EventKind::Put).then(|| event.kv.clone())
    }

    fn current_revision(&self) -> i64 {
        self.data().revisions.len() as i64 + 1
    }

    fn compact_revision(&self) -> i64 {
        self.data().compacted
    }
}

/// A hub without threads: the test decides who runs when.
pub struct Sim {
    pub store: Arc<Store>,
    pub shared: Arc<Shared>,
    pub dispatcher: Dispatcher,
    /// Work the history thread has been given.
    pub work: Option<CatchUp>,
    next_stream: u64,
}

impl Sim {
    pub fn new() -> Self {
        Self::with(LogLimits::default(), usize::MAX)
    }

    pub fn with(limits: LogLimits, batch_bytes: usize) -> Self {
        let store = Arc::new(Store::default());
        let shared = Arc::new(Shared::new(store.clone(), limits));
        let dispatcher = Dispatcher::new(Arc::clone(&shared), batch_bytes);
        Self {
            store,
            shared,
            dispatcher,
            work: None,
            next_stream: 1,
        }
    }

    pub fn stream(&mut self) -> (StreamControl, StreamReceiver) {
        self.stream_with(StreamConfig::default())
    }

    pub fn stream_with(&mut self, config: StreamConfig) -> (StreamControl, StreamReceiver) {
        self.next_stream += 1;
        open_stream(&self.shared, self.next_stream, config)
    }

    pub fn write(&self, changes: &[Change]) -> Option<i64> {
        let entry = self.store.write(changes)?;
        let revision = entry.revision;
        self.shared.publish(entry);
        Some(revision)
    }

    /// Writes a revision that the log is not told about, as if a snapshot had brought it.
    pub fn write_unseen(&self, changes: &[Change]) -> i64 {
        self.store.write(changes).unwrap().revision
    }

    pub fn put(&self, key: &'static str) -> i64 {
        let value = Bytes::from_static(b"value");
        self.write(&[(Bytes::from_static(key.as_bytes()), Some(value))])
            .unwrap()
    }

    pub fn delete(&self, key: &'static str) -> i64 {
        self.write(&[(Bytes::from_static(key.as_bytes()), None)])
            .unwrap()
    }

    pub fn compact(&self, revision: i64) {
        self.store.compact(revision);
        self.shared.set_compacted(revision);
    }

    /// Tells the hub that the store was replaced.
    pub fn restored(&self) {
        self.shared.restored();
    }

    /// One round of the dispatcher; true if it wants another one at once.
    pub fn round(&mut self) -> bool {
        let more = self.dispatcher.round();
        if self.work.is_none() {
            self.work = self.dispatcher.take_catch_up();
        }
        more
    }

    /// Lets the history thread do its work; false if it has none.
    pub fn read_history(&mut self) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        self.shared.send(Command::CaughtUp(Box::new(work.run())));
        true
    }

    /// Runs everybody but the receivers until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.round() && !self.read_history() {
                return;
            }
        }
        panic!("the dispatcher does not come to rest");
    }
}

pub fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A watcher of one key from a revision on.
pub fn watch(id: i64, name: &'static str, start_revision: i64) -> WatchSpec {
    WatchSpec {
        id,
        key: key(name),
        start_revision,
        ..WatchSpec::default()
    }
}

/// All answers a receiver can get now.
pub fn drain(receiver: &mut StreamReceiver) -> Vec<WatchItem> {
    std::iter::from_fn(|| receiver.try_recv()).collect()
}

/// Answers in short: id, what, header revision and the revisions of the events.
pub fn brief(items: &[WatchItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| {
            let what = match &item.body {
                Body::Created => "created".to_owned(),
                Body::Refused { reason } => format!("refused {reason}"),
                Body::Progress => "progress".to_owned(),
                Body::Canceled => "canceled".to_owned(),
                Body::Compacted { compact_revision } => format!("compacted {compact_revision}"),
                Body::Events(events) => {
                    let revisions: Vec<String> = events
                        .iter()
                        .map(|event| event.kv.mod_revision().to_string())
                        .collect();
                    format!("events {}", revisions.join(" "))
                }
            };
            format!("{} {what} @{}", item.watch_id, item.revision)
        })
        .collect()
}

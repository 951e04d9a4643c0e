//! The hub with its threads, on a real store: what a member does with it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use backend::{Backend, Position};
use bytes::Bytes;
use watch::{
    Body, Config, Hub, LogLimits, StreamConfig, StreamControl, StreamReceiver, WatchItem, WatchSpec,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A hub on a store on a database.
struct Member {
    hub: Hub,
    store: Arc<mvcc::Store>,
    writer: mvcc::Writer,
    db: backend::Writer,
    index: u64,
    backend: Arc<Backend>,
    _dir: tempfile::TempDir,
}

impl Member {
    fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = backend::Config::new(dir.path().join("db"));
        let (backend, db) = backend::open(Arc::new(disk::RealFs), db).unwrap();
        let restored = mvcc::open(Arc::clone(&backend), mvcc::Config::default()).unwrap();
        let hub = Hub::start(restored.store.clone(), config).unwrap();
        restored.store.set_sink(hub.sink());
        let (store, writer) = (restored.store, restored.writer);
        Self {
            hub,
            store,
            writer,
            db,
            index: 0,
            backend,
            _dir: dir,
        }
    }

    fn end_entry(&mut self) {
        self.index += 1;
        self.db.end_entry(Position {
            index: self.index,
            term: 1,
        });
    }

    fn put(&mut self, key: &str) -> i64 {
        let mut txn = self.writer.begin(&mut self.db);
        txn.put(key, b"value", 0);
        let revision = txn.finish().revision;
        self.end_entry();
        revision
    }

    fn delete(&mut self, key: &str) -> i64 {
        let mut txn = self.writer.begin(&mut self.db);
        txn.delete_range(key.as_bytes(), b"");
        let revision = txn.finish().revision;
        self.end_entry();
        revision
    }

    fn compact(&mut self, revision: i64) {
        let job = self.writer.compact(&mut self.db, revision).unwrap();
        self.end_entry();
        job.wait().unwrap();
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn next(receiver: &mut StreamReceiver) -> WatchItem {
    block_on(receiver.recv()).unwrap()
}

/// Revisions of the events of the next answer.
fn revisions(receiver: &mut StreamReceiver) -> Vec<i64> {
    match next(receiver).body {
        Body::Events(events) => events.iter().map(|event| event.kv.mod_revision()).collect(),
        other => panic!("{other:?}"),
    }
}

const SHORT_LOG: LogLimits = LogLimits {
    revisions: 2,
    bytes: usize::MAX,
};

/// Writers, slow and fast readers, progress requests, all at once, with a log so short that most
/// is read from the store, and with a long one.
#[test]
fn many_threads_lose_nothing() {
    const REVISIONS: i64 = 3000;
    for log in [SHORT_LOG, LogLimits::default()] {
        let mut member = Member::start(Config {
            log,
            ..Config::default()
        });
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let config = StreamConfig {
                    items: 1 << (3 * reader),
                    ..StreamConfig::default()
                };
                let (control, receiver) = member.hub.stream(config);
                scope.spawn(move || read_all(&control, receiver, 1 + REVISIONS));
            }
            for n in 0..REVISIONS {
                assert_eq!(member.put(["a", "b", "c"][n as usize % 3]), n + 2);
            }
        });
    }
}

/// Watches all keys from the beginning, one key from the beginning, and all keys from now on; asks
/// for progress all the time.
fn read_all(control: &StreamControl, mut receiver: StreamReceiver, last: i64) {
    let all = WatchSpec {
        key: key("a"),
        end: key("\0"),
        ..WatchSpec::default()
    };
    let one = WatchSpec {
        key: key("b"),
        ..WatchSpec::default()
    };
    control
        .create(WatchSpec {
            id: 1,
            start_revision: 1,
            ..all.clone()
        })
        .unwrap();
    control
        .create(WatchSpec {
            id: 2,
            start_revision: 2,
            ..one
        })
        .unwrap();
    control.create(WatchSpec { id: 3, ..all }).unwrap();
    // Per watcher the next revision it must get, and the step to the one after that.
    let mut expected = BTreeMap::new();
    while expected.len() < 3 || expected.values().any(|&(revision, _)| revision <= last) {
        let item = next(&mut receiver);
        match item.body {
            Body::Created => {
                let first = [(2, 1), (3, 3), (item.revision + 1, 1)];
                expected.insert(item.watch_id, first[item.watch_id as usize - 1]);
            }
            Body::Events(events) => {
                let (revision, step) = expected.get_mut(&item.watch_id).unwrap();
                for event in events.iter() {
                    assert_eq!(event.kv.mod_revision(), *revision);
                    *revision += *step;
                }
            }
            Body::Progress => {
                assert_eq!(item.watch_id, -1);
                assert!(
                    expected
                        .values()
                        .all(|&(revision, _)| revision > item.revision)
                );
            }
            other => panic!("{other:?}"),
        }
        // Refused while too many are unanswered.
        let _ = control.progress();
    }
}

/// 18089 and 19179 with the real store: the deletion at the compaction revision stays readable,
/// from the file too, after the compaction has deleted what it had to.
#[test]
fn a_deletion_at_the_compaction_revision_is_read_from_the_store() {
    let mut member = Member::start(Config {
        log: SHORT_LOG,
        ..Config::default()
    });
    member.put("a");
    let deleted = member.delete("a");
    for _ in 0..3 {
        member.put("b");
    }
    member.compact(deleted);
    let (control, mut receiver) = member.hub.stream(StreamConfig::default());
    let spec = WatchSpec {
        key: key("a"),
        prev_kv: true,
        ..WatchSpec::default()
    };
    control
        .create(WatchSpec {
            start_revision: deleted,
            ..spec.clone()
        })
        .unwrap();
    assert!(matches!(next(&mut receiver).body, Body::Created));
    assert_eq!(revisions(&mut receiver), [deleted]);
    control
        .create(WatchSpec {
            start_revision: deleted - 1,
            ..spec
        })
        .unwrap();
    assert!(matches!(next(&mut receiver).body, Body::Created));
    match next(&mut receiver).body {
        Body::Compacted { compact_revision } => assert_eq!(compact_revision, deleted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_acknowledged_before_a_request_is_known_when_it_is_answered() {
    let mut member = Member::start(Config::default());
    for _ in 0..200 {
        let (control, mut receiver) = member.hub.stream(StreamConfig::default());
        let before = member.put("a");
        control
            .create(WatchSpec {
                key: key("a"),
                ..WatchSpec::default()
            })
            .unwrap();
        let created = next(&mut receiver);
        assert_eq!(created.revision, before);
        let after = member.put("a");
        control.progress().unwrap();
        assert_eq!(revisions(&mut receiver), [after]);
        let progress = next(&mut receiver);
        assert_eq!((progress.watch_id, progress.revision), (-1, after));
    }
}

/// Revision 1 is the empty store's: it is in no log and has no events.
#[test]
fn an_empty_store_can_be_watched_from_its_first_revision() {
    let mut member = Member::start(Config::default());
    let (control, mut receiver) = member.hub.stream(StreamConfig::default());
    let spec = WatchSpec {
        key: key("a"),
        start_revision: 1,
        ..WatchSpec::default()
    };
    control.create(spec).unwrap();
    assert_eq!(next(&mut receiver).revision, 1);
    member.put("a");
    assert_eq!(revisions(&mut receiver), [2]);
}

/// A snapshot of another member replaces the content under the hub.
#[test]
fn watchers_go_on_after_the_store_was_replaced() {
    let mut member = Member::start(Config::default());
    let mut leader = Member::start(Config::default());
    let (control, mut receiver) = member.hub.stream(StreamConfig::default());
    control
        .create(WatchSpec {
            key: key("a"),
            ..WatchSpec::default()
        })
        .unwrap();
    assert!(matches!(next(&mut receiver).body, Body::Created));
    for _ in 0..3 {
        member.put("a");
        leader.put("a");
        next(&mut receiver);
    }
    for _ in 0..3 {
        leader.put("a");
    }
    member.writer.restore(Arc::clone(&leader.backend)).unwrap();
    member.hub.restored();
    assert_eq!(revisions(&mut receiver), [5, 6, 7]);
}

#[test]
fn shutting_down_ends_streams_and_requests() {
    let mut member = Member::start(Config::default());
    let (control, mut receiver) = member.hub.stream(StreamConfig::default());
    control
        .create(WatchSpec {
            key: key("a"),
            ..WatchSpec::default()
        })
        .unwrap();
    assert!(matches!(next(&mut receiver).body, Body::Created));
    member.hub.shutdown();
    assert!(block_on(receiver.recv()).is_none());
    block_on(control.ready());
    assert!(control.progress().is_err());
    drop((receiver, control));
    let (control, mut receiver) = member.hub.stream(StreamConfig::default());
    assert!(block_on(receiver.recv()).is_none());
    assert!(control.progress().is_err());
    // Publishing goes on without anybody.
    member.put("a");
    let store = Arc::downgrade(&member.store);
    drop((receiver, control));
    drop(member);
    assert!(store.upgrade().is_none(), "hub and store hold each other");
}

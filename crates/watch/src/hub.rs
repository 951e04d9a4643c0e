//! The handle to everything, and the two threads behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::Event;
use crate::catch_up::CatchUp;
use crate::command::Command;
use crate::dispatcher::Dispatcher;
use crate::history::History;
use crate::log::{LogLimits, Revision};
use crate::queue::{Queue, StreamConfig};
use crate::shared::Shared;
use crate::stats::StatsSnapshot;
use crate::stream::{StreamControl, StreamReceiver};

/// Pause after the store could not be read.
const RETRY: Duration = Duration::from_millis(100);

/// Options of a [`Hub`].
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Bounds of the event log.
    pub log: LogLimits,
    /// Most bytes of events in one answer to a watcher that catches up; one revision is sent
    /// however large it is.
    pub batch_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogLimits::default(),
            batch_bytes: 2 << 20,
        }
    }
}

/// All watching of a member. See `docs/watch.md`.
///
/// The apply thread publishes revisions; frontends open streams; one thread brings them together
/// and another reads history for watchers that are far behind. Dropping the hub ends the threads
/// and all streams.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    next_stream: AtomicU64,
    threads: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Starts watching after the store's current revision.
    pub fn start(history: Arc<dyn History>, config: Config) -> io::Result<Hub> {
        let shared = Arc::new(Shared::new(history, config.log));
        let (work, todo) = bounded(1);
        let dispatcher = Dispatcher::new(Arc::clone(&shared), config.batch_bytes);
        let history = Builder::new().name("watch-history".into()).spawn({
            let shared = Arc::clone(&shared);
            move || read_history(&shared, &todo)
        })?;
        let dispatch = Builder::new().name("watch-dispatch".into());
        let dispatch = dispatch.spawn(move || run(dispatcher, &work))?;
        let threads = vec![dispatch, history];
        Ok(Hub {
            shared,
            next_stream: AtomicU64::new(1),
            threads,
        })
    }

    /// Opens a stream.
    pub fn stream(&self, config: StreamConfig) -> (StreamControl, StreamReceiver) {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        open_stream(&self.shared, id, config)
    }

    /// Adds the events of a revision, in the order of revisions, before or when the revision
    /// becomes visible to readers. Takes a short lock and wakes a thread at most.
    pub fn publish(&self, revision: i64, events: Arc<[Event]>) {
        self.shared.publish(Revision::new(revision, events));
    }

    /// Revisions below this one are gone.
    pub fn compacted(&self, revision: i64) {
        self.shared.set_compacted(revision);
    }

    /// What a store needs to publish here. It does not keep the hub alive.
    pub fn sink(&self) -> Arc<dyn mvcc::EventSink> {
        Arc::new(Sink(Arc::downgrade(&self.shared)))
    }

    /// The store's content was replaced, by a snapshot from the leader. Watchers go on from the
    /// revision they need next, out of the new history.
    pub fn restored(&self) {
        self.shared.restored();
    }

    /// The store in use.
    pub fn history(&self) -> Arc<dyn History> {
        self.shared.history()
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// Ends all streams: their receivers get `None` after what is in the queues.
    pub fn shutdown(&self) {
        self.shared.stop();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A panic there was reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// The store holds its sink and the hub holds the store as its history; weak, lest neither ends.
struct Sink(Weak<Shared>);

impl mvcc::EventSink for Sink {
    fn publish(&self, revision: i64, events: Arc<[Event]>) {
        if let Some(shared) = self.0.upgrade() {
            shared.publish(Revision::new(revision, events));
        }
    }

    fn compacted(&self, revision: i64) {
        if let Some(shared) = self.0.upgrade() {
            shared.set_compacted(revision);
        }
    }
}

/// Makes the two ends of a stream and tells the dispatcher.
pub(crate) fn open_stream(
    shared: &Arc<Shared>,
    id: u64,
    config: StreamConfig,
) -> (StreamControl, StreamReceiver) {
    let queue = Arc::new(Queue::new(config));
    shared.send(Command::Open(id, Arc::clone(&queue)));
    if shared.is_stopping() {
        // The dispatcher may have looked at its commands for the last time.
        queue.end();
    }
    let control = StreamControl {
        shared: Arc::clone(shared),
        queue: Arc::clone(&queue),
        id,
    };
    let receiver = StreamReceiver {
        shared: Arc::clone(shared),
        queue,
        id,
        items: VecDeque::new(),
    };
    (control, receiver)
}

fn run(mut dispatcher: Dispatcher, work: &Sender<CatchUp>) {
    let shared = Arc::clone(&dispatcher.shared);
    let mut quiet = 0;
    while !shared.is_stopping() {
        let before = dispatcher.position;
        let more = dispatcher.round();
        if let Some(catch_up) = dispatcher.take_catch_up() {
            // There is room: the next one is handed out after this one came back.
            let _ = work.send(catch_up);
        }
        // Revisions that nobody watches are no reason to stay up.
        let fruitful = dispatcher.position != before && dispatcher.watchers.len() > 0;
        quiet = if fruitful { 0 } else { quiet + 1 };
        if !more {
            shared.rest(dispatcher.position, quiet);
        }
    }
    dispatcher.end();
}

/// How long history is left alone after a stretch of it was read: a lagging watcher gets a fifth of a processor.
fn rest_after(reading: Duration) -> Duration {
    (reading * 4).min(RETRY)
}

#[allow(clippy::disallowed_methods)] // the clock only paces this thread; nothing that is replayed depends on it
fn read_history(shared: &Shared, todo: &Receiver<CatchUp>) {
    for catch_up in todo {
        let began = Instant::now();
        let caught_up = catch_up.run();
        // Reading as fast as possible would take the processors from those who write now.
        std::thread::sleep(if caught_up.failed {
            RETRY
        } else {
            rest_after(began.elapsed())
        });
        shared.send(Command::CaughtUp(Box::new(caught_up)));
    }
}

//! The one who knows all watchers: hands each revision to those it concerns.
//!
//! Everything here runs on one thread and never waits: not for the disk, not for a receiver. A
//! watcher that cannot be served at once is put aside with the revision it needs next; see
//! `behind.rs`.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use smallvec::smallvec;

use crate::command::{Command, StreamId};
use crate::index::Index;
use crate::item::{Body, WatchItem};
use crate::log::{Read, Revision};
use crate::queue::{Pushed, Queue};
use crate::range::KeyRange;
use crate::shared::Shared;
use crate::slab::{Handle, Slab};
use crate::spec::WatchSpec;
use crate::stats::Stats;
use crate::watcher::{State, Stream, Watcher};

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// How many revisions are dispatched before the receivers are woken.
const DISPATCH_REVISIONS: usize = 64;

/// Watch id of answers that are for no watcher.
const NO_WATCHER: i64 = -1;

/// See the module's text.
pub(crate) struct Dispatcher {
    pub(crate) shared: Arc<Shared>,
    /// The last revision that was handed to all synced watchers.
    pub(crate) position: i64,
    pub(crate) watchers: Slab<Watcher>,
    streams: HashMap<StreamId, Stream>,
    /// All watchers that are not lost.
    index: Index,
    /// Watchers behind, in state `Waiting`.
    pub(crate) waiting: VecDeque<Handle>,
    /// Those of them that need the history thread.
    pub(crate) cold: VecDeque<Handle>,
    /// The history thread works.
    pub(crate) away: bool,
    /// Most bytes of one answer with several revisions.
    pub(crate) batch_bytes: usize,
    /// Receivers to wake.
    wakers: Vec<Waker>,
    commands: Vec<Command>,
    // Scratch space.
    entries: Vec<Revision>,
    found: Vec<u32>,
    matches: Vec<(u32, u32)>,
    places: Vec<u32>,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>, batch_bytes: usize) -> Self {
        let position = shared.log().last();
        Self {
            shared,
            position,
            watchers: Slab::default(),
            streams: HashMap::new(),
            index: Index::default(),
            waiting: VecDeque::new(),
            cold: VecDeque::new(),
            away: false,
            batch_bytes,
            wakers: Vec::new(),
            commands: Vec::new(),
            entries: Vec::new(),
            found: Vec::new(),
            matches: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Does a bounded amount of what there is to do; false if nothing is left to do at once.
    pub(crate) fn round(&mut self) -> bool {
        // Commands are taken before the log is read: whatever revision a client knew when it made
        // a request is dispatched before the request is looked at.
        let mut commands = std::mem::take(&mut self.commands);
        self.shared.take_commands(&mut commands);
        self.advance();
        for command in commands.drain(..) {
            self.execute(command);
        }
        self.commands = commands;
        self.serve_waiting();
        self.wake();
        !self.waiting.is_empty()
    }

    /// Nobody will be served any more.
    pub(crate) fn end(&mut self) {
        let mut commands = Vec::new();
        self.shared.take_commands(&mut commands);
        for command in commands {
            if let Command::Open(id, queue) = command {
                self.streams.insert(id, Stream::new(queue));
            }
        }
        for (_, stream) in self.streams.drain() {
            stream.queue.end();
        }
    }

    /// Wakes a receiver at the end of the round.
    pub(crate) fn wake_later(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Dispatches everything that was published before the call.
    fn advance(&mut self) {
        let target = self.shared.log().last();
        if self.watchers.len() == 0 {
            self.position = target;
            return;
        }
        while self.position != target {
            let mut entries = std::mem::take(&mut self.entries);
            let bounds = (DISPATCH_REVISIONS, usize::MAX);
            let read = self
                .shared
                .log()
                .read(self.position + 1, target, bounds, &mut entries);
            if let Read::Lost(last) = read {
                self.jump(last);
            }
            for entry in entries.drain(..) {
                self.dispatch(&entry);
                self.position = entry.revision;
            }
            self.entries = entries;
            self.wake();
            if matches!(read, Read::Lost(_)) {
                break;
            }
        }
    }

    /// The log does not go on from where we are: it ran ahead of us by more than its bounds, or
    /// the store was replaced. Watchers keep their place and catch up from there.
    fn jump(&mut self, to: i64) {
        let unseen = self.position + 1;
        self.position = to;
        let mut behind = 0;
        for (handle, watcher) in self.watchers.iter_mut() {
            if watcher.state != State::Synced {
                continue;
            }
            watcher.next = watcher.next.max(unseen);
            if watcher.next <= to {
                watcher.state = State::Waiting;
                self.waiting.push_back(handle);
                behind += 1;
            }
        }
        Stats::add(&self.shared.stats.behind, behind);
    }

    /// Hands one revision to the synced watchers it concerns.
    fn dispatch(&mut self, entry: &Revision) {
        if let [event] = &entry.events[..] {
            let mut found = std::mem::take(&mut self.found);
            self.index.search(&event.key, &mut found);
            for number in found.drain(..) {
                self.deliver(number, entry, None);
            }
            self.found = found;
            return;
        }
        let mut matches = std::mem::take(&mut self.matches);
        for (place, event) in entry.events.iter().enumerate() {
            self.found.clear();
            self.index.search(&event.key, &mut self.found);
            matches.extend(self.found.drain(..).map(|number| (number, place as u32)));
        }
        matches.sort_unstable();
        let mut places = std::mem::take(&mut self.places);
        for group in matches.chunk_by(|a, b| a.0 == b.0) {
            places.clear();
            places.extend(group.iter().map(|pair| pair.1));
            self.deliver(group[0].0, entry, Some(&places));
        }
        matches.clear();
        (self.matches, self.places) = (matches, places);
    }

    fn deliver(&mut self, number: u32, entry: &Revision, places: Option<&[u32]>) {
        let Some((handle, watcher)) = self.watchers.at(number) else {
            return;
        };
        if watcher.state != State::Synced || entry.revision < watcher.next {
            return;
        }
        let Some(part) = watcher.filters.part(entry, places) else {
            return;
        };
        let count = part.len() as u64;
        let body = Body::Events(watcher.events(smallvec![part]));
        let item = WatchItem::plain(watcher.id, entry.revision, body);
        match watcher.queue.push_events(item, entry.bytes) {
            Pushed::Yes(waker) => {
                watcher.active = true;
                self.wakers.extend(waker);
                Stats::add(&self.shared.stats.events, count);
            }
            Pushed::Full => {
                watcher.next = entry.revision;
                self.park(handle);
            }
        }
    }

    /// Puts a watcher aside until its receiver has taken what fills the queue.
    pub(crate) fn park(&mut self, handle: Handle) {
        let Some(watcher) = self.watchers.get_mut(handle) else {
            return;
        };
        if watcher.state == State::Synced {
            Stats::add(&self.shared.stats.behind, 1);
        }
        Stats::add(&self.shared.stats.full, 1);
        watcher.state = State::Parked;
        if let Some(stream) = self.streams.get_mut(&watcher.stream) {
            stream.parked.push(handle);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Open(id, queue) => {
                self.streams.insert(id, Stream::new(queue));
                Stats::add(&self.shared.stats.streams, 1);
            }
            Command::Create(stream, spec) => {
                if !self.create(stream, &spec) {
                    self.shared.watcher_gone();
                }
            }
            Command::Reject(stream, reason) => {
                if let Some(stream) = self.streams.get(&stream) {
                    let queue = Arc::clone(&stream.queue);
                    self.refuse(&queue, reason);
                }
            }
            Command::Cancel(stream, id) => self.cancel(stream, id),
            Command::Progress(stream) => self.progress(stream),
            Command::Tick(stream) => self.tick(stream),
            Command::Drained(stream) => self.drained(stream),
            Command::Close(stream) => self.close(stream),
            Command::CaughtUp(caught_up) => self.caught_up(*caught_up),
        }
    }

    fn answer(&mut self, queue: &Queue, item: WatchItem) {
        self.wakers.extend(queue.push_answer(item));
    }

    fn refuse(&mut self, queue: &Queue, reason: Cow<'static, str>) {
        let item = WatchItem::plain(NO_WATCHER, self.position, Body::Refused { reason });
        self.answer(queue, item);
    }

    /// Makes a watcher, or says why not. The order of the checks is the one clients know.
    fn create(&mut self, stream_id: StreamId, spec: &WatchSpec) -> bool {
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return false;
        };
        let queue = Arc::clone(&stream.queue);
        if spec.start_revision < 0 {
            self.refuse(&queue, COMPACTED.into());
            return false;
        }
        let Some(range) = KeyRange::from_request(&spec.key, &spec.end) else {
            self.refuse(&queue, EMPTY_RANGE.into());
            return false;
        };
        let Some(id) = stream.pick_id(spec.id) else {
            self.refuse(&queue, DUPLICATE_ID.into());
            return false;
        };
        let position = self.position;
        let start = spec.start_revision;
        let behind = start != 0 && start <= position;
        let watcher = Watcher {
            stream: stream_id,
            id,
            queue: Arc::clone(&queue),
            range: range.clone(),
            start,
            next: if behind {
                start
            } else {
                start.max(position + 1)
            },
            filters: spec.filters,
            prev_kv: spec.prev_kv,
            fragment: spec.fragment,
            progress_notify: spec.progress_notify,
            state: if behind {
                State::Waiting
            } else {
                State::Synced
            },
            active: false,
        };
        let handle = self.watchers.insert(watcher);
        stream.watchers.insert(id, handle);
        self.index.insert(&range, handle.number);
        Stats::add(&self.shared.stats.watchers, 1);
        self.answer(&queue, WatchItem::plain(id, position, Body::Created));
        if behind {
            Stats::add(&self.shared.stats.behind, 1);
            let compacted = self.shared.compacted();
            if start < compacted {
                self.lose(handle, compacted);
            } else {
                self.waiting.push_back(handle);
            }
        }
        true
    }

    /// Ends a watcher that needs compacted revisions. Its id stays until it is cancelled.
    pub(crate) fn lose(&mut self, handle: Handle, compact_revision: i64) {
        let Some(watcher) = self.watchers.get_mut(handle) else {
            return;
        };
        let item = WatchItem::plain(watcher.id, 0, Body::Compacted { compact_revision });
        match watcher.queue.push_events(item, 0) {
            Pushed::Yes(waker) => {
                if watcher.state != State::Synced {
                    Stats::sub(&self.shared.stats.behind, 1);
                }
                watcher.state = State::Lost;
                self.index.remove(&watcher.range, handle.number);
                self.wakers.extend(waker);
            }
            Pushed::Full => self.park(handle),
        }
    }

    fn cancel(&mut self, stream_id: StreamId, id: i64) {
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return;
        };
        let queue = Arc::clone(&stream.queue);
        match stream.watchers.remove(&id) {
            Some(handle) => {
                self.remove(handle);
                self.answer(&queue, WatchItem::plain(id, self.position, Body::Canceled));
            }
            None => self.wakers.extend(queue.finish_request()),
        }
    }

    fn remove(&mut self, handle: Handle) {
        let Some(watcher) = self.watchers.remove(handle) else {
            return;
        };
        match watcher.state {
            State::Lost => {}
            State::Synced => self.index.remove(&watcher.range, handle.number),
            State::Waiting | State::Away | State::Parked => {
                self.index.remove(&watcher.range, handle.number);
                Stats::sub(&self.shared.stats.behind, 1);
            }
        }
        Stats::sub(&self.shared.stats.watchers, 1);
        self.shared.watcher_gone();
    }

    fn close(&mut self, stream: StreamId) {
        let Some(stream) = self.streams.remove(&stream) else {
            return;
        };
        Stats::sub(&self.shared.stats.streams, 1);
        for (_, handle) in stream.watchers {
            self.remove(handle);
        }
    }

    /// Answers a progress request if every watcher of the stream was given everything up to our
    /// position. Otherwise silence: the client learns from the events how far it is.
    fn progress(&mut self, stream_id: StreamId) {
        // Watchers that were just created on a revision still in the log are up to date after this.
        self.serve_waiting();
        let Some(stream) = self.streams.get(&stream_id) else {
            return;
        };
        let queue = Arc::clone(&stream.queue);
        let position = self.position;
        let watchers = &mut self.watchers;
        let served = !stream.watchers.is_empty()
            && stream.watchers.values().all(|&handle| {
                watchers
                    .get_mut(handle)
                    .is_some_and(|watcher| watcher.is_served_up_to(position))
            });
        if served {
            self.answer(
                &queue,
                WatchItem::plain(NO_WATCHER, position, Body::Progress),
            );
        } else {
            self.wakers.extend(queue.finish_request());
        }
    }

    /// Tells quiet watchers that asked for it where they are.
    fn tick(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get(&stream_id) else {
            return;
        };
        let (position, watchers) = (self.position, &mut self.watchers);
        let items = stream.watchers.iter().filter_map(|(&id, &handle)| {
            let watcher = watchers.get_mut(handle)?;
            let quiet = !std::mem::take(&mut watcher.active);
            (watcher.progress_notify && quiet && watcher.is_served_up_to(position))
                .then(|| WatchItem::plain(id, position, Body::Progress))
        });
        let items: Vec<_> = items.collect();
        self.wakers
            .extend(stream.queue.push_ticks(items.into_iter()));
    }

    /// The receiver has room again: those that waited for it go on where they were.
    fn drained(&mut self, stream_id: StreamId) {
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return;
        };
        for handle in stream.parked.drain(..) {
            if let Some(watcher) = self.watchers.get_mut(handle)
                && watcher.state == State::Parked
            {
                watcher.state = State::Waiting;
                self.waiting.push_back(handle);
            }
        }
    }
}

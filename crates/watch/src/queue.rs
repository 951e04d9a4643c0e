//! The bounded queue between the dispatcher and one stream's receiver.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::item::{Body, WatchItem};

/// Bounds of a stream's queue.
///
/// A receiver that does not read makes its stream hold at most twice `items` answers with twice
/// `bytes` of events (one half in the queue, one taken over by the receiver), plus `requests`
/// answers to requests and one progress notification per watcher. One answer may be larger than
/// `bytes`: it is let in when the queue is empty.
#[derive(Debug, Clone, Copy)]
pub struct StreamConfig {
    /// Most answers with events.
    pub items: usize,
    /// Most bytes of events.
    pub bytes: usize,
    /// Most requests (create, cancel, progress) whose answers were not received yet.
    pub requests: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            items: 128,
            bytes: 4 << 20,
            requests: 64,
        }
    }
}

/// Outcome of [`Queue::push_events`].
pub(crate) enum Pushed {
    /// In the queue. Wake this when the round is over.
    Yes(Option<Waker>),
    /// No room; the receiver will say when it has taken what is there.
    Full,
}

/// What a receiver takes over at once.
pub(crate) enum Taken {
    Items {
        /// There was no room for something: the dispatcher wants to know that there is now.
        drained: bool,
        /// Somebody waits to make a request.
        requester: Option<Waker>,
    },
    Nothing,
    Ended,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<WatchItem>,
    event_items: usize,
    event_bytes: usize,
    answers: usize,
    ticks: usize,
    /// An answer did not fit since the receiver took the queue's content.
    blocked: bool,
    ended: bool,
    receiver: Option<Waker>,
    /// Requests whose answers the receiver has not taken.
    requests: usize,
    requester: Option<Waker>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Queue {
    config: StreamConfig,
    inner: Mutex<Inner>,
}

impl Queue {
    pub(crate) fn new(config: StreamConfig) -> Self {
        Self {
            config,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an answer with events if there is room.
    pub(crate) fn push_events(&self, item: WatchItem, bytes: usize) -> Pushed {
        let mut inner = self.lock();
        if inner.ended {
            return Pushed::Yes(None);
        }
        let full = inner.event_items >= self.config.items
            || inner.event_bytes.saturating_add(bytes) > self.config.bytes;
        if full && inner.event_items > 0 {
            inner.blocked = true;
            return Pushed::Full;
        }
        inner.event_items += 1;
        inner.event_bytes = inner.event_bytes.saturating_add(bytes);
        inner.items.push_back(item);
        Pushed::Yes(inner.receiver.take())
    }

    /// Adds the answer to a request; there is room because requests are counted.
    pub(crate) fn push_answer(&self, item: WatchItem) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        inner.answers += 1;
        inner.items.push_back(item);
        inner.receiver.take()
    }

    /// Adds a round of progress notifications, unless the last one was not taken yet.
    pub(crate) fn push_ticks(&self, items: impl Iterator<Item = WatchItem>) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ticks > 0 || inner.ended {
            return None;
        }
        let before = inner.items.len();
        inner.items.extend(items);
        inner.ticks = inner.items.len() - before;
        if inner.ticks == 0 {
            return None;
        }
        inner.receiver.take()
    }

    /// Moves everything to the receiver, or remembers whom to wake.
    pub(crate) fn take(&self, into: &mut VecDeque<WatchItem>, cx: Option<&Context<'_>>) -> Taken {
        let mut inner = self.lock();
        if inner.items.is_empty() {
            if inner.ended {
                return Taken::Ended;
            }
            if let Some(cx) = cx {
                inner.receiver = Some(cx.waker().clone());
            }
            return Taken::Nothing;
        }
        std::mem::swap(&mut inner.items, into);
        (inner.event_items, inner.event_bytes, inner.ticks) = (0, 0, 0);
        inner.requests = inner.requests.saturating_sub(inner.answers);
        inner.answers = 0;
        Taken::Items {
            drained: std::mem::take(&mut inner.blocked),
            requester: inner.requester.take(),
        }
    }

    /// Counts a request; false if there are too many unanswered ones or the stream has ended.
    pub(crate) fn start_request(&self) -> bool {
        let mut inner = self.lock();
        if inner.ended || inner.requests >= self.config.requests {
            return false;
        }
        inner.requests += 1;
        true
    }

    /// A request gets no answer.
    pub(crate) fn finish_request(&self) -> Option<Waker> {
        let mut inner = self.lock();
        inner.requests = inner.requests.saturating_sub(1);
        inner.requester.take()
    }

    /// Ready when a request may be made, or the stream has ended.
    pub(crate) fn poll_request(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.ended || inner.requests < self.config.requests {
            return Poll::Ready(());
        }
        inner.requester = Some(cx.waker().clone());
        Poll::Pending
    }

    /// No more items will come.
    pub(crate) fn end(&self) {
        let wakers = {
            let mut inner = self.lock();
            inner.ended = true;
            [inner.receiver.take(), inner.requester.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The receiver is gone: frees what waits for it.
    pub(crate) fn abandon(&self) {
        let items = {
            let mut inner = self.lock();
            inner.ended = true;
            std::mem::take(&mut inner.items)
        };
        drop(items);
    }
}

impl WatchItem {
    /// An answer with no events.
    pub(crate) fn plain(watch_id: i64, revision: i64, body: Body) -> Self {
        Self {
            watch_id,
            revision,
            body,
        }
    }
}

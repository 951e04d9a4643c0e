//! Messages that wait for one stream connection.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use api::raftpb::Message;

/// Most messages written at once, and
const BATCH: usize = 2048;
/// after how many bytes of entries no more are added. One flush, and thus one chunk of HTTP, is one batch.
const BATCH_BYTES: usize = 256 << 10;

/// The queue of a connection. It lives as long as the connection: what waits when that ends is lost.
#[derive(Debug)]
pub(crate) struct Outbox {
    capacity: usize,
    capacity_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Message>,
    bytes: usize,
    waker: Option<Waker>,
    closed: bool,
    /// When the connection last took something or had nothing to take.
    moved: Instant,
}

/// What a push came to.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits.
    Ok,
    /// No room; it is dropped.
    Full(Message),
    /// The connection is gone; another way may be tried.
    Closed(Message),
}

/// What a connection gets.
#[derive(Debug)]
pub(crate) enum Taken {
    /// These messages, in order.
    Batch(Vec<Message>),
    /// It has to end.
    Closed,
}

impl Outbox {
    pub fn new(capacity: usize, capacity_bytes: usize) -> Self {
        Self {
            capacity,
            capacity_bytes,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                waker: None,
                closed: false,
                moved: Instant::now(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, message: Message) -> Pushed {
        let size = size(&message);
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed(message);
        }
        let too_many = state.queue.len() >= self.capacity;
        if too_many || (!state.queue.is_empty() && state.bytes + size > self.capacity_bytes) {
            return Pushed::Full(message);
        }
        if state.queue.is_empty() {
            state.moved = Instant::now();
        }
        state.bytes += size;
        state.queue.push_back(message);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed::Ok
    }

    /// The next batch, for the connection.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Taken::Closed);
        }
        if state.queue.is_empty() {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let mut bytes = 0;
        let mut count = 0;
        for message in state.queue.iter().take(BATCH) {
            bytes += size(message);
            count += 1;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        state.moved = Instant::now();
        Poll::Ready(Taken::Batch(state.queue.drain(..count).collect()))
    }

    /// Whether messages have waited for longer than `limit` without any being taken.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        let state = self.lock();
        !state.closed && !state.queue.is_empty() && state.moved.elapsed() > limit
    }

    /// Ends the connection; what waits is dropped. `None` if it had ended before, otherwise how many messages were lost.
    pub fn close(&self) -> Option<usize> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.closed, true) {
            return None;
        }
        state.bytes = 0;
        let lost = std::mem::take(&mut state.queue);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(lost.len())
    }
}

/// Bytes of a message that waits, more or less.
fn size(message: &Message) -> usize {
    let entries: usize = message
        .entries
        .iter()
        .map(|entry| entry.data.len() + 16)
        .sum();
    entries + message.context.len() + 32
}

#[cfg(test)]
mod tests {
    use api::raftpb::Entry;

    use super::*;

    fn message(data: usize) -> Message {
        Message {
            entries: vec![Entry {
                data: vec![0; data].into(),
                ..Entry::default()
            }],
            ..Message::default()
        }
    }

    fn take(outbox: &Outbox) -> Option<usize> {
        match outbox.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Taken::Batch(batch)) => Some(batch.len()),
            Poll::Ready(Taken::Closed) => None,
            Poll::Pending => Some(0),
        }
    }

    #[test]
    fn queue_is_bounded_in_number_and_bytes() {
        let outbox = Outbox::new(3, 1000);
        assert!(matches!(outbox.push(message(5000)), Pushed::Ok));
        assert!(matches!(outbox.push(message(1)), Pushed::Full(_)));
        assert_eq!(take(&outbox), Some(1));
        for _ in 0..3 {
            assert!(matches!(outbox.push(message(1)), Pushed::Ok));
        }
        assert!(matches!(outbox.push(message(1)), Pushed::Full(_)));
        assert_eq!(take(&outbox), Some(3));
        assert_eq!(take(&outbox), Some(0));
        assert!(matches!(outbox.push(message(1)), Pushed::Ok));
        assert_eq!(outbox.close(), Some(1));
        assert_eq!(outbox.close(), None);
        assert!(matches!(outbox.push(message(1)), Pushed::Closed(_)));
        assert_eq!(take(&outbox), None);
    }

    #[test]
    fn batches_end_behind_the_message_that_fills_them() {
        let outbox = Outbox::new(4096, usize::MAX);
        for _ in 0..5 {
            outbox.push(message(100 << 10));
        }
        assert_eq!(take(&outbox), Some(3));
        assert_eq!(take(&outbox), Some(2));
        for _ in 0..3000 {
            outbox.push(message(0));
        }
        assert_eq!(take(&outbox), Some(BATCH));
        assert_eq!(take(&outbox), Some(3000 - BATCH));
    }

    #[test]
    fn queues_nobody_takes_from_are_stuck() {
        let outbox = Outbox::new(10, 1000);
        assert!(!outbox.is_stuck(Duration::ZERO));
        outbox.push(message(1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(outbox.is_stuck(Duration::ZERO));
        assert!(!outbox.is_stuck(Duration::from_mins(1)));
        take(&outbox);
        assert!(!outbox.is_stuck(Duration::ZERO));
    }
}

//! The two ends of a watch stream outside the dispatcher: requests in, answers out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::command::{Command, StreamId};
use crate::item::WatchItem;
use crate::queue::{Queue, Taken};
use crate::shared::Shared;
use crate::spec::WatchSpec;

/// A request cannot be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many unanswered requests on the watch stream, or the stream has ended")]
pub struct Busy;

/// Makes requests on a stream. They are answered in order, through the stream's receiver.
///
/// Dropping it changes nothing: watchers live until the receiver is dropped.
#[derive(Clone, Debug)]
pub struct StreamControl {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) id: StreamId,
}

impl StreamControl {
    /// Waits until a request can be made. The receiver must be polled meanwhile.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// See [`StreamControl::ready`]. Only the last caller is woken.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_request(cx)
    }

    /// Asks for a watcher. Permissions are the caller's to check, before; a negative start
    /// revision is refused here and needs no such check.
    pub fn create(&self, spec: WatchSpec) -> Result<(), Busy> {
        self.request(|id| Command::Create(id, spec))
    }

    /// Answers a wish for a watcher that the caller refuses, in its place among the answers.
    pub fn reject(&self, reason: impl Into<Cow<'static, str>>) -> Result<(), Busy> {
        let reason = reason.into();
        self.request(|id| Command::Reject(id, reason))
    }

    /// Cancels a watcher. An unknown id gets no answer.
    pub fn cancel(&self, watch_id: i64) -> Result<(), Busy> {
        self.request(|id| Command::Cancel(id, watch_id))
    }

    /// Asks up to which revision the stream is served. Answered only if all its watchers are up
    /// to date, and there is one.
    pub fn progress(&self) -> Result<(), Busy> {
        self.request(Command::Progress)
    }

    /// To be called once per progress interval: watchers that asked for it, are up to date and
    /// got nothing since the last call are told the current revision.
    pub fn tick_progress(&self) {
        self.shared.send(Command::Tick(self.id));
    }

    fn request(&self, command: impl FnOnce(StreamId) -> Command) -> Result<(), Busy> {
        if !self.queue.start_request() {
            return Err(Busy);
        }
        self.shared.send(command(self.id));
        Ok(())
    }
}

/// Gets a stream's answers. Dropping it closes the stream.
#[derive(Debug)]
pub struct StreamReceiver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) id: StreamId,
    pub(crate) items: VecDeque<WatchItem>,
}

impl StreamReceiver {
    /// The next answer; `None` when the hub has shut down.
    pub async fn recv(&mut self) -> Option<WatchItem> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// See [`StreamReceiver::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        self.next(Some(&*cx))
    }

    /// The next answer if there is one already.
    pub fn try_recv(&mut self) -> Option<WatchItem> {
        match self.next(None) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    fn next(&mut self, cx: Option<&Context<'_>>) -> Poll<Option<WatchItem>> {
        if self.items.is_empty() {
            match self.queue.take(&mut self.items, cx) {
                Taken::Items { drained, requester } => {
                    if drained {
                        self.shared.send(Command::Drained(self.id));
                    }
                    requester.into_iter().for_each(Waker::wake);
                }
                Taken::Nothing => return Poll::Pending,
                Taken::Ended => return Poll::Ready(None),
            }
        }
        Poll::Ready(self.items.pop_front())
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        self.queue.abandon();
        self.shared.send(Command::Close(self.id));
    }
}

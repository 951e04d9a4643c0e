//! What the dispatcher is asked to do.

use std::borrow::Cow;
use std::sync::Arc;

use crate::catch_up::CaughtUp;
use crate::queue::Queue;
use crate::spec::WatchSpec;

/// Names a stream in the dispatcher.
pub(crate) type StreamId = u64;

/// See the module's text.
#[derive(Debug)]
pub(crate) enum Command {
    Open(StreamId, Arc<Queue>),
    Create(StreamId, WatchSpec),
    Reject(StreamId, Cow<'static, str>),
    Cancel(StreamId, i64),
    Progress(StreamId),
    /// A progress interval is over.
    Tick(StreamId),
    /// The receiver took what filled the queue.
    Drained(StreamId),
    Close(StreamId),
    /// The history thread did its share.
    CaughtUp(Box<CaughtUp>),
}

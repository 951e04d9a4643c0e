//! What is kept for everyone who can be sent a message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::raftpb::{Message, MessageType};
use gotext::Hex;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::picker::Picker;
use crate::pipeline;
use crate::shared::{Shared, type_name};

/// Another member and the way to it by single `POST`s. A member of the cluster has streams besides, see
/// [`crate::peer::Peer`]; whoever has only this is a *remote*.
pub(crate) struct Link {
    pub id: u64,
    pub picker: Picker,
    pub activity: Activity,
    pub shared: Arc<Shared>,
    /// Cancelled when the member is not talked to any more.
    pub stop: CancellationToken,
    pipeline: Mutex<Pipeline>,
}

#[derive(Debug, Default)]
struct Pipeline {
    queue: VecDeque<Message>,
    workers: usize,
}

impl Link {
    pub fn new(id: u64, urls: &[String], shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            id,
            picker: Picker::new(urls),
            activity: Activity::new(id, Arc::clone(&shared.observer)),
            shared: Arc::clone(shared),
            stop: shared.stop.child_token(),
            pipeline: Mutex::default(),
        })
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message for a `POST` of its own; drops it if too many wait.
    pub fn post(self: &Arc<Self>, message: Message) {
        let config = &self.shared.config;
        let mut pipeline = self.pipeline();
        if self.stop.is_cancelled() {
            return;
        }
        if pipeline.queue.len() >= config.pipeline_queue {
            drop(pipeline);
            self.dropped(&message, "pipeline");
            return;
        }
        pipeline.queue.push_back(message);
        if pipeline.workers < config.pipeline_workers {
            pipeline.workers += 1;
            drop(pipeline);
            self.shared.runtime.spawn(pipeline::work(Arc::clone(self)));
        }
    }

    /// The next message to post; a worker that gets none ends.
    pub fn next_post(&self) -> Option<Message> {
        let mut pipeline = self.pipeline();
        let next = pipeline.queue.pop_front();
        if next.is_none() {
            pipeline.workers -= 1;
        }
        next
    }

    /// A message found no room.
    pub fn dropped(&self, message: &Message, channel: &str) {
        if self.activity.may_log_drop() {
            tracing::warn!(
                "message-type" = type_name(message),
                "local-member-id" = %self.shared.config.id_text(),
                from = %Hex(message.from),
                "remote-peer-id" = %Hex(self.id),
                "remote-peer-name" = channel,
                "remote-peer-active" = self.activity.since().is_some(),
                "dropped internal Raft message since sending buffer is full"
            );
        }
        self.lost(message);
    }

    /// Tells raft that a message did not arrive.
    pub fn lost(&self, message: &Message) {
        self.shared.report_unreachable(self.id);
        if message.r#type == MessageType::MsgSnap as i32 {
            self.shared.report_snapshot(self.id, false);
        }
        self.shared.observer.send_failed(self.id);
    }

    /// Forgets what waits and stops whatever runs for this member.
    pub fn close(&self) {
        self.stop.cancel();
        self.pipeline().queue.clear();
    }
}

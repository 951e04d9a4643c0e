//! The consensus thread: drains its inbox into one step round, then gives away what the round produced.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::raftpb::{Message, MessageType};

use crate::inbox::{Control, Inbox, Queue};
use crate::log_thread::{Job, Jobs, LogWriter};
use crate::status::Shared;
use crate::{
    Apply, ConfChangeError, Config, Core, Error, Events, Output, Persist, ReadSink, Role,
    StepError, StoreError, Transport,
};

/// Steps with at most so many entries are written by the consensus thread of a lone member.
const MAX_OWN_ENTRIES: usize = 8;

/// Where the output of a round goes.
pub(crate) struct Outlets {
    pub writer: Arc<Mutex<LogWriter>>,
    pub jobs: Arc<Jobs>,
    pub transport: Box<dyn Transport>,
    pub apply: Box<dyn Apply>,
    pub reads: Box<dyn ReadSink>,
    pub events: Arc<dyn Events>,
}

pub(crate) struct Driver {
    core: Core,
    tick: Duration,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    to: Outlets,
    /// When each follower was last sent a heartbeat.
    heartbeats: HashMap<u64, Instant>,
    /// Messages refused since the last tick.
    refused: u64,
}

/// How a round ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
    Abandon,
}

impl Driver {
    pub fn new(
        core: Core,
        config: &Config,
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
        to: Outlets,
    ) -> Self {
        Self {
            core,
            tick: config.tick,
            inbox,
            shared,
            to,
            heartbeats: HashMap::new(),
            refused: 0,
        }
    }

    pub fn run(mut self) {
        let mut queue = Queue::default();
        let mut next_tick = Instant::now() + self.tick;
        // What was committed before the start.
        let mut next = self.round();
        while next == Next::Go {
            let now = Instant::now();
            self.inbox
                .take(&mut queue, next_tick.saturating_duration_since(now));
            next = self.feed(&mut queue);
            queue.clear();
            if next == Next::Abandon {
                break;
            }
            // After what arrived: a heartbeat that waited must count before time passes. A thread that slept too
            // long ticks once, not as often as it missed.
            let now = Instant::now();
            if now >= next_tick {
                self.core.tick();
                self.refused = 0;
                next_tick += self.tick;
                if next_tick <= now {
                    next_tick = now + self.tick;
                }
            }
            if next == Next::Stop {
                self.stop();
                break;
            }
            next = self.round();
        }
        self.shared.close();
        self.inbox.close();
    }

    /// Gives the core everything that waited.
    fn feed(&mut self, queue: &mut Queue) -> Next {
        if queue.log_failed {
            return Next::Abandon;
        }
        self.core.applied(self.shared.applied());
        if let Some((epoch, number)) = queue.persisted {
            self.core.persisted(epoch, number);
        }
        let mut next = Next::Go;
        for control in queue.controls.drain(..) {
            if matches!(control, Control::Stop) {
                next = Next::Stop;
            } else {
                self.control(control);
            }
        }
        for id in queue.unreachable.drain(..) {
            self.core.report_unreachable(id);
        }
        for message in queue.messages.drain(..) {
            let (kind, from) = (message.r#type, message.from);
            if let Err(error) = self.core.step(message) {
                self.note_refusal(kind, from, &error);
            }
        }
        self.core.propose(queue.proposals.drain(..));
        if !queue.reads.is_empty() {
            self.core.read_index(&queue.reads);
        }
        next
    }

    /// One line per tick at most: a peer must not fill the disk with them.
    fn note_refusal(&mut self, kind: i32, from: u64, error: &StepError) {
        self.refused += 1;
        if self.refused == 1 {
            let from = format_args!("{from:x}");
            tracing::warn!("message-type" = kind, %from, %error, "refused raft message");
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::ProposeConfChange(change) => self.core.propose_conf_change(&change),
            Control::ApplyConfChange {
                index,
                change,
                reply,
            } => {
                let result = self.core.apply_conf_change(index, change.as_ref());
                // Whoever asked may have gone.
                let _ = reply.try_send(result.map_err(ConfChangeError::Invalid));
            }
            Control::SaveSnapshot { snapshot, reply } => {
                let hard_state = self.core.hard_state();
                self.to.jobs.push([Job::Snapshot {
                    snapshot,
                    hard_state,
                    reply,
                }]);
            }
            Control::CompactTo(index) => self.core.compact_to(index),
            Control::PauseCompaction(paused) => self.core.pause_compaction(paused),
            Control::Transfer(to) => self.core.transfer_leader(to),
            Control::Campaign => self.core.campaign(),
            Control::AdvanceTicks(ticks) => self.core.advance_election_ticks(ticks),
            Control::SnapshotSent { to, ok } => self.core.report_snapshot(to, ok),
            Control::Progress(reply) => {
                let _ = reply.try_send(self.core.progress());
            }
            Control::Stop => {}
        }
    }

    /// Ends a step round, and further ones as long as the apply thread made room meanwhile.
    fn round(&mut self) -> Next {
        let mut wrote = false;
        loop {
            let mut out = self.core.poll();
            self.shared.publish(&self.core);
            let step = self.take_small_step(&mut out);
            self.dispatch(out);
            if let Some(step) = step {
                if !self.write_now(|writer| writer.write_now(&step)) {
                    return Next::Abandon;
                }
                self.core.persisted(step.epoch, step.number);
                wrote = true;
                continue;
            }
            let wanted = self.core.wants_applied();
            let applied = self.shared.want_applied(wanted);
            if !wanted || applied <= self.core.applied_index() {
                break;
            }
            self.core.applied(applied);
        }
        if wrote && !self.write_now(LogWriter::idle) {
            return Next::Abandon;
        }
        Next::Go
    }

    /// A member without others has nothing to do while few entries become durable: this thread writes them itself,
    /// which saves waking the log thread and being woken by it. Larger steps go to the log thread, so that the
    /// next one is prepared while the disk works.
    fn take_small_step(&self, out: &mut Output) -> Option<Persist> {
        let small = match &out.persist[..] {
            [step] => step.snapshot.is_none() && step.entries.len() <= MAX_OWN_ENTRIES,
            _ => false,
        };
        if small && self.core.is_alone() && self.to.jobs.is_idle() {
            out.persist.pop()
        } else {
            None
        }
    }

    /// Writes on this thread; whether that went well. If not, the member has heard of it.
    fn write_now(&self, write: impl FnOnce(&mut LogWriter) -> Result<(), StoreError>) -> bool {
        let mut writer = self
            .to
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Err(error) = write(&mut writer) else {
            return true;
        };
        drop(writer);
        tracing::error!(%error, "failed to write the log");
        self.to.events.fatal(&Error::Log(error));
        self.to.jobs.push([Job::Stop]);
        false
    }

    fn dispatch(&mut self, out: Output) {
        if let Some(change) = out.leadership {
            if change.now.role != Role::Leader {
                self.heartbeats.clear();
            }
            self.to.events.leadership(change);
        }
        if !out.persist.is_empty() {
            self.to.jobs.push(out.persist.into_iter().map(Job::Persist));
        }
        if !out.messages.is_empty() {
            self.watch_heartbeats(&out.messages);
            self.to.transport.send(out.messages);
        }
        for batch in out.apply {
            self.to.apply.apply(batch);
        }
        if let Some(term) = out.first_commit_in_term {
            self.to.events.first_commit_in_term(term);
        }
        for outcome in out.reads {
            self.to.reads.read_done(outcome);
        }
        if !out.dropped.is_empty() {
            self.to.events.proposals_dropped(&out.dropped);
        }
    }

    /// Warns as etcd does when this thread could not keep the pace of the heartbeats.
    fn watch_heartbeats(&mut self, messages: &[Message]) {
        let now = Instant::now();
        let allowed = 2 * self.tick;
        for message in messages
            .iter()
            .filter(|message| message.r#type == MessageType::MsgHeartbeat as i32)
        {
            let Some(last) = self.heartbeats.insert(message.to, now) else {
                continue;
            };
            let exceeded = now.saturating_duration_since(last).saturating_sub(allowed);
            if !exceeded.is_zero() {
                tracing::warn!(
                    to = %format_args!("{:x}", message.to),
                    "heartbeat-interval" = ?self.tick,
                    "expected-duration" = ?allowed,
                    "exceeded-duration" = ?exceeded,
                    "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
                );
            }
        }
    }

    /// The last round: nothing is lost that was appended, and whoever waits is told.
    fn stop(&mut self) {
        self.core.close();
        let mut out = self.core.poll();
        if self.core.commit_unsaved() {
            let hard_state = Some(self.core.hard_state());
            out.persist.push(Persist {
                hard_state,
                ..Persist::default()
            });
        }
        // Whoever hears that we follow nobody any more must not wait for this thread.
        self.shared.close();
        let messages = mem::take(&mut out.messages);
        self.dispatch(out);
        self.to.transport.send(messages);
        self.to.jobs.push([Job::Stop]);
    }
}

//! The handle of the consensus and log threads.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use api::raftpb::{ConfChange, ConfState, Message, Snapshot};

use crate::driver::{Driver, Outlets};
use crate::inbox::{Control, Inbox, message_size};
use crate::log_thread::{Jobs, LogThread, LogWriter};
use crate::status::{Shared, Status};
use crate::{
    ApplyBatch, ConfChangeError, Config, Core, Error, LeadershipChange, LogStore, MemberProgress,
    Proposal, ReadOutcome, Refused, Start, StepError, Stopped,
};

/// Rare requests that may wait; nobody legitimate comes near.
const MAX_CONTROLS: usize = 4096;

/// Takes messages to the peers.
pub trait Transport: Send {
    /// Called on the consensus thread: must not block, may drop. Never gets a `MsgSnap`, see
    /// [`ApplyBatch::send_snapshots`].
    fn send(&self, messages: Vec<Message>);
}

/// A transport for a member without peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, _messages: Vec<Message>) {}
}

/// Takes batches to the apply thread.
pub trait Apply: Send {
    /// Called on the consensus thread: must not block. What is under way is bounded by `Config::max_applying_bytes`
    /// and `max_applying_entries`; [`Node::applied`] makes room.
    fn apply(&self, batch: ApplyBatch);
}

/// Takes the results of [`Node::read_index`].
pub trait ReadSink: Send {
    /// Called on the consensus thread: must not block.
    fn read_done(&self, outcome: ReadOutcome);
}

/// Hears what happens to this member. Called on the consensus thread, [`Events::fatal`] on any: must not block.
pub trait Events: Send + Sync {
    /// Leader, role or term changed. Called before anything the change leads to.
    fn leadership(&self, _change: LeadershipChange) {}
    /// An entry of the current term was committed for the first time. Raft's own view; that entry may not have been
    /// applied yet.
    fn first_commit_in_term(&self, _term: u64) {}
    /// Proposals with these ids will not be appended by this member (one that was passed on may still be, by the
    /// leader). etcd lets such requests run into their deadline.
    fn proposals_dropped(&self, _ids: &[u64]) {}
    /// The log could not be written, or a thread died: the member must stop now. Nothing was acknowledged that is not
    /// durable, and the node takes nothing any more.
    fn fatal(&self, error: &Error);
}

/// What a node is connected to.
pub struct Wiring {
    /// The durable log, which already holds what [`Start`] says.
    pub log: Box<dyn LogStore>,
    /// To the peers.
    pub transport: Box<dyn Transport>,
    /// To the apply thread.
    pub apply: Box<dyn Apply>,
    /// To those who wait for a read index.
    pub reads: Box<dyn ReadSink>,
    /// To whoever watches.
    pub events: Arc<dyn Events>,
}

struct Inner {
    id: u64,
    config: Config,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pauses: AtomicUsize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last handle is gone: the threads end by themselves.
        let _ = self.inbox.push(|queue| queue.controls.push(Control::Stop));
    }
}

/// A running member of a raft group. Clones are handles of the same member; all methods may be called from any
/// thread, but none from inside of [`Transport`], [`Apply`], [`ReadSink`] or [`Events`] if it waits for a reply
/// ([`Node::apply_conf_change`], [`Node::progress`], [`Node::stop`], [`Ticket::wait`]).
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Starts the two threads. Entries of `start` beyond its applied index are handed to the apply thread as far as
    /// they are known to be committed.
    pub fn start(config: Config, start: Start, wiring: Wiring) -> Result<Self, Error> {
        let last_snapshot = start.snapshot.index;
        let core = Core::new(config.clone(), start, config.seed)?;
        let shared = Arc::new(Shared::new(&core));
        let inbox = Arc::new(Inbox::default());
        let jobs = Arc::new(Jobs::default());
        let writer = Arc::new(Mutex::new(LogWriter::new(wiring.log, last_snapshot)));
        let log = LogThread {
            writer: Arc::clone(&writer),
            jobs: Arc::clone(&jobs),
            inbox: Arc::clone(&inbox),
            events: Arc::clone(&wiring.events),
        };
        let outlets = Outlets {
            writer,
            jobs,
            transport: wiring.transport,
            apply: wiring.apply,
            reads: wiring.reads,
            events: Arc::clone(&wiring.events),
        };
        let driver = Driver::new(
            core,
            &config,
            Arc::clone(&inbox),
            Arc::clone(&shared),
            outlets,
        );
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let guard = DeathGuard {
                inbox: Arc::clone(&inbox),
                events: Arc::clone(&wiring.events),
            };
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    let _guard = guard;
                    run();
                })
        };
        let threads = vec![
            spawn("log", Box::new(move || log.run())).map_err(Error::Thread)?,
            spawn("consensus", Box::new(move || driver.run())).map_err(Error::Thread)?,
        ];
        let inner = Inner {
            id: config.id,
            config,
            inbox,
            shared,
            threads: Mutex::new(threads),
            pauses: AtomicUsize::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Asks for entries to be appended, in this order. All or none are taken: they are refused when too many wait.
    /// Taken proposals can still get lost, when leadership moves or no leader is found in time.
    pub fn propose(&self, proposals: Vec<Proposal>) -> Result<(), Refused> {
        let size: usize = proposals.iter().map(|proposal| proposal.data.len()).sum();
        let limits = &self.inner.config;
        let mut proposals = Some(proposals);
        let taken = self.inner.inbox.push(|queue| {
            let count = proposals.as_ref().map_or(0, Vec::len);
            let full = queue.proposals.len() + count > limits.max_queued_items
                || (queue.proposal_bytes + size > limits.max_queued_bytes
                    && !queue.proposals.is_empty());
            if full {
                return;
            }
            queue.proposal_bytes += size;
            queue
                .proposals
                .append(&mut proposals.take().unwrap_or_default());
        });
        match proposals {
            None => Ok(()),
            Some(proposals) => Err(Refused {
                proposals,
                stopped: taken.is_err(),
            }),
        }
    }

    /// Proposes a change of the members; its `id` is reported if it is dropped. Raft turns it into an empty entry if
    /// another change is not applied yet.
    pub fn propose_conf_change(&self, change: ConfChange) -> Result<(), Stopped> {
        self.control(Control::ProposeConfChange(change))
    }

    /// Asks for an index such that a read after its application sees everything that was committed before this call.
    /// The answer goes to the [`ReadSink`] under the given ids. Requests made while a round is under way share the
    /// next one.
    pub fn read_index(&self, ids: &[u64]) -> Result<(), Stopped> {
        self.inner
            .inbox
            .push(|queue| queue.reads.extend_from_slice(ids))
    }

    /// The same at once, if no other member needs to be asked: this member leads and has the only vote.
    pub fn read_index_now(&self) -> Option<u64> {
        self.inner.shared.read_alone()
    }

    /// Takes a message from a peer. Refused when too many wait; raft sends again what matters. What is malformed is
    /// dropped later and logged.
    pub fn step(&self, message: Message) -> Result<(), StepError> {
        let size = message_size(&message);
        let limits = &self.inner.config;
        let taken = self.inner.inbox.push(|queue| {
            let full = queue.messages.len() >= limits.max_queued_items
                || (queue.message_bytes + size > limits.max_queued_bytes
                    && !queue.messages.is_empty());
            if !full {
                queue.message_bytes += size;
                queue.messages.push(message);
            }
            !full
        })?;
        if taken { Ok(()) } else { Err(StepError::Full) }
    }

    /// Hands leadership to `to`, if this member leads. Watch [`Status::leader`] to see it happen.
    pub fn transfer_leader(&self, to: u64) -> Result<(), Stopped> {
        self.control(Control::Transfer(to))
    }

    /// Campaigns as soon as possible, without waiting for the election timeout: for the only voter after a start.
    pub fn campaign(&self) -> Result<(), Stopped> {
        self.control(Control::Campaign)
    }

    /// Lets election time pass at once: after a start, when peers are connected and none of them leads.
    pub fn advance_election_ticks(&self, ticks: u32) -> Result<(), Stopped> {
        self.control(Control::AdvanceTicks(ticks))
    }

    /// Everything up to `index` is applied. Called by the apply thread after each batch; it makes room for the next.
    pub fn applied(&self, index: u64) {
        if self.inner.shared.set_applied(index) {
            // If the node has stopped, nobody waits for room.
            let _ = self.inner.inbox.push(|queue| queue.nudged = true);
        }
    }

    /// Applies the configuration change of the entry at `index` to raft; `None` if the state machine refused it.
    /// Called by the apply thread when it reaches that entry. Changes that the configuration already contains (see
    /// [`Start::conf_index`], or from a later snapshot) are left out. Returns the members as raft sees them,
    /// which is ahead of the entry only if a snapshot was received that the apply thread gets next.
    pub fn apply_conf_change(
        &self,
        index: u64,
        change: Option<ConfChange>,
    ) -> Result<ConfState, ConfChangeError> {
        let (reply, result) = sync_channel(1);
        self.control(Control::ApplyConfChange {
            index,
            change,
            reply,
        })?;
        result.recv().map_err(|_| Stopped)?
    }

    /// Writes a snapshot of our own state, which the state machine must have made durable: the `.snap` file, then
    /// the record in the WAL. Older WAL segments may be removed afterwards.
    pub fn save_snapshot(&self, snapshot: Snapshot) -> Result<Ticket, Stopped> {
        let (reply, done) = sync_channel(1);
        self.control(Control::SaveSnapshot { snapshot, reply })?;
        Ok(Ticket { done })
    }

    /// Forgets the log in memory up to `index`, as far as it is applied. Not needed in normal operation: that happens
    /// by itself every 100 applied entries, keeping `Config::catchup_entries`.
    pub fn compact_to(&self, index: u64) -> Result<(), Stopped> {
        self.control(Control::CompactTo(index))
    }

    /// Keeps the log while the guard lives: a follower is being sent a snapshot and needs what comes behind it.
    pub fn pause_compaction(&self) -> CompactionPause {
        if self.inner.pauses.fetch_add(1, Ordering::SeqCst) == 0 {
            // A stopped node compacts nothing.
            let _ = self.control(Control::PauseCompaction(true));
        }
        CompactionPause { node: self.clone() }
    }

    /// Messages to this member get lost.
    pub fn report_unreachable(&self, id: u64) {
        // A stopped node sends nothing.
        let _ = self.inner.inbox.push(|queue| {
            if !queue.unreachable.contains(&id) {
                queue.unreachable.push(id);
            }
        });
    }

    /// The snapshot that a `MsgSnap` asked for was sent to `to`, or was not. Must be called for each of them, or the
    /// follower is not sent anything any more.
    pub fn report_snapshot(&self, to: u64, ok: bool) -> Result<(), Stopped> {
        self.control(Control::SnapshotSent { to, ok })
    }

    /// Role, term, indexes; cheap.
    pub fn status(&self) -> Status {
        self.inner.shared.status(self.inner.id)
    }

    /// How far each member is; empty unless this member leads. Asks the consensus thread.
    pub fn progress(&self) -> Result<Vec<MemberProgress>, Stopped> {
        let (reply, result) = sync_channel(1);
        self.control(Control::Progress(reply))?;
        result.recv().map_err(|_| Stopped)
    }

    /// Whether the node takes anything.
    pub fn is_stopped(&self) -> bool {
        self.inner.inbox.is_closed()
    }

    /// Stops both threads: what was appended is written and synced, reads fail, held proposals are dropped. Waits for
    /// the end. The apply thread can still finish what it has.
    pub fn stop(&self) {
        // If it has stopped already, only the threads are left to wait for.
        let _ = self
            .inner
            .inbox
            .push(|queue| queue.controls.push(Control::Stop));
        let threads = std::mem::take(
            &mut *self
                .inner
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for thread in threads {
            // A panic was reported by its guard.
            let _ = thread.join();
        }
    }

    fn control(&self, control: Control) -> Result<(), Stopped> {
        self.inner.inbox.push(|queue| {
            if queue.controls.len() < MAX_CONTROLS {
                queue.controls.push(control);
            } else {
                // Dropping it ends the wait of whoever waits for a reply.
                tracing::warn!(
                    ?control,
                    "too many requests to consensus are waiting, dropped one"
                );
            }
        })
    }
}

/// Tells when a snapshot is durable.
#[derive(Debug)]
pub struct Ticket {
    done: Receiver<()>,
}

impl Ticket {
    /// Waits until it is; [`Stopped`] if that will not happen.
    pub fn wait(self) -> Result<(), Stopped> {
        self.done.recv().map_err(|_| Stopped)
    }
}

/// See [`Node::pause_compaction`].
#[derive(Debug)]
pub struct CompactionPause {
    node: Node,
}

impl Drop for CompactionPause {
    fn drop(&mut self) {
        if self.node.inner.pauses.fetch_sub(1, Ordering::SeqCst) == 1 {
            // A stopped node compacts nothing.
            let _ = self.node.control(Control::PauseCompaction(false));
        }
    }
}

/// Reports a thread that dies of a panic, so that nobody waits for it.
struct DeathGuard {
    inbox: Arc<Inbox>,
    events: Arc<dyn Events>,
}

impl Drop for DeathGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inbox.close();
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            self.events
                .fatal(&Error::Panicked(format!("thread {name} panicked")));
        }
    }
}

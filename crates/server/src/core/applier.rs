//! The apply thread: committed entries in log order into the state machine, results to those who wait.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use api::raftpb::{ConfChange, ConfState, Entry, EntryType, Message, Snapshot, SnapshotMetadata};
use apply::{Effect, Fatal, Request, Response, StateMachine};
use backend::Position;
use consensus::ApplyBatch;
use prost::Message as _;
use wal::snap::Snapshotter;

use super::background::Signals;
use super::snapshots::Snapshots;
use super::{Member, Wakes};
use crate::metrics::op_name;
use crate::start::StartError;

/// Entries after which waiters are woken even in the middle of a batch, so that a long one does not hold
/// back its first answers.
const FLUSH_EVERY: usize = 64;

/// Whether the entries that follow may be applied; if not, the member is stopping.
type Next = ControlFlow<()>;

/// Something the main thread acts on; see [`crate::start`].
#[derive(Debug)]
pub enum Event {
    /// The member's name and URLs are in the log: clients may come.
    Published,
    /// SIGTERM or SIGINT, by its number.
    Signal(i32),
    /// This member was removed from the cluster.
    Removed,
    /// What cannot be gone on from, as it is logged at the end.
    Fatal(StartError),
}

/// The apply thread's state.
pub struct Applier {
    /// The state machine.
    pub machine: StateMachine,
    /// The member.
    pub member: Arc<Member>,
    /// The member's background.
    pub signals: Arc<Signals>,
    /// Takes disk snapshots.
    pub snapshots: Snapshots,
    /// Knows where received databases are.
    pub snapshotter: Snapshotter,
    /// Raft's members after the last applied change.
    pub conf_state: ConfState,
    /// To the main thread.
    pub events: Sender<Event>,
}

impl Applier {
    /// Applies batches until the channel closes.
    pub fn run(mut self, batches: &Receiver<ApplyBatch>) {
        while let Ok(batch) = batches.recv() {
            match self.apply_batch(batch) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(fatal) => {
                    // If nobody listens, the process is ending already.
                    let _ = self.events.send(Event::Fatal(StartError::Panic {
                        message: "failed to apply an entry".into(),
                        error: fatal.to_string(),
                    }));
                    return;
                }
            }
        }
    }

    fn apply_batch(&mut self, batch: ApplyBatch) -> Result<Next, Fatal> {
        if let Some(snapshot) = batch.snapshot {
            self.restore(snapshot)?;
        }
        if self.apply_entries(batch.entries)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        for message in batch.send_snapshots {
            self.send_snapshot(message);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn apply_entries(&mut self, entries: Vec<Entry>) -> Result<Next, Fatal> {
        let mut wakes = Wakes::default();
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return Ok(ControlFlow::Continue(()));
        };
        for (count, entry) in entries.into_iter().enumerate() {
            if self.apply_entry(&entry, &mut wakes)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if count % FLUSH_EVERY == FLUSH_EVERY - 1 {
                self.publish(entry.index, &mut wakes);
            }
        }
        self.publish(last, &mut wakes);
        self.member.node.applied(last);
        self.snapshots
            .after_batch(&mut self.machine, &self.member, &self.conf_state, last);
        Ok(ControlFlow::Continue(()))
    }

    /// Goes on from the state the leader has sent, whose place in the log is durable already.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), Fatal> {
        let at = snapshot.metadata;
        if at.index <= self.member.applied() {
            return Ok(());
        }
        tracing::info!(
            "current-snapshot-index" = self.snapshots.last(),
            "current-applied-index" = self.member.applied(),
            "incoming-leader-snapshot-index" = at.index,
            "incoming-leader-snapshot-term" = at.term,
            "applying snapshot"
        );
        let database = self
            .snapshotter
            .find_db(at.index)
            .map_err(|error| Fatal::Restore(error.to_string()))?;
        self.machine.restore(&database)?;
        let index = self.machine.position().index;
        if index != at.index {
            return Err(Fatal::Restore(format!(
                "the database is at entry {index}, the snapshot at {}",
                at.index
            )));
        }
        self.conf_state = at.conf_state;
        self.snapshots.received(at.index);
        self.member.hub.restored();
        let transport = &self.member.peers.transport;
        transport.remove_all_peers();
        for member in self.member.membership().members() {
            transport.add_peer(member.id, &member.peer_urls);
        }
        self.publish(at.index, &mut Wakes::default());
        self.member.node.applied(at.index);
        self.signals.cluster_version.notify_one();
        tracing::info!(
            "incoming-leader-snapshot-index" = at.index,
            "incoming-leader-snapshot-term" = at.term,
            "applied snapshot"
        );
        Ok(())
    }

    /// Sends the state as it is now to a member that is too far behind for the log.
    fn send_snapshot(&mut self, mut message: Message) {
        let position = self.machine.position();
        let to = message.to;
        let hold = self.member.node.pause_compaction();
        // While old entries are replayed the database is ahead of what raft knows.
        let image =
            (position.index == self.member.applied()).then(|| self.member.backend.snapshot());
        let image = match image {
            Some(Ok(image)) => image,
            Some(Err(error)) => {
                tracing::warn!(%error, "failed to open the database for a snapshot");
                let _ = self.member.node.report_snapshot(to, false);
                return;
            }
            None => {
                // A stopped node sends no more.
                let _ = self.member.node.report_snapshot(to, false);
                return;
            }
        };
        message.snapshot = Some(Snapshot {
            data: cluster::v2_store_json(&self.member.membership()).into(),
            metadata: SnapshotMetadata {
                conf_state: self.conf_state.clone(),
                index: position.index,
                term: position.term,
            },
        });
        self.member
            .peers
            .transport
            .send_snapshot(peer::SnapshotToSend {
                message,
                length: image.len(),
                database: Box::new(ImageReader { image, offset: 0 }),
                hold: Box::new(hold),
            });
    }

    /// Entries up to `index` are applied: those who waited for them go on.
    fn publish(&self, index: u64, wakes: &mut Wakes) {
        self.member.set_applied(index);
        self.member.reads.applied(index, wakes);
        wakes.flush();
    }

    fn apply_entry(&mut self, entry: &Entry, wakes: &mut Wakes) -> Result<Next, Fatal> {
        let at = Position {
            index: entry.index,
            term: entry.term,
        };
        match EntryType::try_from(entry.r#type) {
            Ok(EntryType::Normal) if entry.data.is_empty() => self.apply_first_of_term(at),
            Ok(EntryType::Normal) => self.apply_request(at, entry, wakes)?,
            Ok(EntryType::ConfChange) => return self.apply_conf_change(at, entry, wakes),
            _ => return Err(Fatal::UnknownEntryType(entry.r#type)),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A new leader's first entry: if that is this member, it times the leases from now on.
    fn apply_first_of_term(&mut self, at: Position) {
        self.machine.apply_empty(at);
        // Looked at under the lock: whoever loses leadership publishes that first and demotes then, so a
        // demotion cannot come in between and be undone.
        let mut lessor = self.member.lessor();
        let status = self.member.node.status();
        if status.role == consensus::Role::Leader && status.term == at.term {
            lessor.promote(self.member.now(), self.member.limits.election_timeout);
        }
    }

    fn apply_request(
        &mut self,
        at: Position,
        entry: &Entry,
        wakes: &mut Wakes,
    ) -> Result<(), Fatal> {
        let id = api::raft_request_id(&entry.data).unwrap_or(0);
        let (request, waited) = match self.member.pending.take_request(id) {
            Some(request) => (request, true),
            None => (Request::decode(&entry.data)?, false),
        };
        let (op, started) = (op_name(&request.op), self.member.now());
        let applied = self.machine.apply(at, request, waited, started)?;
        if let Some(result) = &applied.result {
            self.member
                .metrics
                .applied(op, result, self.member.now().saturating_sub(started));
        }
        if let Some(effect) = applied.effect {
            self.carry_out(&effect);
        }
        if let Some(result) = applied.result
            && waited
        {
            self.member.pending.complete(id, result, wakes);
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::RaiseNoSpace => {
                let quota = self.member.quota.bytes();
                tracing::warn!(
                    "quota-size-bytes" = quota,
                    "quota-size" = %backend::human_bytes(quota.max(0) as u64),
                    error = %api::Error::NoSpace,
                    "message exceeded backend quota; raising alarm"
                );
                self.member.wish_no_space_alarm();
            }
            Effect::ClusterVersion(change) => {
                if change.is_downgrade() {
                    self.snapshots.force();
                }
                self.signals.cluster_version.notify_one();
            }
            Effect::LeaseRevoked => {}
        }
    }

    /// This member does not belong to the cluster any more.
    fn leave(&self) {
        let events = self.events.clone();
        let told = events.clone();
        let later = move || {
            std::thread::sleep(LEAVE_AFTER);
            // If nobody listens, the process is ending already.
            let _ = events.send(Event::Removed);
        };
        if std::thread::Builder::new()
            .name("leave".into())
            .spawn(later)
            .is_err()
        {
            let _ = told.send(Event::Removed);
        }
    }

    fn apply_conf_change(
        &mut self,
        at: Position,
        entry: &Entry,
        wakes: &mut Wakes,
    ) -> Result<Next, Fatal> {
        let change = ConfChange::decode(entry.data.clone()).map_err(apply::DecodeError::from)?;
        let verdict = self.machine.apply_conf_change(at, &change)?;
        if let Some(for_raft) = verdict.for_raft {
            let for_raft = Some(for_raft).filter(|change| change.node_id != 0);
            match self.member.node.apply_conf_change(at.index, for_raft) {
                Ok(state) => self.conf_state = state,
                // The member is on its way out. The database must not get beyond this entry without what raft
                // made of it, so the entry stays unfinished and comes again after the restart.
                Err(consensus::ConfChangeError::Stopped(_)) => {
                    return Ok(ControlFlow::Break(()));
                }
                Err(error) => return Err(Fatal::ConfChange(error.to_string())),
            }
            let json = cluster::conf_state_json(&self.conf_state);
            self.machine.end_conf_change(at, Some(json.into()));
        }
        if let Ok(effect) = &verdict.result {
            self.member.peers.follow(effect);
        }
        if verdict.removed_self {
            self.leave();
        }
        self.member
            .pending
            .complete(change.id, verdict.result.map(|_| Response::Done), wakes);
        Ok(ControlFlow::Continue(()))
    }
}

/// How long a removed member goes on, so that the others hear of the removal from it and its clients get answers.
const LEAVE_AFTER: Duration = Duration::from_secs(1);

/// Reads an image of the database from its beginning to its end.
struct ImageReader {
    image: backend::SnapshotImage,
    offset: u64,
}

impl std::io::Read for ImageReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.image.read_at(self.offset, buf)?;
        self.offset += read as u64;
        Ok(read)
    }
}

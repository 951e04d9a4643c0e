//! The apply thread: committed entries in log order into the state machine, results to those who wait.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use api::raftpb::{ConfChange, ConfState, Entry, EntryType};
use apply::{Effect, Fatal, Request, Response, StateMachine};
use backend::Position;
use consensus::ApplyBatch;
use prost::Message;

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
        let mut wakes = Wakes::default();
        let Some(last) = batch.entries.last().map(|entry| entry.index) else {
            return Ok(ControlFlow::Continue(()));
        };
        for (count, entry) in batch.entries.into_iter().enumerate() {
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
        if verdict.removed_self {
            let _ = self.events.send(Event::Removed);
        }
        self.member
            .pending
            .complete(change.id, verdict.result.map(|_| Response::Done), wakes);
        Ok(ControlFlow::Continue(()))
    }
}

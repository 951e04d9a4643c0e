//! Raft without threads, clock and I/O: inputs in, [`Output`] out. The same calls with the same seed give the same
//! outputs, so whole clusters can be simulated.
//!
//! The driver calls any number of inputs, then [`Core::poll`], and does what the output says. It must report every
//! [`Persist`] job, in order, with [`Core::persisted`], and every applied entry with [`Core::applied`].
//!
//! Architecture invariant: nothing here blocks, reads a clock or draws random numbers.

mod inbound;
mod ready;

use std::collections::VecDeque;

use api::raftpb::{ConfChange, ConfChangeType, ConfState, HardState, Message, Snapshot};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole, eraftpb};

use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::rng::Rng;
use crate::storage::LogStorage;
use crate::window::Window;
use crate::{
    Config, Error, Leadership, MemberProgress, Output, Position, Proposal, ReadError, Start,
    transitions, translate,
};

/// After how many applied entries the state offered to lagging followers is renewed, and the log compacted.
const SNAPSHOT_EVERY: u64 = 100;

/// A step whose messages wait for the disk.
#[derive(Debug)]
struct Unpersisted {
    /// Number of the job.
    number: u64,
    /// Ready number to acknowledge with it; later Readies without anything to write ride along.
    ready: u64,
    /// Messages that say something the disk does not hold yet.
    messages: Vec<eraftpb::Message>,
    /// A received snapshot, to be applied once it is durable.
    snapshot: Option<Snapshot>,
    /// Term or vote changed.
    vote: bool,
    /// Size of the entries.
    bytes: usize,
}

/// One member's raft.
pub struct Core {
    config: Config,
    epoch: u64,
    node: RawNode<LogStorage>,
    rng: Rng,
    ticks: u64,
    /// What was last reported.
    leadership: Leadership,
    /// Drawn anew whenever this (role, term, leader) changes.
    election_timeout: (usize, (StateRole, u64, u64)),
    /// The latest term, vote and commit index raft gave out.
    hard_state: HardState,
    /// Its commit index went into no job yet.
    commit_unsaved: bool,
    commit_saved_at: u64,
    unpersisted: VecDeque<Unpersisted>,
    unpersisted_bytes: usize,
    /// A Ready that could not be acknowledged yet, see [`Core::removed_leader`].
    unacknowledged: Option<u64>,
    window: Window,
    proposals: Proposals,
    reads: Reads,
    /// The term whose first commit was reported.
    committed_term: u64,
    /// Last applied configuration change, or the snapshot that brought the present configuration.
    conf_index: u64,
    compaction_paused: bool,
    campaign_wanted: bool,
    /// What inputs produced before the next poll.
    out: Output,
}

impl Core {
    /// Starts from `start`. `epoch` marks the jobs of this core; it must differ from those of earlier cores whose
    /// jobs may still be under way.
    pub fn new(config: Config, start: Start, epoch: u64) -> Result<Self, Error> {
        let start = start.checked(&config)?;
        let hard_state = start.hard_state;
        let storage = LogStorage::new(
            start.snapshot,
            start.entries.into_iter().map(translate::entry_in).collect(),
            translate::hard_state_in(&hard_state),
            translate::conf_state_in(&start.conf_state),
        );
        let node = RawNode::new(
            &raft_config(&config, start.applied),
            storage,
            &transitions::discard(),
        )
        .map_err(|error| Error::Start(error.to_string()))?;
        let leadership = Leadership {
            term: node.raft.term,
            ..Leadership::default()
        };
        transitions::log_configuration(config.id, &start.conf_state);
        tracing::info!(target: "raft", "{:x} became follower at term {}", config.id, leadership.term);
        let mut core = Self {
            epoch,
            rng: Rng::new(config.seed ^ config.id),
            ticks: 0,
            leadership,
            election_timeout: (0, (StateRole::Leader, 0, 0)),
            hard_state,
            commit_unsaved: false,
            commit_saved_at: 0,
            unpersisted: VecDeque::new(),
            unpersisted_bytes: 0,
            unacknowledged: None,
            window: Window::new(
                start.applied,
                config.max_applying_bytes,
                config.max_applying_entries,
            ),
            proposals: Proposals::new(
                config.ticks(config.hold_proposals),
                config.max_queued_bytes,
                config.max_queued_items,
            ),
            reads: Reads::new(
                config.id,
                config.seed,
                config.ticks(config.read_resend),
                config.ticks(config.read_timeout),
            ),
            committed_term: 0,
            conf_index: start.conf_index.max(start.snapshot.index),
            compaction_paused: false,
            campaign_wanted: false,
            out: Output::default(),
            node,
            config,
        };
        if core.node.raft.commit_to_current_term() {
            // Not now, but before the restart.
            core.committed_term = core.leadership.term;
        }
        core.redraw_election_timeout();
        Ok(core)
    }

    /// One tick of the clock passed.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.node.raft.state == StateRole::Leader || self.may_campaign() {
            self.node.tick();
        }
        self.proposals.expire(self.ticks, &mut self.out.dropped);
        let (context, outcome) = self.reads.tick(self.ticks);
        self.out.reads.extend(outcome);
        if let Some(context) = context {
            self.send_read_index(context);
        }
        self.redraw_election_timeout();
    }

    /// Lets election time pass without anything else: at start, where nobody can be leading yet.
    pub fn advance_election_ticks(&mut self, ticks: u32) {
        for _ in 0..ticks.min(self.config.election_ticks) {
            if self.node.raft.state != StateRole::Leader && self.may_campaign() {
                self.node.raft.election_elapsed += 1;
            }
        }
    }

    /// Campaigns as soon as that is possible, without waiting for the election timeout.
    pub fn campaign(&mut self) {
        self.campaign_wanted = true;
    }

    /// Appends entries, or passes them on to the leader.
    pub fn propose(&mut self, proposals: impl IntoIterator<Item = Proposal>) {
        for proposal in proposals {
            let entry = eraftpb::Entry {
                data: proposal.data,
                ..Default::default()
            };
            if let Err(id) = self.proposals.push(Some(proposal.id), entry, self.ticks) {
                self.out.dropped.extend(id);
            }
        }
    }

    /// Proposes a change of the members; `change.id` is reported if it is dropped.
    pub fn propose_conf_change(&mut self, change: &ConfChange) {
        let entry = translate::entry_in(api::raftpb::Entry {
            r#type: api::raftpb::EntryType::ConfChange as i32,
            term: 0,
            index: 0,
            data: prost::Message::encode_to_vec(change).into(),
        });
        if let Err(id) = self.proposals.push(Some(change.id), entry, self.ticks) {
            self.out.dropped.extend(id);
        }
    }

    /// Asks for an index that covers everything committed before this call; answered under the given ids.
    pub fn read_index(&mut self, ids: &[u64]) {
        self.reads.add(ids);
    }

    /// Asks the leader (this member) to hand over to `to`.
    pub fn transfer_leader(&mut self, to: u64) {
        // A follower would pass it on; etcd's API never asks one.
        if self.node.raft.state == StateRole::Leader {
            self.node.transfer_leader(to);
            self.redraw_election_timeout();
        }
    }

    /// Messages to this member got lost on the way.
    pub fn report_unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    /// The snapshot asked for by a `MsgSnap` was sent, or could not be sent.
    pub fn report_snapshot(&mut self, id: u64, ok: bool) {
        let status = if ok {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.node.report_snapshot(id, status);
    }

    /// Everything up to job `number` of epoch `epoch` is durable.
    pub fn persisted(&mut self, epoch: u64, number: u64) {
        if epoch != self.epoch {
            return;
        }
        let mut ready = None;
        let mut snapshot = None;
        let mut messages = Vec::new();
        while self
            .unpersisted
            .front()
            .is_some_and(|job| job.number <= number)
        {
            let Some(job) = self.unpersisted.pop_front() else {
                break;
            };
            ready = Some(job.ready);
            self.unpersisted_bytes -= job.bytes;
            // Only the last one matters: it replaces the others.
            snapshot = job.snapshot.or(snapshot);
            messages.extend(job.messages);
        }
        if let Some(ready) = ready {
            self.unacknowledged = Some(ready);
            self.acknowledge();
        }
        self.send(without_overtaken(messages));
        if let Some(snapshot) = snapshot {
            self.hand_snapshot(snapshot);
        }
    }

    /// Tells raft what is durable. Not while it leads without being a member: it would look for its own progress.
    fn acknowledge(&mut self) {
        if self.removed_leader() {
            return;
        }
        if let Some(ready) = self.unacknowledged.take() {
            self.node.on_persist_ready(ready);
        }
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: u64) {
        if index <= self.window.applied() {
            return;
        }
        self.window.finish(index);
        self.advance_raft_applied(self.window.applied());
        self.compact();
    }

    fn advance_raft_applied(&mut self, index: u64) {
        let log = &self.node.raft.raft_log;
        let index = index.min(log.committed).min(log.persisted);
        if index > log.applied {
            self.node.advance_apply_to(index);
        }
    }

    /// Applies the configuration change of the entry at `index`; `None` if the state machine refused it. A change
    /// the configuration already contains is left out. Returns the members as raft sees them, which is ahead
    /// of the entry if a later snapshot was received.
    pub fn apply_conf_change(
        &mut self,
        index: u64,
        change: Option<&ConfChange>,
    ) -> Result<ConfState, String> {
        // Raft takes over the members of a received snapshot at once, long before the state machine gets there.
        if let Some(snapshot) = self.node.snap() {
            self.conf_index = self.conf_index.max(snapshot.get_metadata().index);
        }
        if index > self.conf_index {
            self.conf_index = index;
            if let Some(change) = change.and_then(conf_change_in) {
                self.node
                    .apply_conf_change(&change)
                    .map_err(|error| error.to_string())?;
                let state = self.conf_state();
                transitions::log_configuration(self.config.id, &state);
                self.redraw_election_timeout();
            }
        }
        Ok(self.conf_state())
    }

    /// While paused, the log is kept for followers that are being sent a snapshot.
    pub fn pause_compaction(&mut self, paused: bool) {
        self.compaction_paused = paused;
    }

    /// Forgets the log up to `index`, as far as it is applied.
    pub fn compact_to(&mut self, index: u64) {
        let applied = self.node.raft.raft_log.applied;
        let index = index.min(applied).min(self.window.handed());
        // A follower behind the compacted part needs a snapshot to be offered.
        if index > self.node.store().snapshot_index() {
            let state = self.node.raft.prs().conf().to_conf_state();
            self.node.mut_store().set_snapshot(index, state);
        }
        self.node.mut_store().compact(index);
    }

    /// Every [`SNAPSHOT_EVERY`] applied entries: renews the offered snapshot and drops old entries.
    fn compact(&mut self) {
        let applied = self.node.raft.raft_log.applied;
        let due = self.node.store().snapshot_index() + SNAPSHOT_EVERY;
        // A change beyond `applied` is already in the configuration; wait until both are in step.
        if applied < due || self.compaction_paused || self.conf_index > applied {
            return;
        }
        let state = self.node.raft.prs().conf().to_conf_state();
        let store = self.node.mut_store();
        store.set_snapshot(applied, state);
        let target = store.compaction_target(
            applied,
            self.config.catchup_entries,
            self.config.catchup_bytes,
        );
        store.compact(target);
    }

    /// Fails what waits and drops what was held: the member stops.
    pub fn close(&mut self) {
        self.proposals.clear(&mut self.out.dropped);
        self.out
            .reads
            .extend(self.reads.fail_all(ReadError::Stopped));
    }

    /// The hard state with the newest commit index, for the last write before a stop and for the record of a
    /// snapshot: the log must say that the snapshot's index is committed, or a restart ignores it.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether the newest commit index is in no persist job yet.
    pub fn commit_unsaved(&self) -> bool {
        self.commit_unsaved
    }

    /// Role, leader and term as last reported.
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// Who has this member's vote in the current term; 0 if nobody.
    pub fn vote(&self) -> u64 {
        self.node.raft.vote
    }

    /// Commit index.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Index up to which the state machine reported to be.
    pub fn applied_index(&self) -> u64 {
        self.window.applied()
    }

    /// First and last index of the log in memory.
    pub fn log_range(&self) -> (u64, u64) {
        (self.node.store().first(), self.node.store().last())
    }

    /// Bytes of the log in memory.
    pub fn log_bytes(&self) -> usize {
        self.node.store().bytes()
    }

    /// The members as raft sees them.
    pub fn conf_state(&self) -> ConfState {
        translate::conf_state_out(&self.node.raft.prs().conf().to_conf_state())
    }

    /// Who is being handed leadership, 0 if nobody.
    pub fn transferee(&self) -> u64 {
        self.node.raft.lead_transferee.unwrap_or(0)
    }

    /// Progress of all members; only the leader knows it.
    pub fn progress(&self) -> Vec<MemberProgress> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let prs = self.node.raft.prs();
        let mut list: Vec<_> = prs
            .iter()
            .map(|(id, progress)| MemberProgress {
                id: *id,
                matched: progress.matched,
                next: progress.next_idx,
                learner: prs.conf().learners().contains(id),
                active: progress.recent_active || *id == self.config.id,
            })
            .collect();
        list.sort_unstable_by_key(|progress| progress.id);
        list
    }

    /// An index for a linearizable read without asking anyone: only for the sole voter that leads and has committed
    /// in its term. Nobody else can commit anything without its vote, and giving that needs a step that ends this.
    pub fn read_index_alone(&self) -> Option<u64> {
        let raft = &self.node.raft;
        let alone = raft.state == StateRole::Leader && self.sole_voter() && !self.vote_unsynced();
        (alone && raft.commit_to_current_term()).then_some(raft.raft_log.committed)
    }

    /// Whether committed entries wait for room in the apply thread's window, or a campaign for their application:
    /// the driver must report progress at once.
    pub fn wants_applied(&self) -> bool {
        self.campaign_wanted || self.window.handed() < self.committable()
    }

    /// Whether there is no other member, not even a learner.
    pub fn is_alone(&self) -> bool {
        self.sole_voter() && self.node.raft.prs().conf().learners().is_empty()
    }

    /// Whether this member is the only one whose vote counts.
    fn sole_voter(&self) -> bool {
        let prs = self.node.raft.prs();
        prs.is_singleton() && prs.conf().voters().contains(self.config.id)
    }

    /// This member leads but was removed. It goes on as a leader until its quorum falls silent, so that the others
    /// learn of the removal, but raft panics when it commits anything more.
    fn removed_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
            && self.node.raft.prs().get(self.config.id).is_none()
    }

    /// Whether an election could be handled now. Not while a snapshot is on its way to disk, where the applied index
    /// lies outside of the log, and not with unwritten entries as the only voter, who would win at once.
    fn may_campaign(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.applied + 1 >= log.first_index()
            && (!self.sole_voter() || log.persisted >= log.last_index())
    }

    /// Term or vote of the newest step are not durable yet.
    fn vote_unsynced(&self) -> bool {
        self.unpersisted.iter().any(|job| job.vote)
    }

    /// How far entries are committed and durable here.
    fn committable(&self) -> u64 {
        let log = &self.node.raft.raft_log;
        log.committed.min(log.persisted)
    }

    /// Where the log ends.
    pub fn last_position(&self) -> Position {
        let log = &self.node.raft.raft_log;
        Position {
            index: log.last_index(),
            term: log.last_term(),
        }
    }

    /// Replaces the timeout raft drew by one from the seed, anew after each reset of raft's election state.
    fn redraw_election_timeout(&mut self) {
        let raft = &self.node.raft;
        let key = (raft.state, raft.term, raft.leader_id);
        if key != self.election_timeout.1 {
            let ticks = u64::from(self.config.election_ticks);
            self.election_timeout = (self.rng.between(ticks, 2 * ticks) as usize, key);
        }
        self.node
            .raft
            .set_randomized_election_timeout(self.election_timeout.0);
    }

    /// Corrects raft 0.7, where a stale rejection moves a follower's next entry behind what it is known to have.
    fn keep_next_behind_match(&mut self, id: u64) {
        if let Some(progress) = self.node.raft.mut_prs().get_mut(id)
            && progress.state == ProgressState::Probe
        {
            progress.next_idx = progress.next_idx.max(progress.matched + 1);
        }
    }

    /// For peers, through the raft logger's eyes.
    fn send(&mut self, messages: Vec<eraftpb::Message>) {
        for message in messages {
            let message = translate::message_out(message);
            transitions::log_sent(self.config.id, &message);
            if message.r#type == api::raftpb::MessageType::MsgSnap as i32 {
                self.want_snapshot(message);
            } else {
                self.out.messages.push(message);
            }
        }
    }

    fn want_snapshot(&mut self, message: Message) {
        match self.out.apply.last_mut() {
            Some(batch) => batch.send_snapshots.push(message),
            None => self.out.apply.push(crate::ApplyBatch {
                send_snapshots: vec![message],
                ..Default::default()
            }),
        }
    }
}

fn raft_config(config: &Config, applied: u64) -> raft::Config {
    raft::Config {
        id: config.id,
        election_tick: config.election_ticks as usize,
        heartbeat_tick: 1,
        applied,
        max_size_per_msg: config.max_size_per_message,
        max_inflight_msgs: config.max_inflight_messages,
        check_quorum: true,
        pre_vote: config.pre_vote,
        min_election_tick: 0,
        max_election_tick: 0,
        read_only_option: raft::ReadOnlyOption::Safe,
        skip_bcast_commit: false,
        batch_append: false,
        priority: 0,
        max_uncommitted_size: raft::NO_LIMIT,
        max_committed_size_per_ready: config.max_size_per_message,
    }
}

/// Leaves out acknowledgements that a later one of the same batch covers.
fn without_overtaken(messages: Vec<eraftpb::Message>) -> Vec<eraftpb::Message> {
    if messages.len() < 2 {
        return messages;
    }
    let mut later = None;
    let mut kept: Vec<_> = messages
        .into_iter()
        .rev()
        .filter(|message| {
            let acknowledges = message.get_msg_type() == eraftpb::MessageType::MsgAppendResponse
                && !message.reject;
            let overtaken = later.is_some_and(|(to, term, index)| {
                (message.to, message.term) == (to, term) && message.index <= index
            });
            if acknowledges && !overtaken {
                later = Some((message.to, message.term, message.index));
            }
            !(acknowledges && overtaken)
        })
        .collect();
    kept.reverse();
    kept
}

/// The change as raft understands it; `None` for those that leave the configuration alone.
fn conf_change_in(change: &ConfChange) -> Option<eraftpb::ConfChange> {
    let kind = match ConfChangeType::try_from(change.r#type).ok()? {
        ConfChangeType::AddNode => eraftpb::ConfChangeType::AddNode,
        ConfChangeType::AddLearnerNode => eraftpb::ConfChangeType::AddLearnerNode,
        ConfChangeType::RemoveNode => eraftpb::ConfChangeType::RemoveNode,
        ConfChangeType::UpdateNode => return None,
    };
    let mut out = eraftpb::ConfChange::default();
    out.set_change_type(kind);
    out.node_id = change.node_id;
    (change.node_id != 0).then_some(out)
}

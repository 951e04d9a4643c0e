//! What raft has to say after a step round: messages, things to write, things to apply.

use api::raftpb::{HardState, Snapshot};
use raft::{Ready, StateRole, eraftpb};

use super::{Core, Unpersisted};
use crate::storage::entry_size;
use crate::{
    ApplyBatch, Leadership, LeadershipChange, Output, Persist, ReadError, transitions, translate,
};

impl Core {
    /// Ends a step round: everything the inputs since the last call lead to.
    pub fn poll(&mut self) -> Output {
        self.try_campaign();
        loop {
            self.flush_proposals();
            self.start_reads();
            let mut busy = false;
            while self.node.has_ready() {
                self.handle_ready();
                busy = true;
            }
            self.note_leadership();
            self.note_first_commit();
            if !busy {
                break;
            }
        }
        self.acknowledge();
        self.refill();
        self.save_old_commit();
        std::mem::take(&mut self.out)
    }

    fn try_campaign(&mut self) {
        if !self.campaign_wanted {
            return;
        }
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader || raft.leader_id != 0 {
            self.campaign_wanted = false;
            return;
        }
        let (applied, committed) = (raft.raft_log.applied, raft.raft_log.committed);
        let pending = self.node.store().has_conf_change(applied + 1, committed);
        if raft.promotable() && self.may_campaign() && !pending {
            self.campaign_wanted = false;
            if let Err(error) = self.node.campaign() {
                tracing::debug!(target: "raft", %error, "campaign refused");
            }
            self.redraw_election_timeout();
        }
    }

    /// Whether a proposal would be taken now. What raft would drop is held instead.
    fn can_propose(&self) -> bool {
        let raft = &self.node.raft;
        match raft.state {
            StateRole::Leader => {
                raft.lead_transferee.is_none()
                    && !self.removed_leader()
                    && self.unpersisted_bytes < self.config.max_unpersisted_bytes
            }
            StateRole::Follower => raft.leader_id != 0,
            StateRole::Candidate | StateRole::PreCandidate => false,
        }
    }

    /// Everything that waits goes into few messages: one step and one append each.
    fn flush_proposals(&mut self) {
        while !self.proposals.is_empty() && self.can_propose() {
            let entries = self.proposals.take(self.config.max_size_per_message);
            let mut message = eraftpb::Message::default();
            message.set_msg_type(eraftpb::MessageType::MsgPropose);
            message.from = self.config.id;
            message.set_entries(entries.into());
            if let Err(error) = self.node.raft.step(message) {
                // `can_propose` says otherwise; the proposers' deadlines answer them.
                tracing::warn!(target: "raft", %error, "proposals dropped");
            }
            if self.node.raft.state == StateRole::Leader {
                // The unwritten bytes are known only after this.
                while self.node.has_ready() {
                    self.handle_ready();
                }
            }
        }
    }

    fn start_reads(&mut self) {
        if self.reads.is_idle() || self.removed_leader() {
            return;
        }
        if let Some(context) = self.reads.start(self.ticks) {
            self.send_read_index(context);
        }
    }

    pub(super) fn send_read_index(&mut self, context: u64) {
        if !self.removed_leader() {
            self.node.read_index(context.to_be_bytes().to_vec());
        }
    }

    fn note_leadership(&mut self) {
        let raft = &self.node.raft;
        let now = Leadership {
            role: transitions::role(raft.state),
            leader: raft.leader_id,
            term: raft.term,
        };
        if now == self.leadership {
            return;
        }
        transitions::log_transition(self.config.id, self.config.pre_vote, self.leadership, now);
        let before = self
            .out
            .leadership
            .map_or(self.leadership, |change| change.before);
        let step = LeadershipChange {
            now,
            before: self.leadership,
        };
        if step.new_leader() {
            self.out
                .reads
                .extend(self.reads.fail(ReadError::LeaderChanged));
        }
        self.leadership = now;
        self.out.leadership = Some(LeadershipChange { now, before });
    }

    /// The first commit of a term makes reads possible: raft dropped those that came before.
    fn note_first_commit(&mut self) {
        let raft = &self.node.raft;
        if raft.term == self.committed_term || !raft.commit_to_current_term() {
            return;
        }
        self.committed_term = raft.term;
        self.out.first_commit_in_term = Some(raft.term);
        if let Some(context) = self.reads.resend(self.ticks) {
            self.send_read_index(context);
        }
    }

    fn handle_ready(&mut self) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let vote = self.take_hard_state(&ready);
        let snapshot = (!ready.snapshot().is_empty()).then(|| {
            self.node.mut_store().restore(ready.snapshot());
            self.conf_index = self.conf_index.max(ready.snapshot().get_metadata().index);
            translate::snapshot_out(ready.snapshot())
        });
        let entries = ready.take_entries();
        let written: Vec<_> = entries.iter().map(translate::entry_out).collect();
        let bytes = entries.iter().map(entry_size).sum();
        self.node.mut_store().append(entries);

        for state in ready.take_read_states() {
            self.out
                .reads
                .extend(self.reads.answered(&state.request_ctx, state.index));
        }
        let mut now = ready.take_messages();
        let mut later = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        self.node.advance_append_async(ready);

        // A leader may speak of entries it has not written, but not in a term it could forget: a sole voter wins
        // its election before its vote is on disk.
        if vote || self.vote_unsynced() {
            later.append(&mut now);
        }
        self.send(now);
        if vote || snapshot.is_some() || !written.is_empty() {
            self.commit_unsaved = false;
            self.commit_saved_at = self.ticks;
            self.unpersisted_bytes += bytes;
            self.out.persist.extend(
                snapshot
                    .clone()
                    .map(|snapshot| self.persist_snapshot(snapshot)),
            );
            self.out.persist.push(Persist {
                epoch: self.epoch,
                number,
                snapshot: None,
                entries: written,
                hard_state: Some(self.hard_state),
                sync: true,
            });
            let messages = later;
            let job = Unpersisted {
                number,
                ready: number,
                messages,
                snapshot,
                vote,
                bytes,
            };
            self.unpersisted.push_back(job);
        } else if let Some(last) = self.unpersisted.back_mut() {
            last.ready = number;
            last.messages.append(&mut later);
        } else {
            self.unacknowledged = Some(number);
            self.acknowledge();
            self.send(later);
        }
        self.hand_committed(committed);
    }

    /// A snapshot counts only when the log says that its index is committed. That must be written before
    /// entries that continue it: without the snapshot, they would leave a hole in the log.
    fn persist_snapshot(&self, snapshot: Snapshot) -> Persist {
        let hard_state = HardState {
            commit: snapshot.metadata.index,
            ..self.hard_state
        };
        Persist {
            epoch: self.epoch,
            number: 0,
            snapshot: Some(snapshot),
            entries: Vec::new(),
            hard_state: Some(hard_state),
            sync: true,
        }
    }

    /// Keeps raft's hard state; whether term or vote changed, which must be durable before we speak of it.
    fn take_hard_state(&mut self, ready: &Ready) -> bool {
        let Some(state) = ready.hs() else {
            return false;
        };
        let state = translate::hard_state_out(state);
        let vote = (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote);
        self.hard_state = state;
        self.commit_unsaved = true;
        vote
    }

    /// Commit indexes ride on other writes. If none comes, one is written now and then, without a sync.
    fn save_old_commit(&mut self) {
        let due = self.commit_saved_at + u64::from(self.config.election_ticks);
        if !self.commit_unsaved || self.ticks < due || !self.unpersisted.is_empty() {
            return;
        }
        self.commit_unsaved = false;
        self.commit_saved_at = self.ticks;
        self.out.persist.push(Persist {
            epoch: self.epoch,
            number: 0,
            snapshot: None,
            entries: Vec::new(),
            hard_state: Some(self.hard_state),
            sync: false,
        });
    }

    /// Gives committed entries to the apply thread as far as there is room; the rest stays in the log.
    fn hand_committed(&mut self, mut entries: Vec<eraftpb::Entry>) {
        let Some((max_bytes, max_entries)) = self.window.room() else {
            return;
        };
        if entries
            .first()
            .is_none_or(|first| first.index != self.window.handed() + 1)
        {
            return;
        }
        let mut bytes = 0;
        let mut count = 0;
        for entry in &entries {
            let size = entry_size(entry);
            if count > 0 && (count >= max_entries || (bytes + size) as u64 > max_bytes) {
                break;
            }
            bytes += size;
            count += 1;
        }
        entries.truncate(count);
        self.hand(&entries, bytes);
    }

    /// Continues with entries that found no room earlier.
    fn refill(&mut self) {
        while self.window.handed() < self.committable() {
            let Some((max_bytes, max_entries)) = self.window.room() else {
                return;
            };
            let (low, high) = (self.window.handed() + 1, self.committable() + 1);
            if low < self.node.store().first() {
                // The log was replaced by a snapshot that is on its way to disk; it is handed over next.
                return;
            }
            let entries = self.node.store().slice(low, high, max_bytes, max_entries);
            let bytes = entries.iter().map(entry_size).sum();
            self.hand(&entries, bytes);
        }
    }

    fn hand(&mut self, entries: &[eraftpb::Entry], bytes: usize) {
        let Some(last) = entries.last() else { return };
        self.window.hand(last.index, bytes, entries.len());
        let entries = entries.iter().map(translate::entry_out);
        match self.out.apply.last_mut() {
            Some(batch) => batch.entries.extend(entries),
            None => self.out.apply.push(ApplyBatch {
                entries: entries.collect(),
                ..ApplyBatch::default()
            }),
        }
    }

    /// A received snapshot is durable: raft goes on behind it, the state machine takes it next.
    pub(super) fn hand_snapshot(&mut self, snapshot: Snapshot) {
        let index = snapshot.metadata.index;
        self.advance_raft_applied(index);
        if index > self.window.handed() {
            let size = snapshot.data.len();
            self.window.hand(index, size, 1);
            self.out.apply.push(ApplyBatch {
                snapshot: Some(snapshot),
                ..ApplyBatch::default()
            });
        }
    }
}

//! Messages from peers: the checks that need our own log, and what crate `raft` 0.7 gets wrong.

use api::raftpb::Message;
use raft::eraftpb::{self, MessageType as Type};
use raft::{ProgressState, StateRole};

use super::Core;
use crate::{StepError, transitions, translate};

/// Read requests of other members that may wait for their heartbeat round; more are dropped and sent again.
const MAX_PENDING_READS: usize = 1 << 16;

impl Core {
    /// Takes a message from a peer. An error says that it was refused; nothing changed then.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let message = translate::message_in(message, self.config.id)?;
        match message.get_msg_type() {
            Type::MsgPropose => {
                self.take_forwarded(message);
                return Ok(());
            }
            Type::MsgAppend if message.term >= self.node.raft.term => {
                self.check_append(&message)?;
            }
            Type::MsgHeartbeat if message.term >= self.node.raft.term => {
                self.check_heartbeat(&message)?;
            }
            Type::MsgSnapshot if message.term >= self.node.raft.term => {
                self.check_snapshot(&message)?;
            }
            Type::MsgAppendResponse if message.term == self.node.raft.term => {
                return self.step_append_response(message);
            }
            Type::MsgRequestVoteResponse | Type::MsgRequestPreVoteResponse
                if message.term >= self.node.raft.term =>
            {
                self.step_vote(message);
                return Ok(());
            }
            // Followers of `raft` cannot pass it on once it has a term.
            Type::MsgTransferLeader if self.node.raft.state != StateRole::Leader => return Ok(()),
            Type::MsgTimeoutNow if message.term >= self.node.raft.term => {
                if !self.may_campaign() {
                    return Ok(());
                }
                if message.term == self.node.raft.term && self.node.raft.promotable() {
                    transitions::log_timeout_now(self.config.id, message.term, message.from);
                }
            }
            // A removed leader takes the last voter for itself and would answer without asking.
            Type::MsgReadIndex
                if self.removed_leader()
                    || self.node.raft.pending_read_count() >= MAX_PENDING_READS =>
            {
                return Ok(());
            }
            _ => {}
        }
        self.step_raft(message);
        Ok(())
    }

    fn step_raft(&mut self, message: eraftpb::Message) {
        // Errors say that a message was dropped: an answer from a stranger, or a proposal without a leader.
        if let Err(error) = self.node.step(message) {
            tracing::debug!(target: "raft", %error, "message dropped");
        }
        self.redraw_election_timeout();
    }

    /// A proposal another member passed on to us; held like our own while we cannot append or pass it on.
    fn take_forwarded(&mut self, mut message: eraftpb::Message) {
        for mut entry in message.take_entries() {
            (entry.term, entry.index) = (0, 0);
            // Refused ones are lost, like a message is.
            let _ = self.proposals.push(None, entry, self.ticks);
        }
    }

    /// A leader cannot contradict what is committed here.
    fn check_append(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        if !message.entries.is_empty()
            && self.unpersisted_bytes >= self.config.max_unpersisted_bytes
        {
            return Err(StepError::Full);
        }
        let log = &self.node.raft.raft_log;
        let behind = message
            .entries
            .iter()
            .take_while(|entry| entry.index <= log.committed);
        for entry in behind {
            if log
                .term(entry.index)
                .is_ok_and(|term| term != 0 && term != entry.term)
            {
                return Err(StepError::Malformed("append contradicts a committed entry"));
            }
        }
        Ok(())
    }

    /// A leader commits nothing here that we did not acknowledge. If it does, this member lost a part of its log;
    /// answering would make that part count as stored.
    fn check_heartbeat(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        if message.commit > self.node.raft.raft_log.last_index() {
            return Err(StepError::Malformed(
                "commit index beyond our log: was the log lost?",
            ));
        }
        Ok(())
    }

    fn check_snapshot(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        let log = &self.node.raft.raft_log;
        let metadata = message.get_snapshot().get_metadata();
        if metadata.index == log.committed
            && log
                .term(log.committed)
                .is_ok_and(|term| term != metadata.term)
        {
            return Err(StepError::Malformed(
                "snapshot contradicts a committed entry",
            ));
        }
        Ok(())
    }

    /// Votes count only when our own vote and log are durable, which they are before anyone can answer, and only
    /// for a voter.
    fn step_vote(&mut self, message: eraftpb::Message) {
        let raft = &self.node.raft;
        let candidate = matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate);
        let early = raft.raft_log.persisted < raft.raft_log.last_index() || self.vote_unsynced();
        if candidate && (!raft.promotable() || (raft.state == StateRole::Candidate && early)) {
            return;
        }
        let pre = message.get_msg_type() == Type::MsgRequestPreVoteResponse;
        let counted = candidate && pre == (raft.state == StateRole::PreCandidate);
        if counted && raft.prs().get(message.from).is_some() {
            let (from, term) = (message.from, message.term);
            let mut tracker = raft.prs().clone();
            tracker.record_vote(from, !message.reject);
            let (granted, rejected, _) = tracker.tally_votes();
            transitions::log_votes(self.config.id, pre, from, term, granted, rejected);
        }
        self.step_raft(message);
    }

    /// An answer to entries we sent as leader.
    fn step_append_response(&mut self, mut message: eraftpb::Message) -> Result<(), StepError> {
        if self.node.raft.state != StateRole::Leader {
            return Ok(());
        }
        if message.index > self.node.raft.raft_log.last_index() {
            return Err(StepError::Malformed(
                "answer to an entry that was never sent",
            ));
        }
        let from = message.from;
        if self.removed_leader() {
            // Would commit, see there; the sender still counts as alive.
            if let Some(progress) = self.node.raft.mut_prs().get_mut(from) {
                progress.recent_active = true;
            }
            return Ok(());
        }
        if message.reject && self.is_stale_rejection(&mut message) {
            return Ok(());
        }
        self.step_raft(message);
        self.keep_next_behind_match(from);
        Ok(())
    }

    /// Rejections that were overtaken by an acknowledgement. Go never looks behind the acknowledged entry again;
    /// `raft` 0.7 does, and may send a needless snapshot. Where only the hint is too low, it is raised.
    fn is_stale_rejection(&mut self, message: &mut eraftpb::Message) -> bool {
        let raft = &mut self.node.raft;
        let hint = if message.log_term > 0 {
            raft.raft_log
                .find_conflict_by_term(message.reject_hint, message.log_term)
                .0
        } else {
            message.reject_hint
        };
        let Some(progress) = raft.mut_prs().get_mut(message.from) else {
            return false;
        };
        if progress.state != ProgressState::Probe {
            return false;
        }
        if message.index <= progress.matched {
            progress.recent_active = true;
            let expected = progress.next_idx == message.index + 1;
            if expected {
                progress.next_idx = progress.matched + 1;
                progress.resume();
                raft.send_append(message.from);
            }
            return true;
        }
        message.reject_hint = hint.max(progress.matched);
        message.log_term = 0;
        false
    }
}

//! The lines etcd logs about elections (logger `raft`), made from what a step changed. Crate `raft` has its own logger
//! with other texts; it is given one that discards.

use api::raftpb::{ConfState, Message, MessageType};
use raft::StateRole;

use crate::{Leadership, Role};

pub(crate) fn discard() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

pub(crate) fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}

/// Logs the way from one state to the next. A member that is the only voter takes several steps at once; they are
/// written one by one, as etcd does.
pub(crate) fn log_transition(id: u64, pre_vote: bool, before: Leadership, now: Leadership) {
    if (before.role, before.term) != (now.role, now.term) {
        let elected_alone =
            now.role == Role::Leader && !matches!(before.role, Role::Candidate | Role::Leader);
        if elected_alone && pre_vote && before.role != Role::PreCandidate {
            tracing::info!(target: "raft", "{id:x} became pre-candidate at term {}", now.term.saturating_sub(1));
        }
        if elected_alone {
            tracing::info!(target: "raft", "{id:x} became candidate at term {}", now.term);
        }
        let name = match now.role {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::PreCandidate => "pre-candidate",
        };
        tracing::info!(target: "raft", "{id:x} became {name} at term {}", now.term);
    }
    if before.leader != now.leader {
        match (before.leader, now.leader) {
            (0, new) => {
                tracing::info!(target: "raft", "raft.node: {id:x} elected leader {new:x} at term {}", now.term);
            }
            (old, 0) => {
                tracing::info!(target: "raft", "raft.node: {id:x} lost leader {old:x} at term {}", now.term);
            }
            (old, new) => {
                tracing::info!(
                    target: "raft",
                    "raft.node: {id:x} changed leader from {old:x} to {new:x} at term {}",
                    now.term
                );
            }
        }
    }
}

/// Logs requests for votes and answers to them.
pub(crate) fn log_sent(id: u64, message: &Message) {
    let (to, term) = (message.to, message.term);
    let at = |name: &str| {
        tracing::info!(
            target: "raft",
            "{id:x} [logterm: {}, index: {}] sent {name} request to {to:x} at term {term}",
            message.log_term,
            message.index
        );
    };
    match MessageType::try_from(message.r#type) {
        Ok(MessageType::MsgVote) => at("MsgVote"),
        Ok(MessageType::MsgPreVote) => at("MsgPreVote"),
        Ok(MessageType::MsgVoteResp) => log_ballot(id, "MsgVote", message),
        Ok(MessageType::MsgPreVoteResp) => log_ballot(id, "MsgPreVote", message),
        Ok(MessageType::MsgTimeoutNow) => {
            tracing::info!(target: "raft", "{id:x} sent MsgTimeoutNow to {to:x} at term {term}");
        }
        _ => {}
    }
}

fn log_ballot(id: u64, name: &str, message: &Message) {
    let did = if message.reject { "rejected" } else { "cast" };
    tracing::info!(target: "raft", "{id:x} {did} {name} for {:x} at term {}", message.to, message.term);
}

/// Logs a vote and the count so far.
pub(crate) fn log_votes(id: u64, pre: bool, from: u64, term: u64, granted: usize, rejected: usize) {
    let name = if pre { "MsgPreVoteResp" } else { "MsgVoteResp" };
    tracing::info!(target: "raft", "{id:x} received {name} from {from:x} at term {term}");
    tracing::info!(target: "raft", "{id:x} has received {granted} {name} votes and {rejected} vote rejections");
}

/// Logs that the leader asked this member to take over.
pub(crate) fn log_timeout_now(id: u64, term: u64, from: u64) {
    tracing::info!(
        target: "raft",
        "{id:x} [term {term}] received MsgTimeoutNow from {from:x} and starts an election to get leadership."
    );
}

/// Logs a new configuration.
pub(crate) fn log_configuration(id: u64, state: &ConfState) {
    let list = |ids: &[u64]| {
        ids.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let learners = if state.learners.is_empty() {
        String::new()
    } else {
        format!(" learners=({})", list(&state.learners))
    };
    tracing::info!(target: "raft", "{id:x} switched to configuration voters=({}){learners}", list(&state.voters));
}

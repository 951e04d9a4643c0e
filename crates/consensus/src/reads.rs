//! Read index requests share rounds: those that arrive while a round is under way wait for the next one.

use std::mem;

use crate::{ReadError, ReadOutcome};

/// A round under way.
#[derive(Debug)]
struct Round {
    ids: Vec<u64>,
    /// Contexts sent for it; an answer to any of them ends it.
    contexts: Vec<u64>,
    started: u64,
    sent: u64,
}

/// The rounds of one member. Time is counted in ticks.
#[derive(Debug)]
pub(crate) struct Reads {
    waiting: Vec<u64>,
    round: Option<Round>,
    next_context: u64,
    resend_after: u64,
    give_up_after: u64,
}

/// Contexts of a round that are remembered; more would need ten minutes without a leader.
const MAX_CONTEXTS: usize = 1024;

impl Reads {
    /// Contexts are unique among members and starts as etcd's request ids are: the low 16 bits of the member's id
    /// in front, then 40 bits that differ from start to start, then a counter.
    pub fn new(member: u64, seed: u64, resend_after: u64, give_up_after: u64) -> Self {
        let next_context = (member & 0xffff) << 48 | (seed & 0xff_ffff_ffff) << 8;
        Self {
            waiting: Vec::new(),
            round: None,
            next_context,
            resend_after,
            give_up_after,
        }
    }

    pub fn add(&mut self, ids: &[u64]) {
        self.waiting.extend_from_slice(ids);
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.round.is_none()
    }

    fn context(&mut self) -> u64 {
        const LOW: u64 = (1 << 48) - 1;
        self.next_context = (self.next_context & !LOW) | (self.next_context.wrapping_add(1) & LOW);
        self.next_context
    }

    /// Begins a round if requests wait and none is under way; the context to send.
    pub fn start(&mut self, now: u64) -> Option<u64> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        let context = self.context();
        let ids = mem::take(&mut self.waiting);
        self.round = Some(Round {
            ids,
            contexts: vec![context],
            started: now,
            sent: now,
        });
        Some(context)
    }

    /// A new context for the present round: the last request may have been lost.
    pub fn resend(&mut self, now: u64) -> Option<u64> {
        self.round.as_ref()?;
        let context = self.context();
        let round = self.round.as_mut()?;
        if round.contexts.len() == MAX_CONTEXTS {
            round.contexts.remove(0);
        }
        round.contexts.push(context);
        round.sent = now;
        Some(context)
    }

    /// The context to send if the round got no answer for too long; the outcome if it got none at all.
    pub fn tick(&mut self, now: u64) -> (Option<u64>, Option<ReadOutcome>) {
        let Some(round) = &self.round else {
            return (None, None);
        };
        if now - round.started >= self.give_up_after {
            return (None, self.fail(ReadError::TimedOut));
        }
        if now - round.sent >= self.resend_after {
            tracing::warn!(
                "sent-request-id" = round.contexts.last().copied().unwrap_or_default(),
                "waiting for ReadIndex response took too long, retrying"
            );
            return (self.resend(now), None);
        }
        (None, None)
    }

    /// An answer arrived.
    pub fn answered(&mut self, context: &[u8], index: u64) -> Option<ReadOutcome> {
        // Anything but 8 bytes is not from here; 0 is no context of ours.
        let context = <[u8; 8]>::try_from(context).map_or(0, u64::from_be_bytes);
        if !self.round.as_ref()?.contexts.contains(&context) {
            tracing::debug!(
                "received-request-id" = context,
                "ignored out-of-date read index response"
            );
            return None;
        }
        let round = self.round.take()?;
        Some(ReadOutcome {
            ids: round.ids,
            result: Ok(index),
        })
    }

    /// Ends the present round without an index.
    pub fn fail(&mut self, error: ReadError) -> Option<ReadOutcome> {
        self.round.take().map(|round| ReadOutcome {
            ids: round.ids,
            result: Err(error),
        })
    }

    /// Ends everything, also what waits for the next round.
    pub fn fail_all(&mut self, error: ReadError) -> Option<ReadOutcome> {
        let mut ids = self.round.take().map(|round| round.ids).unwrap_or_default();
        ids.append(&mut self.waiting);
        (!ids.is_empty()).then_some(ReadOutcome {
            ids,
            result: Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_round_under_way_wait_for_the_next() {
        let mut reads = Reads::new(0xabcd_ef01, 7, 5, 70);
        reads.add(&[1, 2]);
        let first = reads.start(0).unwrap();
        assert_eq!(first >> 48, 0xef01);
        reads.add(&[3]);
        assert_eq!(reads.start(0), None);
        assert_eq!(reads.answered(&(first + 9).to_be_bytes(), 4), None);
        assert_eq!(reads.answered(&first.to_be_bytes()[1..], 4), None);
        let outcome = reads.answered(&first.to_be_bytes(), 4).unwrap();
        assert_eq!(
            outcome,
            ReadOutcome {
                ids: vec![1, 2],
                result: Ok(4)
            }
        );
        assert_ne!(reads.start(0).unwrap(), first);
    }

    #[test]
    fn a_lost_request_is_sent_again_and_either_answer_counts() {
        let mut reads = Reads::new(1, 7, 5, 70);
        reads.add(&[1]);
        let first = reads.start(0).unwrap();
        assert_eq!(reads.tick(4), (None, None));
        let (second, _) = reads.tick(5);
        assert!(second.is_some_and(|second| second != first));
        assert_eq!(reads.tick(9), (None, None));
        assert!(reads.answered(&first.to_be_bytes(), 9).is_some());
        assert!(reads.is_idle());
    }

    #[test]
    fn a_round_without_any_answer_ends() {
        let mut reads = Reads::new(1, 7, 5, 70);
        reads.add(&[1]);
        reads.start(0).unwrap();
        for now in 1..70 {
            assert_eq!(reads.tick(now).1, None);
        }
        assert_eq!(
            reads.tick(70).1,
            Some(ReadOutcome {
                ids: vec![1],
                result: Err(ReadError::TimedOut)
            })
        );
        assert!(reads.is_idle());
    }
}

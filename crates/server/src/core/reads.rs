use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::waiter::{Slot, Wait, Wakes};

/// What a linearizable read waits for: that everything committed when it began is applied here.
pub type ReadOutcome = Result<(), api::Error>;

type Waiters = Vec<Arc<Slot<ReadOutcome>>>;

/// Linearizable reads that wait for their read index or for the apply thread to reach it.
///
/// All reads that arrive while a round is under way share the next one (docs/consensus.md, ReadIndex).
/// The rounds themselves are the consensus node's; this only keeps who waits for which.
#[derive(Debug, Default)]
pub struct Reads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Readers for the next round.
    next: Waiters,
    /// The round under way: when it began and who is in it.
    round: Option<(u64, Instant, Waiters)>,
    /// Readers whose index is known but not applied yet.
    confirmed: BTreeMap<u64, Waiters>,
    rounds: u64,
}

/// Whether the caller has to start a round, and under which number.
pub type StartRound = Option<u64>;

impl Reads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the next round; the second value says whether this reader must start it.
    pub fn join(&self, now: Instant) -> (Wait<ReadOutcome>, StartRound) {
        let (slot, wait) = Slot::new();
        let mut state = self.lock();
        state.next.push(slot);
        let start = state.begin_round(now);
        (wait, start)
    }

    /// Waits until `index` is applied, without a round.
    pub fn wait_applied(&self, index: u64, applied: impl Fn() -> u64) -> Option<Wait<ReadOutcome>> {
        if applied() >= index {
            return None;
        }
        let (slot, wait) = Slot::new();
        let mut state = self.lock();
        // The apply thread publishes its index before it takes the lock to look for readers.
        if applied() >= index {
            return None;
        }
        state.confirmed.entry(index).or_default().push(slot);
        Some(wait)
    }

    /// A round got its index. Returns the number of the next round if one must start.
    pub fn round_confirmed(
        &self,
        number: u64,
        index: u64,
        applied: u64,
        now: Instant,
    ) -> StartRound {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let waiters = match state.round.take() {
            Some((current, _, waiters)) if current == number => waiters,
            other => {
                state.round = other;
                return None;
            }
        };
        if applied >= index {
            for slot in waiters {
                slot.complete(Ok(()), &mut wakes);
            }
        } else {
            state.confirmed.entry(index).or_default().extend(waiters);
        }
        state.begin_round(now)
    }

    /// A round failed, or all did: its readers get the error. Returns the next round to start.
    pub fn round_failed(
        &self,
        number: Option<u64>,
        error: &api::Error,
        now: Instant,
    ) -> StartRound {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        match state.round.take() {
            Some((current, _, waiters)) if number.is_none_or(|n| n == current) => {
                for slot in waiters {
                    slot.complete(Err(error.clone()), &mut wakes);
                }
                state.begin_round(now)
            }
            other => {
                state.round = other;
                None
            }
        }
    }

    /// Entries up to `applied` are applied: readers that waited for them go on.
    pub fn applied(&self, applied: u64, wakes: &mut Wakes) {
        let mut state = self.lock();
        while let Some(first) = state.confirmed.first_entry() {
            if *first.key() > applied {
                break;
            }
            for slot in first.remove() {
                slot.complete(Ok(()), wakes);
            }
        }
    }

    /// Fails a round that is older than `limit`.
    pub fn expire(&self, now: Instant, limit: Duration) -> StartRound {
        let started = self.lock().round.as_ref().map(|(n, at, _)| (*n, *at));
        match started {
            Some((number, at)) if now.saturating_duration_since(at) >= limit => {
                self.round_failed(Some(number), &api::Error::Timeout, now)
            }
            _ => None,
        }
    }

    /// Ends all waits with one error: the member stops.
    pub fn fail_all(&self, error: &api::Error) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let round = state
            .round
            .take()
            .map(|(_, _, waiters)| waiters)
            .unwrap_or_default();
        let next = std::mem::take(&mut state.next);
        let confirmed = std::mem::take(&mut state.confirmed);
        for slot in round
            .into_iter()
            .chain(next)
            .chain(confirmed.into_values().flatten())
        {
            slot.complete(Err(error.clone()), &mut wakes);
        }
    }
}

impl State {
    fn begin_round(&mut self, now: Instant) -> StartRound {
        if self.round.is_some() || self.next.is_empty() {
            return None;
        }
        self.rounds += 1;
        self.round = Some((self.rounds, now, std::mem::take(&mut self.next)));
        Some(self.rounds)
    }
}

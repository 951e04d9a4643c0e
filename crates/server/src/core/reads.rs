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
    /// Why nobody can wait any more.
    closed: Option<api::Error>,
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
        if let Some(error) = &state.closed {
            slot.complete(Err(error.clone()), &mut Wakes::default());
            return (wait, None);
        }
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
        if let Some(error) = &state.closed {
            slot.complete(Err(error.clone()), &mut Wakes::default());
            return Some(wait);
        }
        state.confirmed.entry(index).or_default().push(slot);
        Some(wait)
    }

    /// A round got its index. Returns the number of the next round if one must start.
    ///
    /// `applied` is asked while the lock is held: the apply thread publishes its index before it takes the lock, so
    /// either this sees the index, or the apply thread sees the readers.
    pub fn round_confirmed(
        &self,
        number: u64,
        index: u64,
        applied: impl Fn() -> u64,
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
        if applied() >= index {
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
        state.closed = Some(error.clone());
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future;

    use super::*;

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(work)
    }

    async fn soon(wait: Wait<ReadOutcome>) -> ReadOutcome {
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .expect("a lost wake-up")
    }

    #[test]
    fn an_index_applied_while_its_round_is_confirmed_wakes_the_readers() {
        on_a_runtime(async {
            let reads = Reads::default();
            let (wait, round) = reads.join(Instant::now());
            // The apply thread gets there just before the confirmation takes the lock, and finds nobody.
            let applied = Cell::new(9);
            reads.applied(10, &mut Wakes::default());
            applied.set(10);
            let next = reads.round_confirmed(round.unwrap(), 10, || applied.get(), Instant::now());
            assert_eq!(next, None);
            assert!(soon(wait).await.is_ok());
        });
    }

    #[test]
    fn readers_wait_until_their_index_is_applied_and_not_for_more() {
        on_a_runtime(async {
            let reads = Reads::default();
            let (wait, round) = reads.join(Instant::now());
            let later = reads.wait_applied(11, || 9).unwrap();
            reads.round_confirmed(round.unwrap(), 10, || 9, Instant::now());
            let mut wakes = Wakes::default();
            reads.applied(9, &mut wakes);
            reads.applied(10, &mut wakes);
            drop(wakes);
            assert!(soon(wait).await.is_ok());
            assert!(
                tokio::time::timeout(Duration::from_millis(20), later)
                    .await
                    .is_err()
            );
        });
    }

    #[test]
    fn readers_that_come_during_a_round_share_the_next_one() {
        on_a_runtime(async {
            let reads = Reads::default();
            let (first, one) = reads.join(Instant::now());
            let (second, none) = reads.join(Instant::now());
            let (third, none_either) = reads.join(Instant::now());
            assert_eq!((one, none, none_either), (Some(1), None, None));
            let next = reads.round_confirmed(1, 5, || 5, Instant::now());
            assert_eq!(next, Some(2));
            assert!(soon(first).await.is_ok());
            // An answer to the old round is not one to the new: the index could be too low.
            assert_eq!(reads.round_confirmed(1, 5, || 5, Instant::now()), None);
            assert_eq!(reads.round_confirmed(2, 6, || 6, Instant::now()), None);
            assert!(soon(second).await.is_ok() && soon(third).await.is_ok());
        });
    }

    #[test]
    fn a_round_that_takes_too_long_fails_its_readers_and_the_next_begins() {
        on_a_runtime(async {
            let (reads, begin) = (Reads::default(), Instant::now());
            let (wait, _) = reads.join(begin);
            let (_next, _) = reads.join(begin);
            let limit = Duration::from_secs(7);
            assert_eq!(reads.expire(begin + limit / 2, limit), None);
            assert_eq!(reads.expire(begin + limit, limit), Some(2));
            assert!(matches!(soon(wait).await, Err(api::Error::Timeout)));
        });
    }

    #[test]
    fn nobody_starts_to_wait_at_a_member_that_stops() {
        on_a_runtime(async {
            let reads = Reads::default();
            let (before, _) = reads.join(Instant::now());
            reads.fail_all(&api::Error::Stopped);
            let (after, round) = reads.join(Instant::now());
            assert_eq!(round, None);
            let applied = reads.wait_applied(5, || 4).unwrap();
            for wait in [before, after, applied] {
                assert!(matches!(soon(wait).await, Err(api::Error::Stopped)));
            }
        });
    }
}

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use apply::{Request, Response};
use hashbrown::HashMap;

use super::waiter::{Slot, Wait, Wakes};

/// What a proposer waits for.
pub type Outcome = Result<Response, api::Error>;

const SHARDS: usize = 16;

/// Requests that were proposed here and are not applied yet, by request id.
///
/// The decoded request waits beside its entry, so that the apply thread parses nothing that this member
/// proposed itself. The number of requests is bounded by the limit on the distance between committed
/// and applied entries and by the bound of the consensus queue.
#[derive(Debug)]
pub struct Pending {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    requests: HashMap<u64, Entry>,
    /// Ids in the order of their start, for the time-outs; done ones are dropped when they get to the front.
    started: VecDeque<(Instant, u64)>,
    /// Why nobody can wait any more.
    closed: Option<api::Error>,
}

#[derive(Debug)]
struct Entry {
    request: Option<Request>,
    slot: Arc<Slot<Outcome>>,
    started: Instant,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
        }
    }
}

impl Pending {
    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        self.shards[id as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a request before it is proposed; `request` is `None` for a configuration change.
    pub fn register(&self, id: u64, request: Option<Request>, now: Instant) -> Wait<Outcome> {
        let (slot, wait) = Slot::new();
        let mut shard = self.shard(id);
        if let Some(error) = &shard.closed {
            slot.complete(Err(error.clone()), &mut Wakes::default());
            return wait;
        }
        while let Some(&(_, oldest)) = shard.started.front() {
            if shard.requests.contains_key(&oldest) {
                break;
            }
            shard.started.pop_front();
        }
        shard.started.push_back((now, id));
        shard.requests.insert(
            id,
            Entry {
                request,
                slot,
                started: now,
            },
        );
        wait
    }

    /// The decoded request of an entry proposed here, if it has one and somebody still waits.
    pub fn take_request(&self, id: u64) -> Option<Request> {
        self.shard(id).requests.get_mut(&id)?.request.take()
    }

    /// Whether somebody waits under the id.
    pub fn is_waited_for(&self, id: u64) -> bool {
        self.shard(id).requests.contains_key(&id)
    }

    /// Ends the wait under an id; returns when it began.
    pub fn complete(&self, id: u64, outcome: Outcome, wakes: &mut Wakes) -> Option<Instant> {
        let entry = self.shard(id).requests.remove(&id)?;
        entry.slot.complete(outcome, wakes);
        Some(entry.started)
    }

    /// Ends all waits that began more than `limit` before `now`, each with the error `fail` gives for
    /// the time it began.
    pub fn expire(&self, now: Instant, limit: Duration, fail: impl Fn(Instant) -> api::Error) {
        let mut wakes = Wakes::default();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(&(started, id)) = shard.started.front() {
                if now.saturating_duration_since(started) < limit {
                    break;
                }
                shard.started.pop_front();
                if let Some(entry) = shard.requests.remove(&id) {
                    entry.slot.complete(Err(fail(started)), &mut wakes);
                }
            }
        }
    }

    /// Ends all waits with one error: the member stops.
    pub fn fail_all(&self, error: &api::Error) {
        let mut wakes = Wakes::default();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.started.clear();
            shard.closed = Some(error.clone());
            for (_, entry) in shard.requests.drain() {
                entry.slot.complete(Err(error.clone()), &mut wakes);
            }
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| {
                s.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .requests
                    .len()
            })
            .sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use apply::Op;

    use super::*;

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(work)
    }

    fn request(id: u64) -> Request {
        Request {
            id,
            username: String::new(),
            auth_revision: 0,
            op: Op::Skipped,
        }
    }

    #[test]
    fn a_request_that_took_too_long_is_answered_once_and_decoded_again_when_it_comes() {
        on_a_runtime(async {
            let (pending, begin) = (Pending::default(), Instant::now());
            let (old, young) = (begin, begin + Duration::from_secs(6));
            let slow = pending.register(1, Some(request(1)), old);
            let _fast = pending.register(17, Some(request(17)), young);
            let limit = Duration::from_secs(7);
            pending.expire(begin + limit, limit, |started| {
                assert_eq!(started, old);
                api::Error::Timeout
            });
            assert!(matches!(slow.await, Err(api::Error::Timeout)));
            assert!(pending.take_request(1).is_none() && !pending.is_waited_for(1));
            assert!(pending.take_request(17).is_some() && pending.is_waited_for(17));
            let mut wakes = Wakes::default();
            assert!(
                pending
                    .complete(1, Ok(Response::Done), &mut wakes)
                    .is_none()
            );
        });
    }

    #[test]
    fn nobody_starts_to_wait_at_a_member_that_stops() {
        on_a_runtime(async {
            let pending = Pending::default();
            let before = pending.register(1, Some(request(1)), Instant::now());
            pending.fail_all(&api::Error::Stopped);
            let after = pending.register(2, Some(request(2)), Instant::now());
            for wait in [before, after] {
                assert!(matches!(wait.await, Err(api::Error::Stopped)));
            }
            assert!(pending.is_empty());
        });
    }
}

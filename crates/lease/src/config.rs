//! Limits and intervals of a [`Lessor`](crate::Lessor).

use std::time::Duration;

/// Largest time to live a lease may ask for, in seconds (about 285 years).
pub const MAX_TTL: i64 = 9_000_000_000;

/// How many expired leases a caller should take per [`ROUND`].
pub const EXPIRED_PER_ROUND: usize = 500;

/// Pause between two looks at expired leases and due checkpoints.
pub const ROUND: Duration = Duration::from_millis(500);

/// How many checkpoints one log entry carries at most.
pub const CHECKPOINTS_PER_ENTRY: usize = 1000;

/// How many checkpoint entries a caller should propose per [`ROUND`].
pub const CHECKPOINT_ENTRIES_PER_ROUND: usize = 500;

/// Options of a lessor. All members of a cluster need the same `min_ttl`, because the raised
/// value is what they store (see `docs/lease.md`).
#[derive(Debug, Clone)]
pub struct Config {
    /// Shortest time to live in seconds; shorter wishes are raised to it.
    pub min_ttl: i64,
    /// How long a reported expired lease is left alone before it is reported again.
    pub retry_interval: Duration,
    /// Age between two checkpoints of one lease; `None` when the primary makes none.
    pub checkpoint_interval: Option<Duration>,
}

impl Config {
    /// etcd's default intervals with the given minimum (seconds), no checkpoints.
    pub fn new(min_ttl: i64) -> Self {
        Self {
            min_ttl,
            retry_interval: Duration::from_secs(7),
            checkpoint_interval: None,
        }
    }
}

/// etcd's default for [`Config::checkpoint_interval`] when checkpoints are on.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(5);

/// The minimum time to live in whole seconds for an election timeout of `election_ticks` ticks:
/// one and a half election timeouts, rounded up, so that a lease outlives an election.
pub fn min_ttl(election_ticks: u32, tick: Duration) -> i64 {
    let ticks = u64::from(election_ticks) * 3 / 2;
    let nanos = tick.as_nanos().saturating_mul(u128::from(ticks));
    i64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(MAX_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_flags_give_two_seconds() {
        assert_eq!(min_ttl(10, Duration::from_millis(100)), 2);
        assert_eq!(min_ttl(10, Duration::from_secs(1)), 15);
        assert_eq!(min_ttl(5, Duration::from_millis(100)), 1);
    }
}

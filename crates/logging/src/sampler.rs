use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Level;

/// Lines with the same level and message that pass untouched per second.
const FIRST: u64 = 100;
/// Of the others, every n-th passes.
const THEREAFTER: u64 = 100;
/// Counters; messages that share one are counted together.
const COUNTERS: usize = 2048;

/// Bounds how often the same message is written: per second the first 100 lines of a (level,
/// message), then every 100th.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Upper 40 bits: second since the epoch (mod 2^40); lower 24 bits: count in that second.
    counters: Box<[AtomicU64]>,
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether this line is written. `second` is the current time in whole seconds.
    pub(crate) fn admit(&self, level: Level, message: &str, second: u64) -> bool {
        const COUNT_BITS: u32 = 24;
        const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;
        let mut hasher = DefaultHasher::new();
        (level, message).hash(&mut hasher);
        let counter = &self.counters[hasher.finish() as usize % COUNTERS];
        let second = second << COUNT_BITS;
        let next = |old: u64| {
            let count = if old & !MAX_COUNT == second {
                old & MAX_COUNT
            } else {
                0
            };
            second | (count + 1).min(MAX_COUNT)
        };
        let old = counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(next(old)))
            .unwrap_or_else(|old| old);
        let count = next(old) & MAX_COUNT;
        count <= FIRST || (count - FIRST).is_multiple_of(THEREAFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hundred_then_every_hundredth_per_second() {
        let sampler = Sampler::new();
        let passed = |second| {
            (0..1000)
                .filter(|_| sampler.admit(Level::Info, "again", second))
                .count()
        };
        assert_eq!(passed(1), 109);
        assert_eq!(passed(2), 109);
        assert!(sampler.admit(Level::Warn, "again", 2));
        assert!(sampler.admit(Level::Info, "another", 2));
    }
}

//! Spreading of expiries after an election.
//!
//! A new leader starts every lease afresh. Thousands of leases with the same time to live would
//! then expire in the same second, faster than they can be revoked. So no more than
//! [`PER_SECOND`] of them are put into one second; the rest move to the next second with room.

use std::collections::HashMap;
use std::time::Duration;

/// How many leases may expire in one second after an election: three quarters of the 1000 per
/// second that can be revoked.
pub(crate) const PER_SECOND: u32 = 750;

/// Below this number of leases no spreading is done.
pub(crate) const MIN_LEASES: usize = 1000;

/// Places expiries one by one; see the module's text.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    used: HashMap<u64, u32>,
    /// For a full second: a later second from which to go on looking.
    next: HashMap<u64, u64>,
}

impl Spread {
    /// The time at which a lease that would expire at `wanted` is to expire: `wanted` itself
    /// while its second has room, else a moment in the first later second that has.
    pub(crate) fn place(&mut self, wanted: Duration) -> Duration {
        let second = self.first_with_room(wanted.as_secs());
        let used = self.used.entry(second).or_insert(0);
        let nth = *used;
        *used += 1;
        if *used >= PER_SECOND {
            self.used.remove(&second);
            self.next.insert(second, second.saturating_add(1));
        }
        if second == wanted.as_secs() {
            return wanted;
        }
        let into = Duration::from_secs(1) / PER_SECOND * nth;
        Duration::from_secs(second).saturating_add(into)
    }

    fn first_with_room(&mut self, from: u64) -> u64 {
        let mut second = from;
        while let Some(&later) = self.next.get(&second) {
            if later == second {
                break;
            }
            second = later;
        }
        // Shorten the way for the next caller.
        let mut at = from;
        while at != second {
            match self.next.insert(at, second) {
                Some(later) => at = later,
                None => break,
            }
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_gets_more_than_its_share_and_nobody_is_early() {
        let mut spread = Spread::default();
        let mut per_second: HashMap<u64, u32> = HashMap::new();
        for n in 0..10_000u64 {
            let wanted = Duration::from_millis(60_000 + n % 1500);
            let placed = spread.place(wanted);
            assert!(placed >= wanted);
            *per_second.entry(placed.as_secs()).or_default() += 1;
        }
        assert!(per_second.values().all(|&n| n <= PER_SECOND));
        assert_eq!(per_second.len(), 10_000usize.div_ceil(PER_SECOND as usize));
    }

    #[test]
    fn the_end_of_time_has_room_for_everybody() {
        let mut spread = Spread::default();
        for _ in 0..2000 {
            assert_eq!(spread.place(Duration::MAX), Duration::MAX);
        }
    }
}

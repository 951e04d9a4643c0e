//! Timers, grouped by time slots of 100 ms.
//!
//! An entry is eight bytes and is never searched for: whoever set it remembers in which slot
//! ([`Calendar::set`] returns it) and simply ignores entries that come up in another one. Setting
//! costs one look-up among the slots in use, taking costs nothing but the pop.

use std::collections::BTreeMap;
use std::time::Duration;

const SLOT: Duration = Duration::from_millis(100);

/// Reference to a lease in the table; stale once the generation moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub index: u32,
    pub generation: u32,
}

/// A slot number that no timer is in.
pub(crate) const NO_SLOT: u64 = u64::MAX;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    slots: BTreeMap<u64, Vec<Handle>>,
}

/// The first slot that begins at or after `at`.
pub(crate) fn slot_of(at: Duration) -> u64 {
    let slots = at.as_nanos().div_ceil(SLOT.as_nanos());
    u64::try_from(slots).unwrap_or(NO_SLOT - 1).min(NO_SLOT - 1)
}

impl Calendar {
    /// Sets a timer that becomes due at `at`, or up to 100 ms later; returns its slot.
    pub(crate) fn set(&mut self, at: Duration, handle: Handle) -> u64 {
        let slot = slot_of(at);
        self.slots.entry(slot).or_default().push(handle);
        slot
    }

    /// Takes one timer that is due at `now`, with the slot it was set in.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<(u64, Handle)> {
        let limit = now.as_nanos() / SLOT.as_nanos();
        while let Some(mut first) = self.slots.first_entry() {
            let slot = *first.key();
            if u128::from(slot) > limit {
                return None;
            }
            if let Some(handle) = first.get_mut().pop() {
                return Some((slot, handle));
            }
            first.remove();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_before_its_time_and_everything_within_a_slot_after() {
        let mut calendar = Calendar::default();
        let handle = Handle {
            index: 1,
            generation: 0,
        };
        let at = Duration::from_millis(1234);
        let slot = calendar.set(at, handle);
        assert_eq!(calendar.take_due(at), None);
        assert_eq!(calendar.take_due(Duration::from_millis(1299)), None);
        assert_eq!(
            calendar.take_due(Duration::from_millis(1300)),
            Some((slot, handle))
        );
        assert_eq!(calendar.take_due(Duration::from_secs(9999)), None);
    }

    #[test]
    fn times_beyond_any_clock_do_not_overflow() {
        let mut calendar = Calendar::default();
        let handle = Handle {
            index: 1,
            generation: 0,
        };
        calendar.set(Duration::MAX, handle);
        assert_eq!(
            calendar.take_due(Duration::from_secs(u64::from(u32::MAX))),
            None
        );
        assert!(slot_of(Duration::MAX) < NO_SLOT);
    }
}

//! The part of a lessor that exists only while it is primary: time.

use std::time::Duration;

use crate::calendar::{Calendar, Handle, NO_SLOT, slot_of};
use crate::config::Config;
use crate::lessor::{Expired, seconds};
use crate::spread::{MIN_LEASES, Spread};
use crate::table::{Lease, Table, Timing};

/// How many timers or places one call looks at.
const WORK: usize = 4 * 1024;

/// See the module's text.
///
/// After a promotion the leases have no timers yet; [`Primary::expired`] walks through the table
/// in steps and sets them. Until a lease's turn has come its expiry follows from the promotion.
#[derive(Debug)]
pub(crate) struct Primary {
    term: u64,
    /// Promotion time plus the extension.
    start: Duration,
    /// The next place to set a timer for, and the end of the places that need one.
    next_place: u32,
    end_place: u32,
    spread: Option<Spread>,
    expiries: Calendar,
    checkpoints: Calendar,
}

impl Primary {
    pub(crate) fn new(term: u64, start: Duration, places: u32, leases: usize) -> Self {
        Self {
            term,
            start,
            next_place: 0,
            end_place: places,
            spread: (leases >= MIN_LEASES).then(Spread::default),
            expiries: Calendar::default(),
            checkpoints: Calendar::default(),
        }
    }

    /// When the lease expires.
    pub(crate) fn expiry(&self, lease: &Lease) -> Duration {
        if lease.timing.term == self.term {
            return lease.timing.expiry;
        }
        let left = if lease.remaining_ttl > 0 {
            lease.remaining_ttl
        } else {
            lease.ttl
        };
        self.start.saturating_add(seconds(left))
    }

    /// Lets the lease expire at `expiry`.
    pub(crate) fn start(
        &mut self,
        lease: &mut Lease,
        handle: Handle,
        expiry: Duration,
        now: Duration,
        config: &Config,
    ) {
        if lease.timing.term != self.term {
            lease.timing = Timing {
                term: self.term,
                ..Timing::NONE
            };
            lease.awaited = false;
        }
        lease.timing.expiry = expiry;
        // A timer that is too early moves on when it is due; one that is too late is replaced.
        if lease.timing.expiry_slot > slot_of(expiry) {
            lease.timing.expiry_slot = self.expiries.set(expiry, handle);
        }
        self.schedule_checkpoint(lease, handle, now, config);
    }

    /// Sets the timer for the next checkpoint if the lease lives long enough to need one.
    pub(crate) fn schedule_checkpoint(
        &mut self,
        lease: &mut Lease,
        handle: Handle,
        now: Duration,
        config: &Config,
    ) {
        let Some(interval) = config.checkpoint_interval else {
            return;
        };
        let timing = &mut lease.timing;
        if timing.term == self.term
            && timing.checkpoint_slot == NO_SLOT
            && timing.expiry.saturating_sub(now) > interval
        {
            timing.checkpoint_slot = self.checkpoints.set(now.saturating_add(interval), handle);
        }
    }

    pub(crate) fn offer_again(&mut self, lease: &mut Lease, handle: Handle, now: Duration) {
        if self.expiry(lease) <= now && lease.timing.term == self.term {
            // The slot that has begun already, so that the timer is due at once.
            let begun = Duration::from_millis((now.as_millis() / 100 * 100) as u64);
            lease.timing.expiry_slot = self.expiries.set(begun, handle);
        }
    }

    pub(crate) fn expired(
        &mut self,
        table: &mut Table,
        now: Duration,
        limit: usize,
        config: &Config,
    ) -> Expired {
        let mut work = WORK;
        self.set_timers(table, &mut work, now, config);
        let mut ids = Vec::new();
        while ids.len() < limit && work > 0 {
            work -= 1;
            let Some((slot, handle)) = self.expiries.take_due(now) else {
                return Expired {
                    ids,
                    more: self.next_place < self.end_place,
                };
            };
            let Some(lease) = table.by_handle(handle) else {
                continue;
            };
            if lease.timing.term != self.term || lease.timing.expiry_slot != slot {
                continue;
            }
            let again = if lease.timing.expiry <= now {
                ids.push(lease.id);
                now.saturating_add(config.retry_interval)
            } else {
                lease.timing.expiry
            };
            lease.timing.expiry_slot = self.expiries.set(again, handle);
        }
        Expired {
            ids,
            more: work == 0,
        }
    }

    /// Sets timers for leases that were there before the promotion.
    fn set_timers(&mut self, table: &mut Table, work: &mut usize, now: Duration, config: &Config) {
        while self.next_place < self.end_place && *work > 0 {
            *work -= 1;
            let index = self.next_place;
            self.next_place += 1;
            let handle = table.handle(index);
            let Some(lease) = table.at_place(index) else {
                continue;
            };
            self.settle(lease, handle, now, config);
        }
        if self.next_place >= self.end_place {
            self.spread = None;
        }
    }

    /// Sets the timer that the promotion owes to a lease, unless that was done.
    pub(crate) fn settle(
        &mut self,
        lease: &mut Lease,
        handle: Handle,
        now: Duration,
        config: &Config,
    ) {
        if lease.timing.term == self.term {
            return;
        }
        let mut expiry = self.expiry(lease);
        if let Some(spread) = &mut self.spread {
            expiry = spread.place(expiry);
        }
        self.start(lease, handle, expiry, now, config);
    }

    pub(crate) fn due_checkpoints(
        &mut self,
        table: &mut Table,
        now: Duration,
        limit: usize,
        config: &Config,
    ) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        let Some(interval) = config.checkpoint_interval else {
            return due;
        };
        let mut work = WORK;
        while due.len() < limit && work > 0 {
            work -= 1;
            let Some((slot, handle)) = self.checkpoints.take_due(now) else {
                break;
            };
            let Some(lease) = table.by_handle(handle) else {
                continue;
            };
            if lease.timing.term != self.term || lease.timing.checkpoint_slot != slot {
                continue;
            }
            lease.timing.checkpoint_slot = NO_SLOT;
            let left = lease.timing.expiry.saturating_sub(now);
            if left.is_zero() {
                continue;
            }
            let remaining = left.as_secs() as i64 + i64::from(left.subsec_nanos() > 0);
            // Just renewed: a checkpoint would say nothing new.
            if remaining < lease.ttl {
                due.push((lease.id, remaining));
            }
            if left > interval {
                let next = now.saturating_add(interval);
                lease.timing.checkpoint_slot = self.checkpoints.set(next, handle);
            }
        }
        due
    }
}

//! A copy of all leases' ids, sorted outside the lessor's lock.

use std::time::Duration;

/// What [`Lessor::leases`](crate::Lessor::leases) gives: taken in one pass under the lock, put
/// in order by whoever asked.
#[derive(Debug)]
pub struct Listing {
    pub(crate) entries: Vec<(Duration, i64)>,
}

impl Listing {
    /// The ids: on the primary those that expire first come first; elsewhere in numeric order,
    /// because only the primary knows times.
    pub fn sorted(mut self) -> Vec<i64> {
        self.entries.sort_unstable();
        self.entries.into_iter().map(|(_, id)| id).collect()
    }
}

//! The leases themselves: a table with stable places, found by id.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use crate::calendar::{Handle, NO_SLOT};

/// One lease as kept in memory.
#[derive(Debug)]
pub(crate) struct Lease {
    pub id: i64,
    /// Granted time to live in seconds, the minimum already applied.
    pub ttl: i64,
    /// Remaining seconds of the last checkpoint; 0 when there is none.
    pub remaining_ttl: i64,
    pub keys: HashSet<Bytes>,
    pub timing: Timing,
    /// A keep-alive waits for the revocation of this expired lease.
    pub awaited: bool,
}

/// Times of a lease on the primary. They mean something only while `term` is the primary's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Promotion in which the times were set; 0 = never.
    pub term: u64,
    pub expiry: Duration,
    /// Calendar slot of the expiry timer.
    pub expiry_slot: u64,
    /// Calendar slot of the checkpoint timer.
    pub checkpoint_slot: u64,
}

impl Timing {
    pub(crate) const NONE: Self = Self {
        term: 0,
        expiry: Duration::MAX,
        expiry_slot: NO_SLOT,
        checkpoint_slot: NO_SLOT,
    };
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    lease: Option<Lease>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_id: HashMap<i64, u32>,
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Number of places, used or free: the bound of [`Table::at_place`].
    pub(crate) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn index_of(&self, id: i64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The lease at a place, if one is there.
    pub(crate) fn at_place(&mut self, index: u32) -> Option<&mut Lease> {
        self.places.get_mut(index as usize)?.lease.as_mut()
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Lease> {
        let index = self.index_of(id)?;
        self.places[index as usize].lease.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut Lease> {
        let index = self.index_of(id)?;
        self.places[index as usize].lease.as_mut()
    }

    /// The lease a handle was made for, unless it is gone.
    pub(crate) fn by_handle(&mut self, handle: Handle) -> Option<&mut Lease> {
        let place = self.places.get_mut(handle.index as usize)?;
        if place.generation == handle.generation {
            place.lease.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn handle(&self, index: u32) -> Handle {
        Handle {
            index,
            generation: self.places[index as usize].generation,
        }
    }

    /// Adds a lease whose id is not in the table; returns its place.
    pub(crate) fn insert(&mut self, lease: Lease) -> u32 {
        let id = lease.id;
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index as usize].lease = Some(lease);
                index
            }
            None => {
                self.places.push(Place {
                    generation: 0,
                    lease: Some(lease),
                });
                (self.places.len() - 1) as u32
            }
        };
        self.by_id.insert(id, index);
        index
    }

    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        let index = self.by_id.remove(&id)?;
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        place.lease.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.places.iter().filter_map(|place| place.lease.as_ref())
    }
}

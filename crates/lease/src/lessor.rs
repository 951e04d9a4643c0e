//! Leases, what is attached to them, and when they expire.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use backend::{Backend, Bucket};
use bytes::Bytes;

use crate::config::{Config, MAX_TTL};
use crate::error::{Error, RecoverError};
use crate::listing::Listing;
use crate::primary::Primary;
use crate::record::{self, Records};
use crate::table::{Lease, Table, Timing};

/// Outcome of [`Lessor::renew`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease starts its full time anew.
    Renewed {
        /// Granted time to live in seconds.
        ttl: i64,
        /// The lease has a checkpoint, which would shorten it after an election: propose a
        /// checkpoint with remaining time 0 and answer when it is applied.
        clear_checkpoint: bool,
    },
    /// The lease's time is over, its revocation is on the way. Wait until [`Lessor::revoke`]
    /// reports it or the lessor is demoted; such a lease cannot come back to life.
    Expired,
}

/// Outcome of [`Lessor::revoke`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// A renewal was answered with [`Renewal::Expired`]: somebody waits for this.
    pub awaited: bool,
}

/// Outcome of [`Lessor::time_to_live`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeToLive {
    /// Remaining whole seconds; 0 while an expired lease waits for its revocation.
    pub ttl: i64,
    /// Granted seconds.
    pub granted_ttl: i64,
}

/// Outcome of [`Lessor::expired`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Leases to revoke.
    pub ids: Vec<i64>,
    /// The call stopped because it had done its share of work: give others the lock, call again.
    pub more: bool,
}

/// All leases of a member. See `docs/lease.md`.
///
/// The log decides which leases exist and what is attached to them, the same on all members. Time
/// runs only on the primary (the leader) and is not part of the replicated state. All times are
/// durations since an epoch of the caller's choice that never go back.
#[derive(Debug)]
pub struct Lessor {
    config: Config,
    table: Table,
    /// Lease of each attached key.
    items: HashMap<Bytes, i64>,
    primary: Option<Primary>,
    /// Number of promotions so far.
    terms: u64,
}

impl Lessor {
    /// An empty lessor, not primary. `min_ttl` in seconds, see [`crate::min_ttl`].
    pub fn new(min_ttl: i64) -> Self {
        Self::with_config(Config::new(min_ttl))
    }

    /// An empty lessor, not primary.
    pub fn with_config(config: Config) -> Self {
        Self {
            config,
            table: Table::default(),
            items: HashMap::new(),
            primary: None,
            terms: 0,
        }
    }

    /// Creates a lease and its record; answers the effective time to live in seconds, which is at
    /// least the configured minimum. Id 0 is refused: whoever proposes picks an id.
    pub fn grant(
        &mut self,
        records: &mut impl Records,
        id: i64,
        ttl: i64,
        now: Duration,
    ) -> Result<i64, Error> {
        if id == 0 {
            return Err(Error::NotFound);
        }
        if ttl > MAX_TTL {
            return Err(Error::TtlTooLarge);
        }
        if self.exists(id) {
            return Err(Error::Exists);
        }
        let ttl = ttl.max(self.config.min_ttl);
        records.put_record(key(id), record::encode(id, ttl, 0));
        let index = self.table.insert(new_lease(id, ttl, 0));
        if let Some(primary) = &mut self.primary {
            let handle = self.table.handle(index);
            if let Some(lease) = self.table.by_handle(handle) {
                primary.start(
                    lease,
                    handle,
                    now.saturating_add(seconds(ttl)),
                    now,
                    &self.config,
                );
            }
        }
        Ok(ttl)
    }

    /// First step of a revocation: the attached keys in bytewise order. The caller deletes them,
    /// each detached as it goes, and calls [`Lessor::revoke`] in the same log entry.
    pub fn keys_sorted(&self, id: i64) -> Result<Vec<Bytes>, Error> {
        let lease = self.table.get(id).ok_or(Error::NotFound)?;
        let mut keys: Vec<Bytes> = lease.keys.iter().cloned().collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Last step of a revocation: deletes the lease and its record. Keys that are still attached
    /// are detached.
    pub fn revoke(&mut self, records: &mut impl Records, id: i64) -> Result<Revoked, Error> {
        let lease = self.table.remove(id).ok_or(Error::NotFound)?;
        for key in &lease.keys {
            self.items.remove(key);
        }
        records.delete_record(&record::key(id));
        Ok(Revoked {
            awaited: lease.awaited,
        })
    }

    /// Whether a lease has this id; 0 never does.
    pub fn exists(&self, id: i64) -> bool {
        self.table.index_of(id).is_some()
    }

    /// Number of leases.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Granted time to live in seconds.
    pub fn granted_ttl(&self, id: i64) -> Result<i64, Error> {
        self.table
            .get(id)
            .map(|lease| lease.ttl)
            .ok_or(Error::NotFound)
    }

    /// Attaches a key; an attachment to another lease ends.
    pub fn attach(&mut self, id: i64, key: impl AsRef<[u8]>) -> Result<(), Error> {
        if !self.exists(id) {
            return Err(Error::NotFound);
        }
        self.reattach(key, id);
        Ok(())
    }

    /// What a put does: the key belongs to `id` from now on, or to no lease if that is 0 or
    /// unknown. Costs one look-up when the key has no lease and gets none, none at all when
    /// nothing is attached anywhere.
    pub fn reattach(&mut self, key: impl AsRef<[u8]>, id: i64) {
        let key = key.as_ref();
        if !self.items.is_empty() {
            match self.items.get(key) {
                Some(&old) if old == id => return,
                Some(_) => self.detach_key(key),
                None => {}
            }
        }
        if id == 0 {
            return;
        }
        if let Some(lease) = self.table.get_mut(id) {
            // A copy: the key is often a piece of a whole request, which must not live as long.
            let key = Bytes::copy_from_slice(key);
            lease.keys.insert(key.clone());
            self.items.insert(key, id);
        }
    }

    /// What a delete does: the key belongs to no lease any more.
    pub fn detach_key(&mut self, key: &[u8]) {
        if self.items.is_empty() {
            return;
        }
        if let Some(id) = self.items.remove(key)
            && let Some(lease) = self.table.get_mut(id)
        {
            lease.keys.remove(key);
        }
    }

    /// The lease a key is attached to.
    pub fn lease_of(&self, key: &[u8]) -> Option<i64> {
        if self.items.is_empty() {
            None
        } else {
            self.items.get(key).copied()
        }
    }

    /// The attached keys in no order, for permission checks and answers.
    pub fn keys(&self, id: i64) -> Result<impl Iterator<Item = &Bytes>, Error> {
        self.table
            .get(id)
            .map(|lease| lease.keys.iter())
            .ok_or(Error::NotFound)
    }

    /// Whether time runs here.
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Time starts to run: each lease gets its time to live, or what a checkpoint says remained
    /// of it, plus `extend` (the election timeout), counted from `now`. With many leases the
    /// expiries are spread. The call itself takes constant time: timers are set by the following
    /// calls of [`Lessor::expired`].
    pub fn promote(&mut self, now: Duration, extend: Duration) {
        self.terms += 1;
        self.primary = Some(Primary::new(
            self.terms,
            now.saturating_add(extend),
            self.table.places(),
            self.table.len(),
        ));
    }

    /// Time stops: nothing expires here any more.
    pub fn demote(&mut self) {
        self.primary = None;
    }

    /// Prolongs a lease to its full time to live. Only on the primary; never part of the log.
    pub fn renew(&mut self, id: i64, now: Duration) -> Result<Renewal, Error> {
        let primary = self.primary.as_mut().ok_or(Error::NotPrimary)?;
        let index = self.table.index_of(id).ok_or(Error::NotFound)?;
        let handle = self.table.handle(index);
        let lease = self.table.by_handle(handle).ok_or(Error::NotFound)?;
        if primary.expiry(lease) <= now {
            lease.awaited = true;
            return Ok(Renewal::Expired);
        }
        let expiry = now.saturating_add(seconds(lease.ttl));
        primary.start(lease, handle, expiry, now, &self.config);
        Ok(Renewal::Renewed {
            ttl: lease.ttl,
            clear_checkpoint: lease.remaining_ttl > 0,
        })
    }

    /// Remaining and granted time of a lease. Only on the primary.
    pub fn time_to_live(&self, id: i64, now: Duration) -> Result<TimeToLive, Error> {
        let primary = self.primary.as_ref().ok_or(Error::NotPrimary)?;
        let lease = self.table.get(id).ok_or(Error::NotFound)?;
        let left = primary.expiry(lease).saturating_sub(now);
        let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        Ok(TimeToLive {
            ttl,
            granted_ttl: lease.ttl,
        })
    }

    /// A copy of all ids, to be sorted after the lock is given back.
    pub fn leases(&self) -> Listing {
        let time = |lease: &Lease| match &self.primary {
            Some(primary) => primary.expiry(lease),
            None => Duration::ZERO,
        };
        Listing {
            entries: self
                .table
                .iter()
                .map(|lease| (time(lease), lease.id))
                .collect(),
        }
    }

    /// Up to `limit` leases whose time is over; each is reported again after the retry interval
    /// unless it was revoked. Nothing unless primary. Work per call is bounded: repeat the call
    /// while [`Expired::more`] is set, up to [`EXPIRED_PER_ROUND`](crate::EXPIRED_PER_ROUND)
    /// leases per [`ROUND`](crate::ROUND).
    pub fn expired(&mut self, now: Duration, limit: usize) -> Expired {
        match &mut self.primary {
            Some(primary) => primary.expired(&mut self.table, now, limit, &self.config),
            None => Expired::default(),
        }
    }

    /// Gives back leases that [`Lessor::expired`] reported and that could not be proposed: they
    /// are reported again by the next call.
    pub fn not_proposed(&mut self, ids: &[i64], now: Duration) {
        let Some(primary) = &mut self.primary else {
            return;
        };
        for &id in ids {
            if let Some(index) = self.table.index_of(id) {
                let handle = self.table.handle(index);
                if let Some(lease) = self.table.by_handle(handle) {
                    primary.offer_again(lease, handle, now);
                }
            }
        }
    }

    /// Up to `limit` checkpoints to propose, as (id, remaining seconds). Nothing unless primary
    /// and checkpoints are configured.
    pub fn due_checkpoints(&mut self, now: Duration, limit: usize) -> Vec<(i64, i64)> {
        match &mut self.primary {
            Some(primary) => primary.due_checkpoints(&mut self.table, now, limit, &self.config),
            None => Vec::new(),
        }
    }

    /// Applies a checkpoint: after the next election the lease has `remaining_ttl` seconds left
    /// (0 = its full time). Running times do not change. Unknown ids are ignored. With `persist`
    /// (cluster version 3.6, or the feature gate) the record is rewritten.
    pub fn checkpoint(
        &mut self,
        records: &mut impl Records,
        id: i64,
        remaining_ttl: i64,
        persist: bool,
        now: Duration,
    ) {
        let Some(index) = self.table.index_of(id) else {
            return;
        };
        let handle = self.table.handle(index);
        let Some(lease) = self.table.by_handle(handle) else {
            return;
        };
        if let Some(primary) = &mut self.primary {
            // The running time does not depend on the checkpoint, so it is fixed before that.
            primary.settle(lease, handle, now, &self.config);
            primary.schedule_checkpoint(lease, handle, now, &self.config);
        }
        lease.remaining_ttl = remaining_ttl;
        if persist {
            records.put_record(key(id), record::encode(id, lease.ttl, remaining_ttl));
        }
    }

    /// Starts over with the leases of a database: not primary, nothing attached. A time to live
    /// below the minimum is raised in memory only. On an error the lessor stays as it was.
    ///
    /// The caller then attaches the keys that the key-value store found to have a lease.
    pub fn recover(&mut self, backend: &Backend) -> Result<(), RecoverError> {
        self.recover_records(backend.range(Bucket::Lease, b"", None, 0)?)
    }

    /// Like [`Lessor::recover`], from records given as (key, value).
    pub fn recover_records(
        &mut self,
        records: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), RecoverError> {
        let mut table = Table::default();
        for (key, value) in records {
            let (id, ttl, remaining_ttl) =
                record::decode(&key, &value).ok_or_else(|| RecoverError::corrupt(&key))?;
            if table.index_of(id).is_none() {
                table.insert(new_lease(id, ttl.max(self.config.min_ttl), remaining_ttl));
            }
        }
        self.table = table;
        self.items = HashMap::new();
        self.primary = None;
        Ok(())
    }
}

fn new_lease(id: i64, ttl: i64, remaining_ttl: i64) -> Lease {
    Lease {
        id,
        ttl,
        remaining_ttl,
        keys: HashSet::new(),
        timing: Timing::NONE,
        awaited: false,
    }
}

fn key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&record::key(id))
}

/// Seconds as a duration; what is negative counts as none.
pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use api::etcdserverpb as pb;
use api::raftpb::ConfChange;
use backend::Position;
use bytes::Bytes;
use cluster::{Change, Membership, Persist};
use lease::Lessor;
use pb::alarm_request::AlarmAction;

use crate::alarm::{AlarmView, Alarms};
use crate::quota::Quota;
use crate::request::{Op, Request};
use crate::{Response, kv, txn};

/// What the state machine is made of.
pub struct Parts {
    /// This member's id, for alarms it raises.
    pub member_id: u64,
    /// Write side of the database.
    pub db: backend::Writer,
    /// Read side of the database.
    pub backend: Arc<backend::Backend>,
    /// Write side of the key-value store.
    pub kv: mvcc::Writer,
    /// Leases, shared with whoever renews and expires them.
    pub lessor: Arc<Mutex<Lessor>>,
    /// Members and versions, shared with readers.
    pub membership: Arc<RwLock<Membership>>,
    /// Limit on the size of the database.
    pub quota: Quota,
    /// Alarms as others see them.
    pub alarm_view: Arc<AlarmView>,
}

/// One member's replicated state; see the crate's documentation.
pub struct StateMachine {
    member_id: u64,
    db: backend::Writer,
    backend: Arc<backend::Backend>,
    kv: mvcc::Writer,
    lessor: Arc<Mutex<Lessor>>,
    membership: Arc<RwLock<Membership>>,
    quota: Quota,
    alarms: Alarms,
    alarm_view: Arc<AlarmView>,
    /// Entries up to here are in the database; they must not change it again.
    consistent: Position,
}

/// What applying one entry led to.
#[derive(Debug)]
pub struct Applied {
    /// The answer for whoever waits; `None` when the entry was in the database already.
    pub result: Option<Result<Response, api::Error>>,
    /// What the surroundings must do now.
    pub effect: Option<Effect>,
}

/// What an entry asks of the member around the state machine.
#[derive(Debug)]
pub enum Effect {
    /// The file is over its quota and no alarm says so yet: propose one for this member.
    RaiseNoSpace,
    /// The cluster version was set. A lower one than before wants a disk snapshot at once.
    ClusterVersion(cluster::VersionChange),
    /// A lease is gone that renewals wait for.
    LeaseRevoked,
}

/// What the membership says of a configuration change.
#[derive(Debug)]
pub struct ConfChangeVerdict {
    /// The change for raft: its node id is 0 when it was refused; `None` when raft knows it already.
    pub for_raft: Option<ConfChange>,
    /// What the connections to other members have to do, or why the change was refused.
    pub result: Result<cluster::Effect, api::Error>,
    /// Whether this member itself was removed.
    pub removed_self: bool,
}

/// The log holds what this member cannot follow, or the database failed: it must stop.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Membership or versions.
    #[error(transparent)]
    Cluster(#[from] cluster::FatalError),
    /// An entry that is no request.
    #[error(transparent)]
    Decode(#[from] crate::DecodeError),
    /// A change of users, roles or permissions.
    #[error(
        "the log holds an auth request ({0}), and this release has no authentication yet: go on with the release \
         that wrote it"
    )]
    Auth(&'static str),
    /// Reading what a transaction needs failed in its middle.
    #[error("unexpected error during txn with writes: {0}")]
    Store(api::Error),
    /// An entry of a kind that etcd never writes.
    #[error("unknown entry type; must be either EntryNormal or EntryConfChange: {0}")]
    UnknownEntryType(i32),
    /// A database received from the leader cannot be used.
    #[error("failed to recover from a received snapshot: {0}")]
    Restore(String),
    /// Raft could not follow a change that the membership accepted.
    #[error("failed to apply a configuration change: {0}")]
    ConfChange(String),
}

impl StateMachine {
    /// Takes over the parts; alarms are read from the database.
    pub fn new(parts: Parts) -> Result<Self, backend::Error> {
        let alarms = Alarms::load(&parts.backend)?;
        parts.alarm_view.set(&alarms);
        let consistent = parts.backend.position().unwrap_or_default();
        Ok(Self {
            member_id: parts.member_id,
            db: parts.db,
            backend: parts.backend,
            kv: parts.kv,
            lessor: parts.lessor,
            membership: parts.membership,
            quota: parts.quota,
            alarms,
            alarm_view: parts.alarm_view,
            consistent,
        })
    }

    /// The last entry whose effects are in the database (or on their way there).
    pub fn position(&self) -> Position {
        self.consistent
    }

    /// Write side of the database, for commits.
    pub fn db(&mut self) -> &mut backend::Writer {
        &mut self.db
    }

    /// Applies an entry without data: a new leader's first, or one raft put in place of a refused
    /// configuration change.
    pub fn apply_empty(&mut self, at: Position) {
        if at.index > self.consistent.index {
            self.end_entry(at);
        }
    }

    /// Applies a decoded request. `waited` says whether somebody here wants the answer; `now` is the
    /// time leases count from.
    pub fn apply(
        &mut self,
        at: Position,
        request: Request,
        waited: bool,
        now: Duration,
    ) -> Result<Applied, Fatal> {
        let fresh = at.index > self.consistent.index;
        let applied = match request.op {
            Op::ClusterVersionSet(_)
            | Op::ClusterMemberAttrSet(_)
            | Op::DowngradeInfoSet(_)
            | Op::DowngradeVersionTest => self.apply_cluster(request.op, fresh)?,
            _ if !fresh => Applied {
                result: None,
                effect: None,
            },
            Op::Auth(name) => return Err(Fatal::Auth(name)),
            op => self.apply_checked(op, waited, now)?,
        };
        if fresh {
            self.end_entry(at);
        }
        Ok(applied)
    }

    fn end_entry(&mut self, at: Position) {
        self.consistent = at;
        self.db.end_entry(at);
    }

    /// The checks that any request passes, outermost first: alarms, then quota around the request itself.
    fn apply_checked(&mut self, op: Op, waited: bool, now: Duration) -> Result<Applied, Fatal> {
        if let Some(error) = self.refused_by_alarm(&op) {
            return Ok(Applied {
                result: Some(Err(error)),
                effect: None,
            });
        }
        // The size differs between members, so a full file must not keep the change from happening;
        // it only turns the answer into an error.
        let available = self.quota.available(self.backend.size(), Quota::cost(&op));
        let mut effect = None;
        let mut result = self.dispatch(op, waited, now, &mut effect);
        if let Err(error @ api::Error::Other { .. }) = result {
            return Err(Fatal::Store(error));
        }
        if !available && result.is_ok() {
            result = Err(api::Error::NoSpace);
        }
        if matches!(result, Err(api::Error::NoSpace)) && !self.alarms.any(pb::AlarmType::Nospace) {
            effect = Some(Effect::RaiseNoSpace);
        }
        Ok(Applied {
            result: Some(result),
            effect,
        })
    }

    fn refused_by_alarm(&self, op: &Op) -> Option<api::Error> {
        let changes_data = matches!(
            op,
            Op::Put(_)
                | Op::Range(_)
                | Op::DeleteRange(_)
                | Op::Txn(_)
                | Op::Compaction(_)
                | Op::LeaseGrant(_)
                | Op::LeaseRevoke(_)
        );
        if changes_data && self.alarms.any(pb::AlarmType::Corrupt) {
            return Some(api::Error::Corrupt);
        }
        let grows = match op {
            Op::Put(_) | Op::LeaseGrant(_) => true,
            Op::Txn(txn) => crate::txn_cost(txn) > 0,
            _ => false,
        };
        (grows && self.alarms.any(pb::AlarmType::Nospace)).then_some(api::Error::NoSpace)
    }

    fn dispatch(
        &mut self,
        op: Op,
        waited: bool,
        now: Duration,
        effect: &mut Option<Effect>,
    ) -> Result<Response, api::Error> {
        match op {
            Op::Put(request) => self.put(request).map(Response::Put),
            Op::DeleteRange(request) => self.delete_range(&request).map(Response::DeleteRange),
            Op::Txn(request) => self.txn(request, waited).map(Response::Txn),
            Op::Range(request) => {
                if !waited {
                    return Ok(Response::Done);
                }
                let txn = self.kv.begin(&mut self.db);
                txn.range(
                    &request.key,
                    &request.range_end,
                    &kv::range_options(&request),
                )
                .map(|result| Response::Range(kv::range_response(result)))
                .map_err(kv::store_error)
            }
            Op::Compaction(request) => self.compact(&request).map(Response::Compaction),
            Op::LeaseGrant(request) => self.lease_grant(&request, now).map(Response::LeaseGrant),
            Op::LeaseRevoke(request) => self
                .lease_revoke(request, effect)
                .map(Response::LeaseRevoke),
            Op::LeaseCheckpoint(request) => {
                self.lease_checkpoint(&request, now);
                Ok(Response::Done)
            }
            Op::Alarm(request) => Ok(Response::Alarm(self.alarm(&request))),
            Op::ClusterVersionSet(_)
            | Op::ClusterMemberAttrSet(_)
            | Op::DowngradeInfoSet(_)
            | Op::DowngradeVersionTest
            | Op::Auth(_)
            | Op::Skipped => Ok(Response::Done),
        }
    }

    fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, api::Error> {
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut txn = self.kv.begin(&mut self.db);
        kv::check_put(&txn, &lessor, &request)?;
        let response = kv::put(&mut txn, &mut lessor, request)?;
        txn.finish();
        Ok(response)
    }

    fn delete_range(
        &mut self,
        request: &pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, api::Error> {
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut txn = self.kv.begin(&mut self.db);
        let response = kv::delete_range(&mut txn, &mut lessor, request)?;
        txn.finish();
        Ok(response)
    }

    fn txn(
        &mut self,
        request: pb::TxnRequest,
        waited: bool,
    ) -> Result<pb::TxnResponse, api::Error> {
        let compacted = self.kv.store().compact_revision();
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut txn = self.kv.begin(&mut self.db);
        let response = txn::apply(&mut txn, &mut lessor, request, waited, compacted)?;
        txn.finish();
        Ok(response)
    }

    /// The deletion itself goes on in the background of the store.
    fn compact(
        &mut self,
        request: &pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, api::Error> {
        self.kv
            .compact(&mut self.db, request.revision)
            .map_err(kv::store_error)?;
        Ok(pb::CompactionResponse {
            header: kv::header(self.kv.store().current_revision()),
        })
    }

    fn lease_grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
        now: Duration,
    ) -> Result<pb::LeaseGrantResponse, api::Error> {
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        let ttl = lessor
            .grant(&mut self.db, request.id, request.ttl, now)
            .map_err(lease_error)?;
        Ok(pb::LeaseGrantResponse {
            header: kv::header(self.kv.store().current_revision()),
            id: request.id,
            ttl,
            error: String::new(),
        })
    }

    /// Deletes the attached keys, in bytewise order and one revision, and the lease with them.
    fn lease_revoke(
        &mut self,
        request: pb::LeaseRevokeRequest,
        effect: &mut Option<Effect>,
    ) -> Result<pb::LeaseRevokeResponse, api::Error> {
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Bytes> = lessor.keys_sorted(request.id).map_err(lease_error)?;
        let mut txn = self.kv.begin(&mut self.db);
        for key in keys {
            let one = pb::DeleteRangeRequest {
                key,
                ..Default::default()
            };
            kv::delete_range(&mut txn, &mut lessor, &one)?;
        }
        txn.finish();
        if lessor
            .revoke(&mut self.db, request.id)
            .map_err(lease_error)?
            .awaited
        {
            *effect = Some(Effect::LeaseRevoked);
        }
        Ok(pb::LeaseRevokeResponse {
            header: kv::header(self.kv.store().current_revision()),
        })
    }

    fn lease_checkpoint(&mut self, request: &pb::LeaseCheckpointRequest, now: Duration) {
        let version = self
            .membership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .version();
        let persist = version.is_some_and(|version| version >= cluster::Version::V3_6);
        let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &request.checkpoints {
            lessor.checkpoint(&mut self.db, one.id, one.remaining_ttl, persist, now);
        }
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> pb::AlarmResponse {
        let alarm = pb::AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.alarms.get(request.alarm),
            Ok(AlarmAction::Activate) if request.alarm == pb::AlarmType::None as i32 => Vec::new(),
            Ok(AlarmAction::Activate) => {
                if self.alarms.raise(&mut self.db, &alarm) {
                    tracing::warn!(
                        "member-id" = %format_args!("{:x}", alarm.member_id),
                        alarm = ?alarm.alarm(),
                        "alarm raised"
                    );
                }
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) => {
                if self.alarms.disarm(&mut self.db, &alarm) {
                    vec![alarm]
                } else {
                    Vec::new()
                }
            }
            Err(_) => Vec::new(),
        };
        self.alarm_view.set(&self.alarms);
        pb::AlarmResponse {
            header: kv::header(self.kv.store().current_revision()),
            alarms,
        }
    }

    /// Versions and attributes. They are taken over in memory even when the database has them already.
    fn apply_cluster(&mut self, op: Op, fresh: bool) -> Result<Applied, Fatal> {
        let mut membership = self
            .membership
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let persist = if fresh {
            Persist::Backend(&mut self.db)
        } else {
            Persist::MemoryOnly
        };
        let effect = match op {
            Op::ClusterVersionSet(request) => {
                let change = membership.set_version(&request.ver, persist)?;
                // A replay passes through versions that are history.
                fresh.then_some(Effect::ClusterVersion(change))
            }
            Op::ClusterMemberAttrSet(request) => {
                let attributes = request.member_attributes.unwrap_or_default();
                let (name, urls) = (&attributes.name, &attributes.client_urls);
                membership.set_attributes(request.member_id, name, urls, persist)?;
                None
            }
            Op::DowngradeInfoSet(request) => {
                membership.set_downgrade(request.enabled, &request.ver, persist)?;
                None
            }
            _ => None,
        };
        Ok(Applied {
            result: Some(Ok(Response::Done)),
            effect,
        })
    }

    /// Validates a configuration change and takes it over. After raft has been given
    /// [`ConfChangeVerdict::for_raft`], the caller hands the resulting state to
    /// [`StateMachine::end_conf_change`].
    pub fn apply_conf_change(
        &mut self,
        at: Position,
        change: &ConfChange,
    ) -> Result<ConfChangeVerdict, Fatal> {
        let fresh = at.index > self.consistent.index;
        let decoded = Change::decode(change)?;
        let mut membership = self
            .membership
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if fresh && let Err(error) = membership.validate(&decoded) {
            tracing::error!(%error, "Validation on configuration change failed");
            let refused = ConfChange {
                node_id: 0,
                ..change.clone()
            };
            return Ok(ConfChangeVerdict {
                for_raft: Some(refused),
                result: Err(error.into()),
                removed_self: false,
            });
        }
        let persist = if fresh {
            Persist::Backend(&mut self.db)
        } else {
            Persist::MemoryOnly
        };
        let removed_self = matches!(decoded, Change::Remove(id) if id == self.member_id);
        let effect = membership.apply(&decoded, persist);
        Ok(ConfChangeVerdict {
            for_raft: fresh.then(|| change.clone()),
            result: Ok(effect),
            removed_self,
        })
    }

    /// Ends the entry of a configuration change with the state raft has after it.
    pub fn end_conf_change(&mut self, at: Position, conf_state: Option<Bytes>) {
        if at.index <= self.consistent.index {
            return;
        }
        if let Some(json) = conf_state {
            self.db.set_conf_state(json);
        }
        self.end_entry(at);
    }

    /// Goes on from a database that the leader has sent, which takes the place of the present one, as if all entries
    /// up to its position had been applied. After an error the member must stop.
    pub fn restore(&mut self, database: &Path) -> Result<(), Fatal> {
        let failed = |error: &dyn std::fmt::Display| Fatal::Restore(error.to_string());
        self.kv.suspend();
        let position = self.backend.replace(database).map_err(|e| failed(&e))?;
        let settings = self
            .membership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .settings();
        let membership =
            Membership::load(settings, self.backend.as_ref()).map_err(|e| failed(&e))?;
        {
            // Nobody may see the keys of one and the leases of the other.
            let mut lessor = self.lessor.lock().unwrap_or_else(PoisonError::into_inner);
            lessor.recover(&self.backend).map_err(|e| failed(&e))?;
            let attached = self.kv.restore(Arc::clone(&self.backend));
            for (id, key) in attached.map_err(|e| failed(&e))? {
                if lessor.attach(id, key).is_err() {
                    tracing::error!("lease-id" = %format_args!("{id:016x}"), "failed to attach a lease");
                }
            }
        }
        self.alarms = Alarms::load(&self.backend).map_err(|e| failed(&e))?;
        self.alarm_view.set(&self.alarms);
        *self
            .membership
            .write()
            .unwrap_or_else(PoisonError::into_inner) = membership;
        self.consistent = position.unwrap_or_default();
        Ok(())
    }

    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.member_id
    }
}

fn lease_error(error: lease::Error) -> api::Error {
    match error {
        lease::Error::NotFound => api::Error::LeaseNotFound,
        lease::Error::Exists => api::Error::LeaseExist,
        lease::Error::TtlTooLarge => api::Error::LeaseTtlTooLarge,
        lease::Error::NotPrimary => api::Error::NotPrimaryLessor,
    }
}

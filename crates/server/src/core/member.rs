use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use api::etcdserverpb::ResponseHeader;
use apply::{AlarmView, Op, Quota, Request, Response};
use auth::AuthInfo;
use cluster::Membership;
use consensus::Proposal;
use lease::Lessor;

use super::{Bulk, IdGenerator, Peers, Pending, Reads};
use crate::frontend::Caller;
use crate::metrics::Metrics;

/// Committed but not applied entries at which a member stops taking proposals.
const MAX_APPLY_GAP: u64 = 5000;

/// What a member allows its clients; the flags of the same names.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--max-request-bytes`: longest encoded proposal.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// One election timeout.
    pub election_timeout: Duration,
    /// `--strict-reconfig-check`.
    pub strict_reconfig: bool,
}

impl Limits {
    /// How long a request may take inside the server: 5 s for the disk and the network, and two
    /// elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

/// What a member is made of.
#[allow(missing_docs)] // the fields of `Member`
pub struct MemberParts {
    pub id: u64,
    pub cluster_id: u64,
    pub limits: Limits,
    pub ids: IdGenerator,
    pub node: consensus::Node,
    pub store: Arc<mvcc::Store>,
    pub backend: Arc<backend::Backend>,
    pub lessor: Arc<Mutex<Lessor>>,
    pub membership: Arc<RwLock<Membership>>,
    pub alarms: Arc<AlarmView>,
    pub quota: Quota,
    pub hub: Arc<watch::Hub>,
    pub bulk: Bulk,
    pub auth: Arc<auth::AuthView>,
    pub passwords: auth::PasswordPool,
    pub peers: Peers,
    pub epoch: Instant,
    pub applied: u64,
    pub metrics: Arc<Metrics>,
}

/// One member as its frontends see it.
pub struct Member {
    /// This member's id.
    pub id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// What clients may ask.
    pub limits: Limits,
    pub(crate) ids: IdGenerator,
    pub(crate) node: consensus::Node,
    pub(crate) store: Arc<mvcc::Store>,
    pub(crate) backend: Arc<backend::Backend>,
    pub(crate) lessor: Arc<Mutex<Lessor>>,
    pub(crate) membership: Arc<RwLock<Membership>>,
    pub(crate) alarms: Arc<AlarmView>,
    pub(crate) quota: Quota,
    pub(crate) hub: Arc<watch::Hub>,
    pub(crate) bulk: Bulk,
    pub(crate) auth: Arc<auth::AuthView>,
    pub(crate) passwords: auth::PasswordPool,
    pub(crate) peers: Peers,
    pub(crate) pending: Pending,
    pub(crate) reads: Reads,
    pub(crate) metrics: Arc<Metrics>,
    epoch: Instant,
    applied: AtomicU64,
    stopping: AtomicBool,
    leader_changes: AtomicU64,
    /// Proposals that the member itself wants made; taken by the background runtime.
    wishes: tokio::sync::mpsc::Sender<Op>,
    wishes_taken: Mutex<Option<tokio::sync::mpsc::Receiver<Op>>>,
}

/// How many wishes may wait; more are dropped, since each will be wished again.
const MAX_WISHES: usize = 16;

impl Member {
    /// Puts a member together; the apply thread and the background still have to be started.
    pub fn new(parts: MemberParts) -> Arc<Self> {
        let (wishes, taken) = tokio::sync::mpsc::channel(MAX_WISHES);
        Arc::new(Self {
            id: parts.id,
            cluster_id: parts.cluster_id,
            limits: parts.limits,
            ids: parts.ids,
            node: parts.node,
            store: parts.store,
            backend: parts.backend,
            lessor: parts.lessor,
            membership: parts.membership,
            alarms: parts.alarms,
            quota: parts.quota,
            hub: parts.hub,
            bulk: parts.bulk,
            auth: parts.auth,
            passwords: parts.passwords,
            peers: parts.peers,
            metrics: parts.metrics,
            pending: Pending::default(),
            reads: Reads::default(),
            epoch: parts.epoch,
            applied: AtomicU64::new(parts.applied),
            stopping: AtomicBool::new(false),
            leader_changes: AtomicU64::new(0),
            wishes,
            wishes_taken: Mutex::new(Some(taken)),
        })
    }

    /// Time since the member started; leases count in it.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
    }

    /// A leader was found (or lost, with id 0).
    pub(crate) fn note_leader(&self, leader: u64) {
        if leader != 0 {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a leader was found since the start.
    pub(crate) fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// Whether the member is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.node.status().leader == self.id
    }

    pub(crate) fn lessor(&self) -> MutexGuard<'_, Lessor> {
        self.lessor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn membership(&self) -> RwLockReadGuard<'_, Membership> {
        self.membership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The header of an answer given now, with the current revision.
    pub fn response_header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.id,
            revision: self.store.current_revision(),
            raft_term: self.node.status().term,
        }
    }

    /// Completes a header whose revision an operation filled.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.cluster_id;
        header.member_id = self.id;
        header.raft_term = self.node.status().term;
        if header.revision == 0 {
            header.revision = self.store.current_revision();
        }
    }

    /// Proposes a request on the member's own behalf and waits until it is applied here.
    pub(crate) async fn propose(&self, op: Op) -> Result<Response, api::Error> {
        self.may_propose()?;
        self.propose_by(None, op).await
    }

    /// Proposes a request of somebody, whose name goes with it, and waits until it is applied here.
    pub(crate) async fn propose_for(
        &self,
        caller: &Caller,
        op: Op,
    ) -> Result<Response, api::Error> {
        self.may_propose()?;
        let info = self.identify(caller).await?;
        self.propose_by(info, op).await
    }

    fn may_propose(&self) -> Result<(), api::Error> {
        if self.is_stopping() {
            return Err(api::Error::Stopped);
        }
        if self.node.status().committed > self.applied() + MAX_APPLY_GAP {
            return Err(api::Error::TooManyRequests);
        }
        Ok(())
    }

    async fn propose_by(&self, info: Option<AuthInfo>, op: Op) -> Result<Response, api::Error> {
        let id = self.ids.next();
        let request = Request {
            id,
            username: info
                .as_ref()
                .map_or_else(String::new, |info| info.username.to_string()),
            auth_revision: info.map_or(0, |info| info.revision),
            op,
        };
        let data = apply::encode(&request);
        if data.len() > self.limits.max_request_bytes {
            return Err(api::Error::RequestTooLarge);
        }
        let wait = self.pending.register(id, Some(request), Instant::now());
        if let Err(refused) = self.node.propose(vec![Proposal { id, data }]) {
            let error = if refused.stopped {
                api::Error::Stopped
            } else {
                api::Error::TooManyRequests
            };
            let mut wakes = super::Wakes::default();
            self.pending.complete(id, Err(error), &mut wakes);
        }
        let result = wait.await;
        if matches!(
            result,
            Err(api::Error::Timeout | api::Error::DeadlineExceeded)
        ) {
            self.metrics.server.proposals_failed.inc();
        }
        result
    }

    /// Asks the background to propose something on the member's own behalf.
    pub(crate) fn wish(&self, op: Op) {
        if self.wishes.try_send(op).is_err() {
            tracing::debug!("a request of the member's own was dropped; too many wait already");
        }
    }

    pub(crate) fn take_wishes(&self) -> Option<tokio::sync::mpsc::Receiver<Op>> {
        self.wishes_taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until everything that was committed when the call began is applied here.
    pub(crate) async fn linearizable(&self) -> Result<(), api::Error> {
        if self.is_stopping() {
            return Err(api::Error::Stopped);
        }
        // A sole voter is the quorum: what it committed is the read index.
        if let Some(index) = self.node.read_index_now() {
            return match self.reads.wait_applied(index, || self.applied()) {
                None => Ok(()),
                Some(wait) => wait.await,
            };
        }
        let (wait, start) = self.reads.join(Instant::now());
        self.start_read_round(start);
        wait.await
    }

    pub(crate) fn start_read_round(&self, mut start: Option<u64>) {
        while let Some(number) = start {
            start = match self.node.read_index(&[number]) {
                Ok(()) => None,
                Err(consensus::Stopped) => {
                    self.reads
                        .round_failed(Some(number), &api::Error::Stopped, Instant::now())
                }
            };
        }
    }

    /// Waits until what is committed now is applied here, at most for `limit`.
    pub(crate) async fn wait_applied_committed(&self, limit: Duration) -> Result<(), api::Error> {
        let index = self.node.status().committed;
        match self.reads.wait_applied(index, || self.applied()) {
            None => Ok(()),
            Some(wait) => tokio::time::timeout(limit, wait)
                .await
                .unwrap_or(Err(api::Error::TimeoutWaitAppliedIndex)),
        }
    }

    /// Ends all waits: nothing will be applied any more.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.pending.fail_all(&api::Error::Stopped);
        self.reads.fail_all(&api::Error::Stopped);
    }

    /// Checks the quota before a request is even looked at, as etcd does; over it, the alarm is raised.
    pub fn check_quota(&self, cost: i64) -> Result<(), api::Error> {
        if self.quota.available(self.backend.size(), cost) {
            return Ok(());
        }
        self.wish_no_space_alarm();
        Err(api::Error::NoSpace)
    }

    pub(crate) fn wish_no_space_alarm(&self) {
        use api::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
        let mine = |alarm: &api::etcdserverpb::AlarmMember| {
            alarm.member_id == self.id && alarm.alarm == AlarmType::Nospace as i32
        };
        // Every refused request would write another entry into a disk that is full.
        if self.alarms.no_space() && self.alarms.list().iter().any(mine) {
            return;
        }
        self.wish(Op::Alarm(AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.id,
            alarm: AlarmType::Nospace as i32,
        }));
    }
}

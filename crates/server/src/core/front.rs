//! The member as its frontends know it.

use std::future::Future;
use std::sync::Arc;

use api::Error;
use api::etcdserverpb as pb;
use auth::{AuthOp, AuthResponse};

use super::Member;
use crate::frontend::{Caller, Frontend, Gauges, Need, RaftStatus, Snapshot, Versions};

impl Frontend for Member {
    fn header(&self) -> pb::ResponseHeader {
        self.response_header()
    }

    fn has_leader(&self) -> bool {
        self.node.status().leader != 0
    }

    fn is_leader(&self) -> bool {
        Member::is_leader(self)
    }

    fn is_learner(&self) -> bool {
        self.membership()
            .local()
            .is_some_and(|member| member.is_learner)
    }

    fn check_quota(&self, cost: i64) -> Result<(), Error> {
        Member::check_quota(self, cost)
    }

    fn permit(
        &self,
        caller: &Caller,
        need: Need<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        Member::permit(self, caller, need)
    }

    fn auth(
        &self,
        caller: &Caller,
        op: AuthOp,
    ) -> impl Future<Output = Result<AuthResponse, Error>> + Send {
        Member::auth(self, caller, op)
    }

    fn authenticate(
        &self,
        request: pb::AuthenticateRequest,
    ) -> impl Future<Output = Result<String, Error>> + Send {
        Member::authenticate(self, request)
    }

    fn range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> impl Future<Output = Result<pb::RangeResponse, Error>> + Send {
        Member::range(self, caller, request)
    }

    fn put(
        &self,
        caller: &Caller,
        request: pb::PutRequest,
    ) -> impl Future<Output = Result<pb::PutResponse, Error>> + Send {
        Member::put(self, caller, request)
    }

    fn delete_range(
        &self,
        caller: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> impl Future<Output = Result<pb::DeleteRangeResponse, Error>> + Send {
        Member::delete_range(self, caller, request)
    }

    fn txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> impl Future<Output = Result<pb::TxnResponse, Error>> + Send {
        Member::txn(self, caller, request)
    }

    fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> impl Future<Output = Result<pb::CompactionResponse, Error>> + Send {
        Member::compact(self, request)
    }

    fn lease_grant(
        &self,
        caller: &Caller,
        request: pb::LeaseGrantRequest,
    ) -> impl Future<Output = Result<pb::LeaseGrantResponse, Error>> + Send {
        Member::lease_grant(self, caller, request)
    }

    fn lease_revoke(
        &self,
        caller: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> impl Future<Output = Result<pb::LeaseRevokeResponse, Error>> + Send {
        Member::lease_revoke(self, caller, request)
    }

    fn lease_renew(
        &self,
        caller: &Caller,
        id: i64,
    ) -> impl Future<Output = Result<i64, Error>> + Send {
        Member::lease_renew(self, caller, id)
    }

    fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<pb::LeaseTimeToLiveResponse, Error>> + Send {
        Member::lease_time_to_live(self, caller, request)
    }

    fn lease_leases(
        &self,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<i64>, Error>> + Send {
        Member::lease_leases(self, caller)
    }

    fn member_add(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> impl Future<Output = Result<pb::Member, Error>> + Send {
        Member::member_add(self, peer_urls, as_learner)
    }

    fn member_remove(&self, id: u64) -> impl Future<Output = Result<(), Error>> + Send {
        Member::member_remove(self, id)
    }

    fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        Member::member_update(self, id, peer_urls)
    }

    fn member_promote(
        &self,
        caller: &Caller,
        id: u64,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        Member::member_promote(self, caller, id)
    }

    fn member_list(
        &self,
        linearizable: bool,
    ) -> impl Future<Output = Result<Vec<pb::Member>, Error>> + Send {
        Member::member_list(self, linearizable)
    }

    fn alarm(
        &self,
        request: pb::AlarmRequest,
    ) -> impl Future<Output = Result<pb::AlarmResponse, Error>> + Send {
        Member::alarm(self, request)
    }

    fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.alarms.list()
    }

    fn status(&self) -> pb::StatusResponse {
        Member::status(self)
    }

    fn defragment(&self) -> impl Future<Output = Result<(), Error>> + Send {
        Member::defragment(self)
    }

    fn hash(&self) -> impl Future<Output = Result<u32, Error>> + Send {
        Member::hash(self)
    }

    fn hash_kv(
        &self,
        revision: i64,
    ) -> impl Future<Output = Result<pb::HashKvResponse, Error>> + Send {
        Member::hash_kv(self, revision)
    }

    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send {
        Member::snapshot(self)
    }

    fn move_leader(&self, target: u64) -> impl Future<Output = Result<(), Error>> + Send {
        Member::move_leader(self, target)
    }

    fn versions(&self) -> Versions {
        let cluster = self.membership().version().map(|v| v.to_string());
        Versions {
            server: crate::start::SERVER_VERSION.to_owned(),
            cluster: cluster.unwrap_or_default(),
            storage: self.storage_version(),
        }
    }

    fn raft_status(&self) -> RaftStatus {
        let status = self.node.status();
        RaftStatus {
            id: self.id,
            term: status.term,
            vote: status.vote,
            commit: status.committed,
            applied: self.applied(),
            leader: status.leader,
        }
    }

    fn gauges(&self) -> Gauges {
        let store = self.store.stats();
        let watch = self.hub.stats();
        Gauges {
            leader_changes: self.leader_changes(),
            committed: self.node.status().committed,
            applied: self.applied(),
            proposals_pending: self.pending.len() as u64,
            quota_bytes: self.quota.bytes(),
            db_size: self.backend.size(),
            db_size_in_use: self.backend.size_in_use(),
            open_reads: self.backend.open_read_txs(),
            current_revision: store.revision,
            compact_revision: store.compacted,
            keys: store.keys as u64,
            watch_streams: watch.streams,
            watchers: watch.watchers,
            slow_watchers: watch.behind,
            pending_events: 0,
        }
    }

    fn watch_hub(&self) -> &Arc<watch::Hub> {
        &self.hub
    }
}

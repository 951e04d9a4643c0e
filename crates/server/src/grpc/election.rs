//! The Election service.

use std::sync::Arc;

use api::etcdserverpb as pb;
use api::v3electionpb as electionpb;
use bytes::Bytes;
use electionpb::LeaderKey;
use tonic::Status;
use watch::{Body, EventKind, WatchSpec};

use super::call::Call;
use super::recipe::{self, Leave, Line};
use super::services::{Sender, Services, only_message};
use crate::frontend::{Caller, Frontend};
use crate::metrics::Tally;

impl<F: Frontend> Services<F> {
    /// Answers once the caller leads. Asked again with the same lease, it is the same candidate, whose value changes
    /// at once.
    pub(super) async fn campaign(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<electionpb::CampaignResponse, Status> {
        let request: electionpb::CampaignRequest = self.receive(call, tally).await?;
        let electionpb::CampaignRequest { name, lease, value } = request;
        let caller = &call.caller();
        let lease = self.session(caller, lease).await?;
        let line = Line::new(&name);
        let key = line.key(lease);
        let entered = self
            .recipe_txn(
                caller,
                recipe::if_created(
                    key.clone(),
                    0,
                    vec![recipe::put(key.clone(), value.clone(), lease)],
                    vec![recipe::read(recipe::get(key.clone()))],
                ),
            )
            .await?;
        let old = recipe::pair_read(&entered, 0);
        let leader = LeaderKey {
            name,
            key,
            rev: match old {
                Some(old) => old.create_revision(),
                None => recipe::revision(entered.header.as_ref()),
            },
            lease,
        };
        if old.is_some_and(|old| old.value_slice() != value)
            && let Err(status) = self.set_value(caller, &leader, value, lease).await
        {
            // Who may not change its value is not to lead with the old one.
            let _ = self.recipe_txn(caller, resignation(&leader)).await;
            return Err(status);
        }
        self.wait_to_lead(caller, &line, &leader).await?;
        Ok(electionpb::CampaignResponse {
            header: entered.header,
            leader: Some(leader),
        })
    }

    /// Waits for those who came before. A caller that goes away resigns; one that is told an error does not, and may
    /// campaign again.
    async fn wait_to_lead(
        &self,
        caller: &Caller,
        line: &Line,
        leader: &LeaderKey,
    ) -> Result<(), Status> {
        let (member, request) = (Arc::clone(&self.member), resignation(leader));
        let leaver = caller.clone();
        let leave = Leave::new(async move { member.txn(&leaver, request).await.map(drop) });
        let waited = self.wait_for_turn(caller, line, leader.rev).await;
        leave.never();
        waited
    }

    /// Changes the value of who leads, or waits to.
    pub(super) async fn proclaim(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<electionpb::ProclaimResponse, Status> {
        let request: electionpb::ProclaimRequest = self.receive(call, tally).await?;
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let caller = &call.caller();
        let lease = self.session(caller, leader.lease).await?;
        let header = self
            .set_value(caller, &leader, request.value, lease)
            .await?;
        Ok(electionpb::ProclaimResponse { header })
    }

    async fn set_value(
        &self,
        caller: &Caller,
        leader: &LeaderKey,
        value: Bytes,
        lease: i64,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let put = recipe::put(leader.key.clone(), value, lease);
        let request = recipe::if_created(leader.key.clone(), leader.rev, vec![put], Vec::new());
        let response = self.recipe_txn(caller, request).await?;
        if response.succeeded {
            Ok(response.header)
        } else {
            Err(Status::unknown("election: not leader"))
        }
    }

    /// Leaves the line; who is not in it may do so, too.
    pub(super) async fn resign(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<electionpb::ResignResponse, Status> {
        let request: electionpb::ResignRequest = self.receive(call, tally).await?;
        let leader = request.leader.ok_or_else(no_leader_key)?;
        // As in etcd, a caller without lease gets one even here.
        let caller = &call.caller();
        self.session(caller, leader.lease).await?;
        let response = self.recipe_txn(caller, resignation(&leader)).await?;
        Ok(electionpb::ResignResponse {
            header: response.header,
        })
    }

    /// Who leads now.
    pub(super) async fn leader(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<electionpb::LeaderResponse, Status> {
        let electionpb::LeaderRequest { name } = self.receive(call, tally).await?;
        let found = self
            .recipe_range(&call.caller(), Line::new(&name).first())
            .await?;
        let kv = found.kvs.into_iter().next();
        if kv.is_none() {
            return Err(Status::unknown("election: no leader"));
        }
        Ok(electionpb::LeaderResponse {
            header: found.header,
            kv,
        })
    }

    /// Tells who leads, each new value of that leader, then who leads after it, and so on. While nobody leads it
    /// says nothing.
    pub(super) async fn observe(
        self: Arc<Self>,
        mut call: Call,
        out: Sender,
    ) -> Result<(), Status> {
        let electionpb::LeaderRequest { name } = only_message(&mut call, &out.tally).await?;
        let line = Line::new(&name);
        let caller = &call.caller();
        loop {
            let found = self.recipe_range(caller, line.first()).await;
            let found = found.map_err(|_| closed_early())?;
            let leading = match found.kvs.into_iter().next() {
                Some(kv) => electionpb::LeaderResponse {
                    header: found.header,
                    kv: Some(kv),
                },
                None => {
                    let next = recipe::revision(found.header.as_ref()) + 1;
                    self.next_arrival(caller, &line, next).await?
                }
            };
            out.send(&leading).await;
            self.follow(caller, leading, &out).await?;
        }
    }

    /// Waits for the first one to enter an empty line.
    async fn next_arrival(
        &self,
        caller: &Caller,
        line: &Line,
        start_revision: i64,
    ) -> Result<electionpb::LeaderResponse, Status> {
        let spec = line.arrivals(start_revision);
        let mut changes = self.changes(caller, spec, closed_early).await?;
        loop {
            match self.next_change(&mut changes).await?.body {
                Body::Created | Body::Progress => {}
                Body::Events(events) => {
                    if let Some(event) = events.iter().next() {
                        let kv = event.kv.clone();
                        return Ok(electionpb::LeaderResponse {
                            header: Some(self.header_at(kv.mod_revision())),
                            kv: Some(kv),
                        });
                    }
                }
                Body::Compacted { .. } | Body::Refused { .. } | Body::Canceled => {
                    return Err(closed_early());
                }
            }
        }
    }

    /// Sends each new value of a leader until its key is deleted.
    async fn follow(
        &self,
        caller: &Caller,
        leading: electionpb::LeaderResponse,
        out: &Sender,
    ) -> Result<(), Status> {
        let spec = WatchSpec {
            key: leading.kv.map(|kv| kv.key()).unwrap_or_default(),
            start_revision: recipe::revision(leading.header.as_ref()) + 1,
            ..WatchSpec::default()
        };
        let mut changes = self.changes(caller, spec, closed_early).await?;
        loop {
            let item = self.next_change(&mut changes).await?;
            match item.body {
                Body::Created | Body::Progress => {}
                Body::Events(events) => {
                    for event in events.iter() {
                        if event.kind == EventKind::Delete {
                            return Ok(());
                        }
                        out.send(&electionpb::LeaderResponse {
                            header: Some(self.header_at(item.revision)),
                            kv: Some(event.kv.clone()),
                        })
                        .await;
                    }
                }
                Body::Compacted { .. } | Body::Refused { .. } | Body::Canceled => {
                    return Err(closed_early());
                }
            }
        }
    }

    fn header_at(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            revision,
            ..self.member.header()
        }
    }
}

/// Deletes the key if it is still the one that was created then.
fn resignation(leader: &LeaderKey) -> pb::TxnRequest {
    let delete = recipe::delete(leader.key.clone());
    recipe::if_created(leader.key.clone(), leader.rev, vec![delete], Vec::new())
}

fn no_leader_key() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn closed_early() -> Status {
    Status::unknown("election: observe closed early")
}

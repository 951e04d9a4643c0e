//! Leases as clients see them. Only the leader times them; renewing one is not replicated.

use std::time::Duration;

use api::etcdserverpb as pb;
use apply::{Op, Response};
use lease::Renewal;

use super::Member;
use super::kv_ops::expect_response;
use crate::frontend::{Caller, Need};

/// How long a renewal waits for this member to apply what is committed before the lease counts as unknown.
const APPLY_WAIT: Duration = Duration::from_secs(1);
/// How often a renewal looks whether an expired lease is gone.
const EXPIRED_POLL: Duration = Duration::from_millis(50);

impl Member {
    /// Grants a lease; id 0 lets this member choose one.
    pub async fn lease_grant(
        &self,
        caller: &Caller,
        mut request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, api::Error> {
        self.permit(caller, Need::User).await?;
        while request.id == 0 {
            request.id = (self.ids.next() & (i64::MAX as u64)) as i64;
        }
        let response = self.propose_for(caller, Op::LeaseGrant(request)).await?;
        let mut response = expect_response!(response, LeaseGrant);
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Revokes a lease and deletes its keys.
    pub async fn lease_revoke(
        &self,
        caller: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, api::Error> {
        self.permit(caller, Need::User).await?;
        let op = Op::LeaseRevoke(request);
        let response = self.propose_for(caller, op).await?;
        let mut response = expect_response!(response, LeaseRevoke);
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Renews a lease, here or through the leader; the answer is its TTL in seconds, 0 when there is no such lease.
    pub async fn lease_renew(&self, caller: &Caller, id: i64) -> Result<i64, api::Error> {
        if self.auth.enabled() {
            self.permit(caller, Need::User).await?;
            let info = self.identify(caller).await?;
            let lessor = self.lessor();
            let keys = |lease| lessor.keys(lease).into_iter().flatten();
            self.auth
                .permissions()
                .check_lease_write((&info).into(), id, &keys)?;
        }
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        let mut caught_up = false;
        loop {
            if let Some(urls) = self.leader_urls() {
                match self.renew_at_leader(&urls, id).await {
                    Some(ttl) => return Ok(ttl),
                    None => self.retry_lease(deadline).await?,
                }
                continue;
            }
            let renewal = self.lessor().renew(id, self.now());
            match renewal {
                Ok(Renewal::Renewed {
                    ttl,
                    clear_checkpoint,
                }) => {
                    if clear_checkpoint {
                        self.clear_checkpoint(id).await;
                    }
                    return Ok(ttl);
                }
                // It may be in an entry that is not applied yet.
                Err(lease::Error::NotFound) if !caught_up => {
                    self.wait_applied_committed(APPLY_WAIT).await?;
                    caught_up = true;
                }
                Err(lease::Error::NotFound) => return Ok(0),
                // Its revocation is on the way, or leadership is moving: look again until it is settled.
                Ok(Renewal::Expired) | Err(lease::Error::NotPrimary) => {
                    self.retry_lease(deadline).await?;
                }
                Err(_) => return Err(api::Error::NotPrimaryLessor),
            }
        }
    }

    /// A pause before another try, unless it is too late for one.
    async fn retry_lease(&self, deadline: tokio::time::Instant) -> Result<(), api::Error> {
        if self.is_stopping() {
            return Err(api::Error::Stopped);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(if self.node.status().leader == 0 {
                api::Error::NoLeader
            } else {
                api::Error::Timeout
            });
        }
        tokio::time::sleep(EXPIRED_POLL).await;
        Ok(())
    }

    /// Renews a lease at the leader; `None` if that has to be tried again.
    async fn renew_at_leader(&self, urls: &[String], id: i64) -> Option<i64> {
        let timeout = self.limits.request_timeout();
        for url in urls {
            match self.peers.client.renew_lease(url, id, timeout).await {
                Ok(ttl) => return Some(ttl),
                Err(peer::ForwardError::Answer(peer::LeaseError::NotFound)) => return Some(0),
                Err(error) => tracing::debug!(url, %error, "failed to renew a lease at the leader"),
            }
        }
        None
    }

    /// Renews a lease for a member that takes this one for the leader.
    pub(crate) async fn renew_for_peer(&self, id: i64) -> Result<i64, api::Error> {
        self.wait_applied_committed(APPLY_WAIT).await?;
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        loop {
            let renewal = self.lessor().renew(id, self.now());
            match renewal {
                Ok(Renewal::Renewed {
                    ttl,
                    clear_checkpoint,
                }) => {
                    if clear_checkpoint {
                        self.clear_checkpoint(id).await;
                    }
                    return Ok(ttl);
                }
                Err(lease::Error::NotFound) => return Err(api::Error::LeaseNotFound),
                // Its revocation is on the way.
                Ok(Renewal::Expired) => self.retry_lease(deadline).await?,
                Err(_) => return Err(api::Error::NotPrimaryLessor),
            }
        }
    }

    /// A renewed lease starts over, so the remaining time that was replicated must not outlive it.
    async fn clear_checkpoint(&self, id: i64) {
        let checkpoints = vec![pb::LeaseCheckpoint {
            id,
            remaining_ttl: 0,
        }];
        let op = Op::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints });
        if let Err(error) = self.propose(op).await {
            tracing::warn!("lease-id" = %format_args!("{id:016x}"), %error, "failed to checkpoint lease");
        }
    }

    /// What is known of a lease, here or by the leader.
    pub async fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, api::Error> {
        self.permit(caller, Need::User).await?;
        let info = self.identify(caller).await?;
        if request.keys && self.auth.enabled() {
            // What is attached to a lease is known to every member.
            let lessor = self.lessor();
            let keys = |lease| lessor.keys(lease).into_iter().flatten();
            self.auth
                .permissions()
                .check_lease_read((&info).into(), request.id, &keys)?;
        }
        let response = self.find_time_to_live(request).await?;
        self.auth.still_current(info.as_ref())?;
        Ok(response)
    }

    async fn find_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, api::Error> {
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        let (id, header) = (request.id, Some(self.response_header()));
        let unknown = pb::LeaseTimeToLiveResponse {
            header,
            id,
            ttl: -1,
            ..Default::default()
        };
        while let Some(urls) = self.leader_urls() {
            for url in &urls {
                let timeout = self.limits.request_timeout();
                let asked = self.peers.client.lease_time_to_live(url, request, timeout);
                match asked.await {
                    Ok(response) => {
                        return Ok(pb::LeaseTimeToLiveResponse { header, ..response });
                    }
                    Err(peer::ForwardError::Answer(peer::LeaseError::NotFound)) => {
                        return Ok(unknown);
                    }
                    Err(error) => {
                        tracing::debug!(url, %error, "failed to ask the leader for a lease");
                    }
                }
            }
            self.retry_lease(deadline).await?;
        }
        self.wait_applied_committed(APPLY_WAIT).await?;
        match self.time_to_live_here(&request) {
            Ok(response) => Ok(pb::LeaseTimeToLiveResponse { header, ..response }),
            Err(lease::Error::NotPrimary) if self.node.status().leader == 0 => {
                Err(api::Error::NoLeader)
            }
            Err(lease::Error::NotPrimary) => Err(api::Error::LeaderChanged),
            Err(_) => Ok(unknown),
        }
    }

    fn time_to_live_here(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, lease::Error> {
        let lessor = self.lessor();
        let time = lessor.time_to_live(request.id, self.now())?;
        let mut keys = Vec::new();
        if request.keys {
            keys = lessor.keys(request.id)?.cloned().collect();
        }
        Ok(pb::LeaseTimeToLiveResponse {
            header: None,
            id: request.id,
            ttl: time.ttl,
            granted_ttl: time.granted_ttl,
            keys,
        })
    }

    /// What is known of a lease, for a member that takes this one for the leader.
    pub(crate) async fn time_to_live_for_peer(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, api::Error> {
        self.wait_applied_committed(APPLY_WAIT).await?;
        self.time_to_live_here(request)
            .map_err(|error| match error {
                lease::Error::NotPrimary => api::Error::NotPrimaryLessor,
                _ => api::Error::LeaseNotFound,
            })
    }

    /// The ids of all leases, those that end first at the front.
    pub async fn lease_leases(&self, caller: &Caller) -> Result<Vec<i64>, api::Error> {
        self.permit(caller, Need::User).await?;
        let info = self.identify(caller).await?;
        let listing = self.lessor().leases();
        let leases = listing.sorted();
        if self.auth.enabled() {
            let lessor = self.lessor();
            let keys = |lease| lessor.keys(lease).into_iter().flatten();
            let permissions = self.auth.permissions();
            for id in &leases {
                permissions.check_lease_read((&info).into(), *id, &keys)?;
            }
        }
        self.auth.still_current(info.as_ref())?;
        Ok(leases)
    }
}

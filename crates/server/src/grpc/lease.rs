//! The Lease service.

use std::sync::Arc;

use api::Error;
use api::etcdserverpb as pb;
use tonic::Status;

use super::call::Call;
use super::services::{Sender, Services};
use crate::frontend::Frontend;
use crate::metrics::Tally;

impl<F: Frontend> Services<F> {
    pub(super) async fn lease_grant(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::LeaseGrantResponse, Status> {
        let request = self.receive(call, tally).await?;
        self.member.check_quota(apply::Quota::LEASE_COST)?;
        Ok(self.member.lease_grant(&call.caller(), request).await?)
    }

    pub(super) async fn lease_revoke(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::LeaseRevokeResponse, Status> {
        let request = self.receive(call, tally).await?;
        Ok(self.member.lease_revoke(&call.caller(), request).await?)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let request = self.receive(call, tally).await?;
        Ok(self
            .member
            .lease_time_to_live(&call.caller(), request)
            .await?)
    }

    pub(super) async fn lease_leases(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::LeaseLeasesResponse, Status> {
        let pb::LeaseLeasesRequest {} = self.receive(call, tally).await?;
        let leases = self
            .member
            .lease_leases(&call.caller())
            .await?
            .into_iter()
            .map(|id| pb::LeaseStatus { id })
            .collect();
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.member.header()),
            leases,
        })
    }

    /// One answer per request, in order. A lease that is not there is an answer with TTL 0, not an error.
    pub(super) async fn lease_keep_alive(
        self: Arc<Self>,
        mut call: Call,
        out: Sender,
    ) -> Result<(), Status> {
        let caller = call.caller();
        loop {
            let next = tokio::select! {
                next = call.messages.next::<pb::LeaseKeepAliveRequest>() => next?,
                () = self.stop.cancelled() => return Err(Error::Stopped.into()),
            };
            let Some((request, length)) = next else {
                return Ok(());
            };
            out.tally.received(length);
            // The header tells the state before the renewal.
            let header = Some(self.member.header());
            let ttl = self.member.lease_renew(&caller, request.id).await?;
            if ttl > 0 {
                self.metrics.lease.renewed.inc();
            }
            out.send(&pb::LeaseKeepAliveResponse {
                header,
                id: request.id,
                ttl,
            })
            .await;
        }
    }
}

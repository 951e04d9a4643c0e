//! The Cluster service. Its answers carry no revision.

use api::Error;
use api::etcdserverpb as pb;
use tonic::Status;

use super::call::Call;
use super::services::Services;
use crate::frontend::{Frontend, Need};
use crate::metrics::Tally;

impl<F: Frontend> Services<F> {
    pub(super) async fn member_list(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MemberListResponse, Status> {
        let request: pb::MemberListRequest = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::User).await?;
        let members = self.member.member_list(request.linearizable).await?;
        let header = pb::ResponseHeader {
            revision: 0,
            ..self.member.header()
        };
        Ok(pb::MemberListResponse {
            header: Some(header),
            members,
        })
    }

    fn cluster_header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader {
            revision: 0,
            ..self.member.header()
        }
    }

    pub(super) async fn member_add(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MemberAddResponse, Status> {
        let request: pb::MemberAddRequest = self.receive(call, tally).await?;
        let urls = peer_urls(&request.peer_urls)?;
        self.member.permit(&call.caller(), Need::Root).await?;
        let member = self.member.member_add(urls, request.is_learner).await?;
        Ok(pb::MemberAddResponse {
            header: Some(self.cluster_header()),
            member: Some(member),
            members: self.member.member_list(false).await?,
        })
    }

    pub(super) async fn member_remove(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MemberRemoveResponse, Status> {
        let request: pb::MemberRemoveRequest = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        self.member.member_remove(request.id).await?;
        Ok(pb::MemberRemoveResponse {
            header: Some(self.cluster_header()),
            members: self.member.member_list(false).await?,
        })
    }

    pub(super) async fn member_update(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        let request: pb::MemberUpdateRequest = self.receive(call, tally).await?;
        let urls = peer_urls(&request.peer_urls)?;
        self.member.permit(&call.caller(), Need::Root).await?;
        self.member.member_update(request.id, urls).await?;
        Ok(pb::MemberUpdateResponse {
            header: Some(self.cluster_header()),
            members: self.member.member_list(false).await?,
        })
    }

    pub(super) async fn member_promote(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MemberPromoteResponse, Status> {
        let request: pb::MemberPromoteRequest = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        self.member
            .member_promote(&call.caller(), request.id)
            .await?;
        Ok(pb::MemberPromoteResponse {
            header: Some(self.cluster_header()),
            members: self.member.member_list(false).await?,
        })
    }
}

/// The URLs of a request, sorted, if they are what a peer listens on.
fn peer_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let urls = gotext::parse_url_list(urls.iter().map(String::as_str))
        .map_err(|_| Error::MemberBadUrls)?;
    if urls.is_empty() {
        return Err(Error::MemberBadUrls);
    }
    Ok(urls.iter().map(ToString::to_string).collect())
}

//! The Cluster service. Its answers carry no revision.

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
}

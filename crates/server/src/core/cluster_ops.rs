//! Membership as clients see it.

use api::etcdserverpb as pb;

use super::Member;

impl Member {
    /// All members, by ascending id.
    pub async fn member_list(&self, linearizable: bool) -> Result<Vec<pb::Member>, api::Error> {
        if linearizable {
            self.linearizable().await?;
        }
        Ok(self
            .membership()
            .members()
            .map(|member| pb::Member {
                id: member.id,
                name: member.name.clone(),
                peer_urls: member.peer_urls.clone(),
                client_urls: member.client_urls.clone(),
                is_learner: member.is_learner,
            })
            .collect())
    }
}

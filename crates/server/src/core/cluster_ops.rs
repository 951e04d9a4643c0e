//! Membership as clients see and change it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::etcdserverpb as pb;
use cluster::{Change, Reconfiguration};

use super::Member;
use crate::frontend::Caller;

/// How long a promotion waits for this member to apply what is committed.
const APPLY_WAIT: Duration = Duration::from_secs(1);
/// Pause between two attempts to have the leader promote a member.
const RETRY: Duration = Duration::from_millis(50);

fn to_wire(member: &cluster::Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

impl Member {
    /// All members, by ascending id.
    pub async fn member_list(&self, linearizable: bool) -> Result<Vec<pb::Member>, api::Error> {
        if linearizable {
            self.linearizable().await?;
        }
        Ok(self.membership().members().map(to_wire).collect())
    }

    /// Adds a member, which gets its id from its URLs and the time; returns it.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> Result<pb::Member, api::Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut member = cluster::Member::new("", &peer_urls, "", Some(now.as_secs() as i64));
        member.is_learner = as_learner;
        let added = to_wire(&member);
        self.check_strict(if as_learner {
            Reconfiguration::AddLearner
        } else {
            Reconfiguration::AddVoter
        })?;
        self.change_members(&Change::Add { member, as_learner })
            .await?;
        Ok(added)
    }

    /// Removes a member for good.
    pub async fn member_remove(&self, id: u64) -> Result<(), api::Error> {
        self.check_strict(Reconfiguration::Remove(id))?;
        self.change_members(&Change::Remove(id)).await
    }

    /// Changes where a member is reached by others.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<(), api::Error> {
        self.change_members(&Change::Update { id, peer_urls }).await
    }

    /// Gives a learner a vote; only the leader can tell whether it is ready, so others ask it, in the caller's name.
    pub async fn member_promote(&self, caller: &Caller, id: u64) -> Result<(), api::Error> {
        let token = match caller {
            Caller::Token(token) => Some(token.to_string()),
            Caller::Nobody | Caller::Root => None,
        };
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        loop {
            if self.is_leader() {
                return self.promote_here(id).await;
            }
            for url in self.leader_urls().unwrap_or_default() {
                let timeout = self.limits.request_timeout();
                let token = token.as_deref();
                match self.peers.client.promote(&url, id, token, timeout).await {
                    Ok(_) => return Ok(()),
                    Err(peer::ForwardError::Answer(error)) => match error {
                        peer::PromoteError::NotFound => return Err(api::Error::MemberNotFound),
                        peer::PromoteError::NotLearner => return Err(api::Error::MemberNotLearner),
                        peer::PromoteError::NotReady => return Err(api::Error::LearnerNotReady),
                        peer::PromoteError::Other(_) => {}
                    },
                    Err(error) => {
                        tracing::debug!(url, %error, "failed to have the leader promote a member");
                    }
                }
            }
            if self.is_stopping() {
                return Err(api::Error::Stopped);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(api::Error::Timeout);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn promote_here(&self, id: u64) -> Result<(), api::Error> {
        self.wait_applied_committed(APPLY_WAIT).await?;
        let progress = self.node.progress().map_err(|_| api::Error::Stopped)?;
        let matched = |id: u64| progress.iter().find(|p| p.id == id).map(|p| p.matched);
        let learner = matched(id).ok_or(api::Error::MemberNotFound)?;
        if !cluster::is_learner_ready(learner, matched(self.id).unwrap_or(0)) {
            return Err(api::Error::LearnerNotReady);
        }
        cluster::check_promotable(self.membership().member(id))?;
        self.check_strict(Reconfiguration::Promote(id))?;
        self.change_members(&Change::Promote(id)).await
    }

    fn check_strict(&self, what: Reconfiguration) -> Result<(), api::Error> {
        if !self.limits.strict_reconfig {
            return Ok(());
        }
        let result = cluster::check_strict(&self.membership(), what, &|id| self.link(id));
        result.inspect_err(|error| {
            tracing::warn!(
                "local-member-id" = %gotext::Hex(self.id),
                requested = ?what,
                %error,
                "rejecting a reconfiguration"
            );
        })
    }

    /// Proposes a change of the members and waits until it is applied here.
    async fn change_members(&self, change: &Change) -> Result<(), api::Error> {
        if self.is_stopping() {
            return Err(api::Error::Stopped);
        }
        let id = self.ids.next();
        let wait = self.pending.register(id, None, Instant::now());
        if self.node.propose_conf_change(change.encode(id)).is_err() {
            let mut wakes = super::Wakes::default();
            self.pending
                .complete(id, Err(api::Error::Stopped), &mut wakes);
        }
        wait.await.map(|_| ())
    }
}

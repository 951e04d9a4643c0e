//! What this member answers other members beside raft.

use std::sync::Arc;

use api::etcdserverpb as pb;
use peer::{BoxFuture, HashKv, HashKvError, LeaseError, PromoteError, Versions};

use super::Member;
use crate::frontend::{Caller, Need};

/// The member as its peers ask it.
pub(crate) struct ForPeers(pub Arc<Member>);

fn lease_error(error: api::Error) -> LeaseError {
    match error {
        api::Error::TimeoutWaitAppliedIndex => LeaseError::CatchUpTimeout,
        api::Error::LeaseNotFound => LeaseError::NotFound,
        api::Error::NotPrimaryLessor => LeaseError::NotPrimary,
        other => LeaseError::Other(other.text().to_owned()),
    }
}

impl peer::PeerApi for ForPeers {
    fn versions(&self) -> Versions {
        let storage = cluster::detect_storage_version(self.0.backend.as_ref());
        Versions {
            server: crate::start::SERVER_VERSION.to_owned(),
            cluster: self.0.membership().version().map(|v| v.to_string()),
            storage: storage.ok().map(|v| v.to_string()),
        }
    }

    fn members(&self) -> Vec<cluster::Member> {
        self.0.membership().members().cloned().collect()
    }

    fn promote(
        &self,
        id: u64,
        token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<cluster::Member>, PromoteError>> {
        Box::pin(async move {
            let token = token
                .as_deref()
                .map(|t| t.strip_prefix("Bearer ").unwrap_or(t));
            let caller = token.map_or(Caller::Nobody, |token| Caller::Token(token.into()));
            if let Err(error) = self.0.permit(&caller, Need::Root).await {
                return Err(PromoteError::Other(error.text().to_owned()));
            }
            self.0
                .member_promote(&caller, id)
                .await
                .map_err(|error| match error {
                    api::Error::MemberNotFound => PromoteError::NotFound,
                    api::Error::MemberNotLearner => PromoteError::NotLearner,
                    api::Error::LearnerNotReady => PromoteError::NotReady,
                    other => PromoteError::Other(other.text().to_owned()),
                })?;
            Ok(self.members())
        })
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashKvError>> {
        Box::pin(async move {
            match self.0.hash_kv(revision).await {
                Ok(hash) => Ok(HashKv {
                    revision: hash.header.map_or(0, |header| header.revision),
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.hash_revision,
                }),
                Err(api::Error::Compacted) => Err(HashKvError::Compacted),
                Err(api::Error::FutureRev) => Err(HashKvError::FutureRevision),
                Err(error) => Err(HashKvError::Other(error.text().to_owned())),
            }
        })
    }

    fn renew_lease(&self, id: i64) -> BoxFuture<'_, Result<i64, LeaseError>> {
        Box::pin(async move { self.0.renew_for_peer(id).await.map_err(lease_error) })
    }

    fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> BoxFuture<'_, Result<pb::LeaseTimeToLiveResponse, LeaseError>> {
        Box::pin(async move {
            self.0
                .time_to_live_for_peer(&request)
                .await
                .map_err(lease_error)
        })
    }

    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move {
            self.0
                .linearizable()
                .await
                .map_err(|error| error.text().to_owned())?;
            Ok(self.0.membership().downgrade().is_enabled())
        })
    }
}

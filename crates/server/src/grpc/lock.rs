//! The Lock service.

use std::sync::Arc;

use api::etcdserverpb as pb;
use api::v3lockpb as lockpb;
use bytes::Bytes;
use tonic::Status;

use super::call::Call;
use super::recipe::{self, Leave, Line, raw};
use super::services::Services;
use super::validate;
use crate::frontend::{Caller, Frontend};
use crate::metrics::Tally;

impl<F: Frontend> Services<F> {
    /// Answers once the caller has the lock. Asked again with the same lease, it is the same lock.
    pub(super) async fn lock(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<lockpb::LockResponse, Status> {
        let request: lockpb::LockRequest = self.receive(call, tally).await?;
        let caller = call.caller();
        let lease = self.session(&caller, request.lease).await?;
        let line = Line::new(&request.name);
        let key = line.key(lease);
        let entered = self
            .recipe_txn(
                &caller,
                recipe::if_created(
                    key.clone(),
                    0,
                    vec![
                        recipe::put(key.clone(), Bytes::new(), lease),
                        recipe::read(line.first()),
                    ],
                    vec![
                        recipe::read(recipe::get(key.clone())),
                        recipe::read(line.first()),
                    ],
                ),
            )
            .await?;
        let created = if entered.succeeded {
            recipe::revision(entered.header.as_ref())
        } else {
            recipe::pair_read(&entered, 0).map_or(0, api::RawKv::create_revision)
        };
        let holder = recipe::pair_read(&entered, 1).map(api::RawKv::create_revision);
        let header = if holder.is_none_or(|holder| holder == created) {
            entered.header
        } else {
            self.wait_for_lock(&caller, &line, &key, created).await?
        };
        Ok(lockpb::LockResponse { header, key })
    }

    /// Waits for those who came before, and makes sure that the lease has outlived them.
    async fn wait_for_lock(
        &self,
        caller: &Caller,
        line: &Line,
        key: &Bytes,
        created: i64,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let (member, request) = (Arc::clone(&self.member), deletion(key.clone()));
        let leaver = caller.clone();
        let leave =
            Leave::new(async move { member.delete_range(&leaver, request).await.map(drop) });
        self.wait_for_turn(caller, line, created).await?;
        let own = self.recipe_range(caller, recipe::get(key.clone())).await?;
        leave.never();
        if own.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(own.header)
    }

    /// Deletes the key, whoever has it, and if nobody has.
    pub(super) async fn unlock(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<lockpb::UnlockResponse, Status> {
        let lockpb::UnlockRequest { key } = self.receive(call, tally).await?;
        let request = deletion(key);
        validate::delete_range(&request).map_err(raw)?;
        let response = self
            .member
            .delete_range(&call.caller(), request)
            .await
            .map_err(raw)?;
        Ok(lockpb::UnlockResponse {
            header: response.header,
        })
    }
}

fn deletion(key: Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key,
        ..Default::default()
    }
}

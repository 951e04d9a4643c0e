//! Reads and writes of keys.

use std::sync::Arc;

use api::etcdserverpb as pb;
use apply::{Op, Response};

use super::Member;
use crate::frontend::Caller;

/// Keys from which on an answer is built apart from the frontends.
const LONG: i64 = 1000;

/// Takes the answer of the kind that the request has; anything else would be a defect of ours.
macro_rules! expect_response {
    ($response:expr, $kind:ident) => {
        match $response {
            Response::$kind(response) => response,
            other => unreachable!("a {} was answered by {other:?}", stringify!($kind)),
        }
    };
}
pub(crate) use expect_response;

impl Member {
    /// Answers a range, linearizable unless asked otherwise.
    pub async fn range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, api::Error> {
        if !request.serializable {
            self.linearizable().await?;
        }
        let mut response = if self.auth.enabled() {
            // Apart, so that the future of the usual case stays small.
            Box::pin(self.permitted_range(caller, request)).await?
        } else {
            self.range_applied(request).await?
        };
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn permitted_range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, api::Error> {
        let info = self.identify(caller).await?;
        self.auth
            .permissions()
            .check_range((&info).into(), &request)?;
        let response = self.range_applied(request).await?;
        self.auth.still_current(info.as_ref())?;
        Ok(response)
    }

    /// Answers a range from what is applied here.
    async fn range_applied(
        &self,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, api::Error> {
        if self.is_long(&request) {
            let store = Arc::clone(&self.store);
            self.bulk.run(move || range_now(&store, &request)).await?
        } else {
            range_now(&self.store, &request)
        }
    }

    /// Whether building the answer takes so long that others would feel it.
    fn is_long(&self, request: &pb::RangeRequest) -> bool {
        if request.range_end.is_empty() || request.count_only {
            return false;
        }
        let plain = request.sort_target == 0
            && request.sort_order != pb::range_request::SortOrder::Descend as i32
            && request.min_mod_revision == 0
            && request.max_mod_revision == 0
            && request.min_create_revision == 0
            && request.max_create_revision == 0;
        if plain && (1..=LONG).contains(&request.limit) {
            return false;
        }
        let count = mvcc::RangeOptions {
            count_only: true,
            ..Default::default()
        };
        self.store
            .range(&request.key, &request.range_end, &count)
            .is_ok_and(|result| result.count > LONG)
    }

    /// Puts a key.
    pub async fn put(
        &self,
        caller: &Caller,
        request: pb::PutRequest,
    ) -> Result<pb::PutResponse, api::Error> {
        let response = self.propose_for(caller, Op::Put(request)).await?;
        let mut response = expect_response!(response, Put);
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Deletes a range.
    pub async fn delete_range(
        &self,
        caller: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, api::Error> {
        let response = self.propose_for(caller, Op::DeleteRange(request)).await?;
        let mut response = expect_response!(response, DeleteRange);
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Runs a transaction; one that only reads is answered here.
    pub async fn txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, api::Error> {
        let mut response = if is_read_only(&request) {
            if !is_serializable(&request) {
                self.linearizable().await?;
            }
            let info = self.identify(caller).await?;
            // Its branches hold ranges only, so no lease is asked for.
            let keys = |_| [] as [&[u8]; 0];
            self.auth
                .permissions()
                .check_txn((&info).into(), &request, &keys)?;
            let response = apply::read_only_txn(&self.store, &request)?;
            self.auth.still_current(info.as_ref())?;
            response
        } else {
            let response = self.propose_for(caller, Op::Txn(request)).await?;
            expect_response!(response, Txn)
        };
        self.fill(&mut response.header);
        Ok(response)
    }

    /// Compacts the history up to a revision; `physical` waits until the space is free.
    pub async fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, api::Error> {
        let (revision, physical) = (request.revision, request.physical);
        let result = self.propose(Op::Compaction(request)).await;
        if physical && matches!(result, Ok(_) | Err(api::Error::Compacted)) {
            let store = Arc::clone(&self.store);
            super::maintenance::blocking("compact-wait", move || store.wait_compaction(revision))
                .await?
                .map_err(apply::store_error)?;
        }
        let mut response = expect_response!(result?, Compaction);
        response.header.get_or_insert_default().revision = self.store.current_revision();
        self.fill(&mut response.header);
        Ok(response)
    }
}

/// Answers a range from what is applied here.
fn range_now(
    store: &mvcc::Store,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, api::Error> {
    store
        .range(
            &request.key,
            &request.range_end,
            &apply::range_options(request),
        )
        .map(apply::range_response)
        .map_err(apply::store_error)
}

/// Whether a transaction has nothing but ranges in both branches.
fn is_read_only(txn: &pb::TxnRequest) -> bool {
    ranges(txn).all(|range| range.is_some())
}

/// Whether it may be answered from what is applied here: all its ranges say so, or there are none.
fn is_serializable(txn: &pb::TxnRequest) -> bool {
    ranges(txn).all(|range| range.is_some_and(|range| range.serializable))
}

fn ranges(txn: &pb::TxnRequest) -> impl Iterator<Item = Option<&pb::RangeRequest>> {
    txn.success
        .iter()
        .chain(&txn.failure)
        .map(|op| match &op.request {
            Some(pb::request_op::Request::RequestRange(range)) => Some(range),
            _ => None,
        })
}

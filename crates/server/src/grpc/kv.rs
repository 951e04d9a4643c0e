//! The KV service.

use api::etcdserverpb as pb;
use pb::request_op::Request;
use tonic::Status;

use super::body::ResponseBody;
use super::call::Call;
use super::frame;
use super::pieces::Pieces;
use super::services::Services;
use super::validate;
use crate::frontend::{Frontend, Need};
use crate::metrics::Tally;

impl<F: Frontend> Services<F> {
    pub(super) async fn range_body(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<ResponseBody, Status> {
        let request = self
            .receive_unless(call, tally, |range: &pb::RangeRequest| !range.serializable)
            .await?;
        validate::range(&request)?;
        let response = self.member.range(&call.caller(), request).await?;
        self.metrics.mvcc.ranges.inc();
        Ok(match Pieces::of(response) {
            Ok(mut pieces) => {
                self.lists.admit(&mut pieces).await;
                tally.sent(pieces.message_length());
                ResponseBody::pieces(pieces)
            }
            Err(small) => {
                let encoded = frame::encode(&small);
                tally.sent(encoded.len() - frame::HEADER);
                ResponseBody::message(encoded)
            }
        })
    }

    pub(super) async fn put(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::PutResponse, Status> {
        let request: pb::PutRequest = self.receive(call, tally).await?;
        self.member.check_quota(apply::put_cost(&request))?;
        validate::put(&request)?;
        Ok(self.member.put(&call.caller(), request).await?)
    }

    pub(super) async fn delete_range(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        let request = self.receive(call, tally).await?;
        validate::delete_range(&request)?;
        Ok(self.member.delete_range(&call.caller(), request).await?)
    }

    pub(super) async fn txn(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::TxnResponse, Status> {
        let request: pb::TxnRequest = self.receive(call, tally).await?;
        self.member.check_quota(apply::txn_cost(&request))?;
        validate::txn(&request, self.settings.max_txn_ops)?;
        let reads = only_reads(&request);
        let response = self.member.txn(&call.caller(), request).await?;
        if reads {
            // Others are counted where they are applied.
            self.metrics.mvcc.count_txn(&response);
        }
        Ok(response)
    }

    pub(super) async fn compact(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::CompactionResponse, Status> {
        let request = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        Ok(self.member.compact(request).await?)
    }
}

/// Whether a transaction never goes through the log.
fn only_reads(txn: &pb::TxnRequest) -> bool {
    let range = |op: &pb::RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    txn.success.iter().chain(&txn.failure).all(range)
}

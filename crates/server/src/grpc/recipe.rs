//! What locks and elections are made of: a line of keys, each of which lives as long as a lease.
//!
//! Whoever wants its turn under a name puts a key below `<name>/`, and it is the turn of the key with the lowest
//! create revision. The others wait for the one right before them to be deleted. All of it is what a client could do
//! by itself with transactions and watchers, so the errors are those that a client's program would print.

use std::future::Future;
use std::pin::Pin;

use api::Error;
use api::etcdserverpb as pb;
use bytes::{Bytes, BytesMut};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use pb::response_op::Response as Outcome;
use tonic::Status;
use watch::{Body, Filters, StreamConfig, StreamReceiver, WatchItem, WatchSpec};

use super::services::Services;
use super::validate;
use crate::frontend::{Caller, Frontend, Need};

/// Seconds that a lease has which is granted because the caller brings none. Nobody renews it.
const LEASE_TTL: i64 = 60;

/// All keys below `<name>/`.
#[derive(Debug)]
pub(super) struct Line {
    prefix: Bytes,
    end: Bytes,
}

impl Line {
    /// The line of a name; locks and elections share their names.
    pub fn new(name: &[u8]) -> Self {
        Self {
            prefix: [name, b"/"].concat().into(),
            // The byte after the slash.
            end: [name, b"0"].concat().into(),
        }
    }

    /// The key of a lease: its id in hexadecimal, without padding, behind a minus if it is negative.
    pub fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let id = format!("{sign}{:x}", lease.unsigned_abs());
        let mut key = BytesMut::from(&self.prefix[..]);
        key.extend_from_slice(id.as_bytes());
        key.freeze()
    }

    /// Asks whose turn it is.
    pub fn first(&self) -> pb::RangeRequest {
        self.one(SortOrder::Ascend)
    }

    /// Asks who is right before the key that was created at this revision.
    fn before(&self, revision: i64) -> pb::RangeRequest {
        pb::RangeRequest {
            max_create_revision: revision - 1,
            ..self.one(SortOrder::Descend)
        }
    }

    fn one(&self, order: SortOrder) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: self.end.clone(),
            limit: 1,
            sort_order: order as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        }
    }

    /// A watcher of everything that enters the line.
    pub fn arrivals(&self, start_revision: i64) -> WatchSpec {
        WatchSpec {
            key: self.prefix.clone(),
            end: self.end.clone(),
            start_revision,
            filters: Filters {
                no_delete: true,
                ..Filters::default()
            },
            ..WatchSpec::default()
        }
    }
}

/// A request for one key.
pub(super) fn get(key: Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        ..Default::default()
    }
}

/// Reads as part of a transaction.
pub(super) fn read(range: pb::RangeRequest) -> pb::RequestOp {
    op(Op::RequestRange(range))
}

/// Puts a key that ends with a lease.
pub(super) fn put(key: Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    op(Op::RequestPut(pb::PutRequest {
        key,
        value,
        lease,
        ..Default::default()
    }))
}

/// Deletes a key.
pub(super) fn delete(key: Bytes) -> pb::RequestOp {
    op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
        key,
        ..Default::default()
    }))
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// Does one thing if the key has this create revision (0: if there is no such key), and another if not.
pub(super) fn if_created(
    key: Bytes,
    revision: i64,
    success: Vec<pb::RequestOp>,
    failure: Vec<pb::RequestOp>,
) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    };
    pb::TxnRequest {
        compare: vec![compare],
        success,
        failure,
    }
}

/// The pair that the operation at this place of a transaction has read.
pub(super) fn pair_read(txn: &pb::TxnResponse, place: usize) -> Option<&api::RawKv> {
    match &txn.responses.get(place)?.response {
        Some(Outcome::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

/// The revision of an answer.
pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// An error as these services tell it: the text as everywhere, but with code `Unknown`. Only that the time is over,
/// or that this member stops, keeps its code, as clients act on it.
pub(super) fn raw(error: Error) -> Status {
    match error {
        Error::DeadlineExceeded | Error::ContextCanceled | Error::Stopped => error.into(),
        error => Status::unknown(error.to_string()),
    }
}

impl<F: Frontend> Services<F> {
    /// The lease that a turn is to live with: the caller's, or a new one.
    pub(super) async fn session(&self, caller: &Caller, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest {
            ttl: LEASE_TTL,
            id: 0,
        };
        let granted = async {
            self.member.check_quota(apply::Quota::LEASE_COST)?;
            self.member.lease_grant(caller, request).await
        };
        Ok(granted.await.map_err(raw)?.id)
    }

    /// Runs a transaction, with all checks that a client's one gets.
    pub(super) async fn recipe_txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        let response = async {
            self.member.check_quota(apply::txn_cost(&request))?;
            validate::txn(&request, self.settings.max_txn_ops)?;
            self.member.txn(caller, request).await
        };
        response.await.map_err(raw)
    }

    /// Reads.
    pub(super) async fn recipe_range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        let response = self.member.range(caller, request).await.map_err(raw)?;
        self.metrics.mvcc.ranges.inc();
        Ok(response)
    }

    /// Waits until nobody is before the key that was created at this revision.
    pub(super) async fn wait_for_turn(
        &self,
        caller: &Caller,
        line: &Line,
        created: i64,
    ) -> Result<(), Status> {
        loop {
            let found = self.recipe_range(caller, line.before(created)).await?;
            let Some(before) = found.kvs.first() else {
                return Ok(());
            };
            let next = revision(found.header.as_ref()) + 1;
            self.wait_deleted(caller, before.key(), next).await?;
        }
    }

    /// Waits until a key was deleted at this revision or later; may return sooner, so the caller looks again.
    async fn wait_deleted(
        &self,
        caller: &Caller,
        key: Bytes,
        start_revision: i64,
    ) -> Result<(), Status> {
        let spec = WatchSpec {
            key,
            start_revision,
            filters: Filters {
                no_put: true,
                ..Filters::default()
            },
            ..WatchSpec::default()
        };
        let lost = || Status::unknown("lost watcher waiting for delete");
        let mut changes = self.changes(caller, spec, lost).await?;
        loop {
            match self.next_change(&mut changes).await?.body {
                Body::Created | Body::Progress => {}
                Body::Events(_) | Body::Compacted { .. } => return Ok(()),
                Body::Refused { .. } | Body::Canceled => {
                    return Err(lost());
                }
            }
        }
    }

    /// Opens a stream with one watcher; `refused` is what a caller is told who may not have it.
    pub(super) async fn changes(
        &self,
        caller: &Caller,
        spec: WatchSpec,
        refused: impl FnOnce() -> Status,
    ) -> Result<StreamReceiver, Status> {
        let need = Need::Watch(&spec.key, &spec.end);
        if self.member.permit(caller, need).await.is_err() {
            return Err(refused());
        }
        let (control, receiver) = self.member.watch_hub().stream(StreamConfig::default());
        // The first request of a stream is always taken, unless the hub has ended.
        control.create(spec).map_err(|_| Error::Stopped)?;
        Ok(receiver)
    }

    /// What such a stream tells next.
    pub(super) async fn next_change(
        &self,
        changes: &mut StreamReceiver,
    ) -> Result<WatchItem, Status> {
        tokio::select! {
            item = changes.recv() => item.ok_or_else(|| Error::Stopped.into()),
            () = self.stop.cancelled() => Err(Error::Stopped.into()),
        }
    }
}

/// Leaves the line for a caller that has gone away or was told an error while it waited.
///
/// Its work runs as a task of its own when this is dropped, since by then there is nobody left who could wait.
pub(super) struct Leave(Option<Work>);

type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Leave {
    /// Does this work when dropped.
    pub fn new(work: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }

    /// The caller stays.
    pub fn never(mut self) {
        self.0 = None;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        // Without a runtime the member has stopped; the key goes with its lease.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async {
                if let Err(error) = work.await {
                    tracing::warn!(%error, "failed to delete the key of a caller that has left");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_with_the_lease_in_hexadecimal() {
        let cases: [(&[u8], i64, &[u8]); 5] = [
            (b"lk", 255, b"lk/ff"),
            (b"", 1, b"/1"),
            (b"a/b\xff", -7, b"a/b\xff/-7"),
            (b"n", i64::MAX, b"n/7fffffffffffffff"),
            (b"n", i64::MIN, b"n/-8000000000000000"),
        ];
        for (name, lease, expected) in cases {
            assert_eq!(Line::new(name).key(lease), expected);
        }
    }

    #[test]
    fn a_line_is_what_has_the_prefix() {
        let first = Line::new(b"n").first();
        assert_eq!(
            (&first.key[..], &first.range_end[..]),
            (&b"n/"[..], &b"n0"[..])
        );
        assert_eq!(first.limit, 1);
        assert_eq!(Line::new(b"n").before(9).max_create_revision, 8);
    }

    #[test]
    fn errors_have_their_text_and_no_code() {
        let status = raw(Error::LeaseNotFound);
        assert_eq!(status.code(), tonic::Code::Unknown);
        assert_eq!(status.message(), "etcdserver: requested lease not found");
        assert_eq!(
            raw(Error::DeadlineExceeded).code(),
            tonic::Code::DeadlineExceeded
        );
    }

    #[tokio::test]
    async fn who_is_dropped_leaves_and_who_stays_does_not() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(Leave::new(async move {
            let _ = sender.send(());
            Ok(())
        }));
        assert_eq!(receiver.await, Ok(()));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        Leave::new(async move {
            let _ = sender.send(());
            Ok(())
        })
        .never();
        assert!(receiver.await.is_err());
    }
}

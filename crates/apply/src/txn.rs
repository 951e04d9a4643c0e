//! Transactions: which branches are taken, whether they may run, and running them.

use std::cmp::Ordering;

use api::RawKv;
use api::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as RequestOp;
use pb::response_op::Response as ResponseOp;

use crate::kv;
use lease::Lessor;

/// Which branch each transaction of a tree takes, in the order the tree is walked.
type Path = Vec<bool>;

/// Applies a transaction: all compares against the state before it, then the checks of everything on
/// the taken path, then its operations in order. An error leaves no trace.
///
/// `execute_ranges` is false where nobody waits for the answer; the checks still run there, or members
/// would diverge over a range at a compacted revision.
pub(crate) fn apply(
    txn: &mut mvcc::WriteTxn<'_>,
    lessor: &mut Lessor,
    request: pb::TxnRequest,
    execute_ranges: bool,
    compacted: i64,
) -> Result<pb::TxnResponse, api::Error> {
    let mut path = Path::new();
    choose_path(txn, &request, &mut path)?;
    check(txn, lessor, &request, &mut path.iter(), compacted)?;
    let mut response = execute(txn, lessor, request, &mut path.iter(), execute_ranges)?;
    response.header = kv::header(txn.revision());
    Ok(response)
}

/// Answers a transaction that only reads, at one state of the store.
pub fn read_only(
    store: &mvcc::Store,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, api::Error> {
    loop {
        let reader = AtRevision {
            store,
            revision: store.current_revision(),
        };
        match read_at(&reader, request) {
            // A compaction overtook the transaction: what it saw is gone, so it starts again.
            Err(api::Error::Compacted) if store.compact_revision() > reader.revision => {}
            other => return other,
        }
    }
}

fn read_at(
    reader: &AtRevision<'_>,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, api::Error> {
    let succeeded = all_hold(reader, &request.compare)?;
    let ops = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    let ranges = || {
        ops.iter().filter_map(|op| match &op.request {
            Some(RequestOp::RequestRange(range)) => Some(range),
            _ => None,
        })
    };
    for range in ranges() {
        check_range(
            range.revision,
            reader.revision,
            reader.store.compact_revision(),
        )?;
    }
    let mut responses = Vec::with_capacity(ops.len());
    for range in ranges() {
        let mut options = kv::range_options(range);
        if options.revision <= 0 {
            options.revision = reader.revision;
        }
        let mut response = reader
            .store
            .range(&range.key, &range.range_end, &options)
            .map(kv::range_response)
            .map_err(kv::store_error)?;
        response.header = kv::header(reader.revision);
        responses.push(pb::ResponseOp {
            response: Some(ResponseOp::ResponseRange(response)),
        });
    }
    Ok(pb::TxnResponse {
        header: kv::header(reader.revision),
        succeeded,
        responses,
    })
}

/// Where compares read from: the state before a write transaction, or a snapshot of the store.
trait Reader {
    fn get(&self, key: &[u8]) -> Result<Option<RawKv>, api::Error>;
    fn range(&self, key: &[u8], end: &[u8]) -> Result<Vec<RawKv>, api::Error>;
}

/// The store as it was at one revision.
struct AtRevision<'a> {
    store: &'a mvcc::Store,
    revision: i64,
}

impl Reader for AtRevision<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<RawKv>, api::Error> {
        Ok(self.range(key, &[])?.pop())
    }

    fn range(&self, key: &[u8], end: &[u8]) -> Result<Vec<RawKv>, api::Error> {
        let all = mvcc::RangeOptions {
            revision: self.revision,
            ..Default::default()
        };
        Ok(self
            .store
            .range(key, end, &all)
            .map_err(kv::store_error)?
            .kvs)
    }
}

impl Reader for mvcc::WriteTxn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<RawKv>, api::Error> {
        kv::current(self, key)
    }

    fn range(&self, key: &[u8], end: &[u8]) -> Result<Vec<RawKv>, api::Error> {
        let all = mvcc::RangeOptions::default();
        Ok(mvcc::WriteTxn::range(self, key, end, &all)
            .map_err(kv::store_error)?
            .kvs)
    }
}

/// Evaluates the compares of a transaction and, along the branches taken, of the nested ones.
fn choose_path<R: Reader>(
    reader: &R,
    request: &pb::TxnRequest,
    path: &mut Path,
) -> Result<(), api::Error> {
    let succeeded = all_hold(reader, &request.compare)?;
    path.push(succeeded);
    for op in if succeeded {
        &request.success
    } else {
        &request.failure
    } {
        if let Some(RequestOp::RequestTxn(nested)) = &op.request {
            choose_path(reader, nested, path)?;
        }
    }
    Ok(())
}

fn all_hold<R: Reader>(reader: &R, compares: &[pb::Compare]) -> Result<bool, api::Error> {
    for compare in compares {
        if !holds(reader, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a compare holds: for its key, or for every key of its range. A key that is not there has
/// no value, so that no compare of values holds for it, and 0 for everything else.
fn holds<R: Reader>(reader: &R, compare: &pb::Compare) -> Result<bool, api::Error> {
    let kvs = if compare.range_end.is_empty() {
        reader.get(&compare.key)?.into_iter().collect()
    } else {
        reader.range(&compare.key, &compare.range_end)?
    };
    if kvs.is_empty() {
        if compare.target == CompareTarget::Value as i32 {
            return Ok(false);
        }
        return Ok(matches(compare, &RawKv::default()));
    }
    Ok(kvs.iter().all(|kv| matches(compare, kv)))
}

fn matches(compare: &pb::Compare, kv: &RawKv) -> bool {
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => {
            let wanted = match compare.target_union {
                Some(TargetUnion::Version(v)) => v,
                _ => 0,
            };
            kv.version().cmp(&wanted)
        }
        Ok(CompareTarget::Create) => {
            let wanted = match compare.target_union {
                Some(TargetUnion::CreateRevision(v)) => v,
                _ => 0,
            };
            kv.create_revision().cmp(&wanted)
        }
        Ok(CompareTarget::Mod) => {
            let wanted = match compare.target_union {
                Some(TargetUnion::ModRevision(v)) => v,
                _ => 0,
            };
            kv.mod_revision().cmp(&wanted)
        }
        Ok(CompareTarget::Lease) => {
            let wanted = match compare.target_union {
                Some(TargetUnion::Lease(v)) => v,
                _ => 0,
            };
            kv.lease().cmp(&wanted)
        }
        Ok(CompareTarget::Value) => {
            let wanted: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(v)) => v,
                _ => &[],
            };
            kv.value().as_ref().cmp(wanted)
        }
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

fn next(path: &mut std::slice::Iter<'_, bool>) -> bool {
    *path
        .next()
        .expect("the path was built by walking the same tree")
}

/// Whether everything on the taken path can run, judged on the state before the transaction.
fn check(
    txn: &mvcc::WriteTxn<'_>,
    lessor: &Lessor,
    request: &pb::TxnRequest,
    path: &mut std::slice::Iter<'_, bool>,
    compacted: i64,
) -> Result<(), api::Error> {
    let ops = if next(path) {
        &request.success
    } else {
        &request.failure
    };
    for op in ops {
        match &op.request {
            Some(RequestOp::RequestRange(range)) => {
                check_range(range.revision, txn.base_revision(), compacted)?;
            }
            Some(RequestOp::RequestPut(put)) => kv::check_put(txn, lessor, put)?,
            Some(RequestOp::RequestTxn(nested)) => {
                check(txn, lessor, nested, path, compacted)?;
            }
            Some(RequestOp::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// The revision of a range inside a transaction: unlike for a plain range, a negative one is not the
/// latest but older than anything.
fn check_range(revision: i64, current: i64, compacted: i64) -> Result<(), api::Error> {
    if revision == 0 {
        Ok(())
    } else if revision > current {
        Err(api::Error::FutureRev)
    } else if revision < compacted {
        Err(api::Error::Compacted)
    } else {
        Ok(())
    }
}

fn execute(
    txn: &mut mvcc::WriteTxn<'_>,
    lessor: &mut Lessor,
    request: pb::TxnRequest,
    path: &mut std::slice::Iter<'_, bool>,
    execute_ranges: bool,
) -> Result<pb::TxnResponse, api::Error> {
    let succeeded = next(path);
    let ops = if succeeded {
        request.success
    } else {
        request.failure
    };
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match op.request {
            Some(RequestOp::RequestRange(range)) => {
                ResponseOp::ResponseRange(execute_range(txn, &range, execute_ranges)?)
            }
            Some(RequestOp::RequestPut(put)) => ResponseOp::ResponsePut(kv::put(txn, lessor, put)?),
            Some(RequestOp::RequestDeleteRange(delete)) => {
                ResponseOp::ResponseDeleteRange(kv::delete_range(txn, lessor, &delete)?)
            }
            Some(RequestOp::RequestTxn(nested)) => {
                let mut answer = execute(txn, lessor, nested, path, execute_ranges)?;
                answer.header = Some(pb::ResponseHeader::default());
                ResponseOp::ResponseTxn(answer)
            }
            None => continue,
        };
        responses.push(pb::ResponseOp {
            response: Some(response),
        });
    }
    Ok(pb::TxnResponse {
        header: None,
        succeeded,
        responses,
    })
}

fn execute_range(
    txn: &mvcc::WriteTxn<'_>,
    range: &pb::RangeRequest,
    execute: bool,
) -> Result<pb::RangeResponse, api::Error> {
    if !execute {
        return Ok(pb::RangeResponse {
            header: kv::header(txn.revision()),
            ..Default::default()
        });
    }
    txn.range(&range.key, &range.range_end, &kv::range_options(range))
        .map(kv::range_response)
        .map_err(kv::store_error)
}

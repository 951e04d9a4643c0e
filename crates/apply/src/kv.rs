//! Put, DeleteRange and Range inside a write transaction, with their lease bookkeeping.

use api::etcdserverpb as pb;
use lease::Lessor;

/// The options of a range as the store takes them.
pub fn range_options(request: &pb::RangeRequest) -> mvcc::RangeOptions {
    mvcc::RangeOptions {
        limit: request.limit,
        revision: request.revision,
        sort_order: match request.sort_order {
            1 => mvcc::SortOrder::Ascend,
            2 => mvcc::SortOrder::Descend,
            _ => mvcc::SortOrder::None,
        },
        sort_target: match request.sort_target {
            1 => mvcc::SortTarget::Version,
            2 => mvcc::SortTarget::Create,
            3 => mvcc::SortTarget::Mod,
            4 => mvcc::SortTarget::Value,
            _ => mvcc::SortTarget::Key,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A store's answer as the message clients get, with the header's revision filled.
pub fn range_response(result: mvcc::RangeResult) -> pb::RangeResponse {
    pb::RangeResponse {
        header: header(result.revision),
        kvs: result.kvs,
        more: result.more,
        count: result.count,
    }
}

/// A header that carries only a revision, as operations inside a transaction have it.
#[allow(clippy::unnecessary_wraps)] // the form of the messages' fields
pub(crate) fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// The texts clients see for what the store refuses.
pub fn store_error(error: mvcc::Error) -> api::Error {
    match error {
        mvcc::Error::Compacted => api::Error::Compacted,
        mvcc::Error::FutureRev => api::Error::FutureRev,
        other => api::Error::Other {
            code: api::Code::Unknown,
            text: other.to_string(),
        },
    }
}

/// What a put needs to hold before anything is written: its lease must exist, and the key too where
/// the old value or lease is to be kept. The lease is looked at first, as in 3.7.
pub(crate) fn check_put(
    txn: &mvcc::WriteTxn<'_>,
    lessor: &Lessor,
    put: &pb::PutRequest,
) -> Result<(), api::Error> {
    if put.lease != 0 && !lessor.exists(put.lease) {
        return Err(api::Error::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && current(txn, &put.key)?.is_none() {
        return Err(api::Error::KeyNotFound);
    }
    Ok(())
}

/// Writes a put that passed [`check_put`].
///
/// `ignore_value` or `ignore_lease` of a key that an earlier operation of the same transaction deleted
/// has nothing to keep: the put then changes nothing. Frontends refuse such transactions, and a Go
/// member does not survive one, so all that matters is that every member of ours does the same.
pub(crate) fn put(
    txn: &mut mvcc::WriteTxn<'_>,
    lessor: &mut Lessor,
    put: pb::PutRequest,
) -> Result<pb::PutResponse, api::Error> {
    let mut previous = None;
    let (mut value, mut lease) = (put.value, put.lease);
    if put.ignore_value || put.ignore_lease || put.prev_kv {
        previous = current(txn, &put.key)?;
        if put.ignore_value || put.ignore_lease {
            let Some(kv) = &previous else {
                return Ok(pb::PutResponse {
                    header: header(txn.revision()),
                    prev_kv: None,
                });
            };
            if put.ignore_value {
                value = kv.value();
            }
            if put.ignore_lease {
                lease = kv.lease();
            }
        }
    }
    txn.put(&put.key, &value, lease);
    lessor.reattach(put.key, lease);
    Ok(pb::PutResponse {
        header: header(txn.revision()),
        prev_kv: if put.prev_kv { previous } else { None },
    })
}

/// Deletes a range and detaches its keys from their leases.
pub(crate) fn delete_range(
    txn: &mut mvcc::WriteTxn<'_>,
    lessor: &mut Lessor,
    request: &pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, api::Error> {
    let (key, end) = (&request.key, &request.range_end);
    let deleted = if request.prev_kv {
        txn.delete_range_with_prev(key, end).map_err(store_error)?
    } else {
        txn.delete_range(key, end)
    };
    let count = deleted.len() as i64;
    let mut prev_kvs = Vec::new();
    for one in deleted {
        lessor.detach_key(&one.key);
        if request.prev_kv {
            prev_kvs.extend(one.prev);
        }
    }
    Ok(pb::DeleteRangeResponse {
        header: header(txn.revision()),
        deleted: count,
        prev_kvs,
    })
}

/// The live record of one key as the transaction sees it.
pub(crate) fn current(
    txn: &mvcc::WriteTxn<'_>,
    key: &[u8],
) -> Result<Option<api::RawKv>, api::Error> {
    txn.get(key).map_err(store_error)
}

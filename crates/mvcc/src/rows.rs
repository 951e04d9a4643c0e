//! What a range read collects before it has all values, and the rules of etcd that turn it into the answer.

use std::cmp::Ordering;

use api::RawKv;
use backend::{Backend, Bucket};

use crate::index::{Entry, KeyMeta};
use crate::record;
use crate::{Error, RangeOptions, SortOrder, SortTarget};

/// Values read from the backend at once.
const LOAD: usize = 256;

/// One key of the result.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub meta: KeyMeta,
    /// `None`: to be read from the backend.
    pub kv: Option<RawKv>,
}

impl Row {
    /// The row for a key at revision `at`, if it exists then. Called under the index lock: takes what is in memory.
    pub fn of(entry: &Entry, at: i64, from_index: bool) -> Option<Self> {
        let meta = entry.at(at)?;
        let kv = if from_index {
            Some(without_value(entry.key(), meta))
        } else if meta.modified == entry.head() {
            entry.cached().cloned()
        } else {
            None
        };
        Some(Self { meta, kv })
    }
}

/// A pair as the index knows it: neither value nor lease.
pub(crate) fn without_value(key: &[u8], meta: KeyMeta) -> RawKv {
    record::encode_put(key, meta.create, meta.modified.main, meta.version, b"", 0).kv
}

/// Reads the values that are not in memory. Returns which rows were read.
pub(crate) fn load(backend: &Backend, rows: &mut [Row]) -> Result<Vec<usize>, Error> {
    let missing: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].kv.is_none()).collect();
    for part in missing.chunks(LOAD) {
        let keys: Vec<_> = part
            .iter()
            .map(|i| rows[*i].meta.modified.key(false))
            .collect();
        let values = backend.get_many(Bucket::Key, &keys)?;
        for (i, value) in part.iter().zip(values) {
            let value = value.ok_or(Error::Missing(rows[*i].meta.modified))?;
            rows[*i].kv = Some(RawKv::from_encoded(value));
        }
    }
    Ok(missing)
}

/// Drops rows outside of the asked-for revisions; bounds are inclusive, 0 is none.
pub(crate) fn filter(rows: &mut Vec<Row>, options: &RangeOptions) {
    if !options.has_filters() {
        return;
    }
    let at_most = |bound: i64, revision: i64| bound == 0 || revision <= bound;
    let at_least = |bound: i64, revision: i64| bound == 0 || revision >= bound;
    rows.retain(|Row { meta, .. }| {
        at_most(options.max_mod_revision, meta.modified.main)
            && at_least(options.min_mod_revision, meta.modified.main)
            && at_most(options.max_create_revision, meta.create)
            && at_least(options.min_create_revision, meta.create)
    });
}

/// Sorts rows that are in key order. Rows that are equal in the target stay in key order, ascending or descending:
/// so Go's sort does for up to 12 rows; for more, its order of equal rows is an accident of its pivots, and key order
/// is as good an answer.
pub(crate) fn sort(rows: &mut [Row], options: &RangeOptions) {
    let descending = options.sort_order == SortOrder::Descend;
    if options.sort_target == SortTarget::Key {
        if descending {
            rows.reverse();
        }
        return;
    }
    let compare = |a: &Row, b: &Row| match options.sort_target {
        SortTarget::Key => Ordering::Equal,
        SortTarget::Version => a.meta.version.cmp(&b.meta.version),
        SortTarget::Create => a.meta.create.cmp(&b.meta.create),
        SortTarget::Mod => a.meta.modified.main.cmp(&b.meta.modified.main),
        SortTarget::Value => value(a).cmp(value(b)),
    };
    if descending {
        rows.sort_by(|a, b| compare(b, a));
    } else {
        rows.sort_by(compare);
    }
}

fn value(row: &Row) -> &[u8] {
    row.kv.as_ref().map_or(&[], RawKv::value_slice)
}

/// Cuts to the limit; returns whether something was cut off.
pub(crate) fn cut(rows: &mut Vec<Row>, options: &RangeOptions) -> bool {
    let limit = usize::try_from(options.limit).unwrap_or(0);
    let more = limit > 0 && rows.len() > limit;
    if more {
        rows.truncate(limit);
    }
    more
}

/// The pairs, once all are loaded.
pub(crate) fn finish(rows: Vec<Row>, options: &RangeOptions) -> Result<Vec<RawKv>, Error> {
    let strip = options.keys_only && !options.needs_no_records();
    rows.into_iter()
        .map(|Row { meta, kv }| {
            let kv = kv.ok_or(Error::Missing(meta.modified))?;
            Ok(if strip { record::strip_value(&kv) } else { kv })
        })
        .collect()
}

/// Everything between collecting and answering; `load` fills in values that are missing.
///
/// What was collected is what [`RangeOptions::read_limit`] allows: for a target other than the key without an order
/// those are the first keys, sorted and cut here, not the lowest targets of all.
pub(crate) fn settle(
    mut rows: Vec<Row>,
    options: &RangeOptions,
    load: &mut dyn FnMut(&mut [Row]) -> Result<(), Error>,
) -> Result<(Vec<RawKv>, bool), Error> {
    filter(&mut rows, options);
    if options.sort_target == SortTarget::Value {
        load(&mut rows)?;
    }
    sort(&mut rows, options);
    let more = cut(&mut rows, options);
    load(&mut rows)?;
    Ok((finish(rows, options)?, more))
}

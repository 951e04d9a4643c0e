//! What is wrong with a request before anyone looks at the data.
//!
//! The order of the checks is part of the interface: a request with two faults must name the same one as etcd.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use api::Error;
use api::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

/// Checks a Range.
pub fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() {
        return Err(Error::InvalidSortOption);
    }
    if SortTarget::try_from(request.sort_target).is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a RangeStream: a Range that is answered in key order, so nothing may reorder or filter it.
pub fn range_stream(request: &pb::RangeRequest) -> Result<(), Error> {
    range(request)?;
    let unimplemented = |text: &str| Err(Error::other(api::Code::Unimplemented, text));
    let default_order = match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !default_order {
        return unimplemented("RangeStream does not support custom sort orders");
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds != [0; 4] {
        return unimplemented("RangeStream does not support revision filters");
    }
    Ok(())
}

/// Checks a Put.
pub fn put(request: &pb::PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a DeleteRange.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a Txn, nested ones included; `max_ops` is `--max-txn-ops`.
pub fn txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops)?;
    for branch in [&request.success, &request.failure] {
        // A single plain operation cannot collide with anything; that is most transactions.
        if branch.len() > 1 || matches!(branch.first(), Some(op) if is_txn(op)) {
            Writes::of(branch)?;
        }
    }
    Ok(())
}

fn is_txn(op: &pb::RequestOp) -> bool {
    matches!(op.request, Some(Request::RequestTxn(_)))
}

/// Counts and single operations. A nested transaction may be as long as its parent left room for.
fn operations(txn: &pb::TxnRequest, max_ops: usize) -> Result<(), Error> {
    let longest = txn
        .compare
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(Error::TooManyOps)?;
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Everything one branch may change, for finding out whether it would change a key twice.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    /// Puts that take over value or lease, and so need the key to exist when they run.
    keeping: Vec<&'a [u8]>,
    deletes: Intervals<'a>,
    /// Lowest key from which on everything is deleted, by a `range_end` of one NUL byte. etcd's check for
    /// duplicates takes that end literally and sees an empty interval; so do `deletes`.
    deletes_from: Option<&'a [u8]>,
}

impl<'a> Writes<'a> {
    /// Collects a branch; an error means that it changes a key twice.
    ///
    /// The order matters, as in etcd: deletes of this level first, then nested transactions one by one, then puts
    /// of this level. Deletes may overlap each other.
    fn of(branch: &'a [pb::RequestOp]) -> Result<Self, Error> {
        let mut writes = Self::default();
        for op in branch {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                writes.delete(delete);
            }
        }
        for op in branch {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                writes.nested(Self::of(&nested.success)?, Self::of(&nested.failure)?)?;
            }
        }
        for op in branch {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.put(&put.key)?;
                if put.ignore_value || put.ignore_lease {
                    writes.keeping.push(&put.key);
                }
            }
        }
        writes.keeping_survives()?;
        Ok(writes)
    }

    fn delete(&mut self, delete: &'a pb::DeleteRangeRequest) {
        self.deletes.add(&delete.key, &delete.range_end);
        if *delete.range_end == [0] {
            self.lower_deletes_from(&delete.key);
        }
    }

    fn lower_deletes_from(&mut self, key: &'a [u8]) {
        self.deletes_from = Some(self.deletes_from.map_or(key, |lowest| lowest.min(key)));
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Takes over what the two branches of one nested transaction may change. Only one of them runs, so they may
    /// change the same key.
    fn nested(&mut self, then: Self, otherwise: Self) -> Result<(), Error> {
        for key in &then.puts {
            self.put(key)?;
        }
        for key in otherwise.puts.difference(&then.puts) {
            self.put(key)?;
        }
        for branch in [then, otherwise] {
            self.deletes.merge(branch.deletes);
            self.keeping.extend(branch.keeping);
            if let Some(key) = branch.deletes_from {
                self.lower_deletes_from(key);
            }
        }
        Ok(())
    }

    /// Refuses what etcd accepts by mistake: a delete "from this key on" together with a put that keeps the value
    /// or lease of a key it deletes. Executing it finds nothing to keep; upstream's members crash on it, and again
    /// at every start, because the entry is in their log.
    fn keeping_survives(&self) -> Result<(), Error> {
        match self.deletes_from {
            Some(start) if self.keeping.iter().any(|key| *key >= start) => Err(Error::DuplicateKey),
            _ => Ok(()),
        }
    }
}

/// A set of keys made of intervals; start to end, disjoint.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], End<'a>>);

/// Where an interval ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End<'a> {
    /// Before this key.
    Before(&'a [u8]),
    /// With this key.
    With(&'a [u8]),
}

impl End<'_> {
    fn includes(self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end,
            Self::With(end) => key <= end,
        }
    }

    /// Whether this end lies beyond the other.
    fn beyond(self, other: Self) -> bool {
        match (self, other) {
            (Self::With(a), Self::Before(b)) => a >= b,
            (Self::With(a) | Self::Before(a), Self::With(b) | Self::Before(b)) => a > b,
        }
    }
}

impl<'a> Intervals<'a> {
    /// Adds a delete's interval; `end` empty means the one key. An interval that ends before it begins is empty.
    fn add(&mut self, start: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            self.insert(start, End::With(start));
        } else if start < end {
            self.insert(start, End::Before(end));
        }
    }

    fn insert(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if let Some((&before, &before_end)) = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(start)))
            .next_back()
            && before_end.includes(start)
        {
            start = before;
            if before_end.beyond(end) {
                end = before_end;
            }
        }
        while let Some((&next, &next_end)) = self
            .0
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .next()
            && end.includes(next)
        {
            self.0.remove(next);
            if next_end.beyond(end) {
                end = next_end;
            }
        }
        self.0.insert(start, end);
    }

    fn merge(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| end.includes(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn a_put(key: &'static str) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest {
            key: key.into(),
            ..Default::default()
        }))
    }

    fn keep(key: &'static str) -> pb::RequestOp {
        let put = pb::PutRequest {
            key: key.into(),
            ignore_value: true,
            ..Default::default()
        };
        op(Request::RequestPut(put))
    }

    fn a_delete(key: &'static str, end: &'static str) -> pb::RequestOp {
        let delete = pb::DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            prev_kv: false,
        };
        op(Request::RequestDeleteRange(delete))
    }

    fn a_get(key: &'static str) -> pb::RequestOp {
        op(Request::RequestRange(pb::RangeRequest {
            key: key.into(),
            ..Default::default()
        }))
    }

    fn a_txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }
    }

    fn nest(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Request::RequestTxn(a_txn(success, failure)))
    }

    #[test]
    fn ranges() {
        let good = pb::RangeRequest {
            key: "k".into(),
            range_end: "a".into(),
            ..Default::default()
        };
        let cases = [
            (good.clone(), Ok(())),
            (pb::RangeRequest::default(), Err(Error::EmptyKey)),
            (
                pb::RangeRequest {
                    sort_order: 3,
                    ..Default::default()
                },
                Err(Error::EmptyKey),
            ),
            (
                pb::RangeRequest {
                    sort_order: 3,
                    ..good.clone()
                },
                Err(Error::InvalidSortOption),
            ),
            (
                pb::RangeRequest {
                    sort_order: -1,
                    ..good.clone()
                },
                Err(Error::InvalidSortOption),
            ),
            (
                pb::RangeRequest {
                    sort_target: 5,
                    ..good.clone()
                },
                Err(Error::InvalidSortOption),
            ),
            (
                pb::RangeRequest {
                    limit: -1,
                    revision: -5,
                    ..good
                },
                Ok(()),
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(range(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn range_streams_are_neither_sorted_nor_filtered() {
        let good = pb::RangeRequest {
            key: "k".into(),
            ..Default::default()
        };
        let sorted = "RangeStream does not support custom sort orders";
        let filtered = "RangeStream does not support revision filters";
        let cases = [
            (
                pb::RangeRequest {
                    sort_order: 1,
                    ..good.clone()
                },
                None,
            ),
            (
                pb::RangeRequest {
                    sort_target: 3,
                    ..good.clone()
                },
                None,
            ),
            (
                pb::RangeRequest {
                    sort_order: 2,
                    min_mod_revision: 1,
                    ..good.clone()
                },
                Some(sorted),
            ),
            (
                pb::RangeRequest {
                    sort_order: 1,
                    sort_target: 4,
                    ..good.clone()
                },
                Some(sorted),
            ),
            (
                pb::RangeRequest {
                    max_create_revision: 4,
                    ..good.clone()
                },
                Some(filtered),
            ),
            (good, None),
        ];
        for (request, text) in cases {
            let expected = text.map_or(Ok(()), |text| {
                Err(Error::other(api::Code::Unimplemented, text))
            });
            assert_eq!(range_stream(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn puts() {
        let put_of = |key: &'static str, value: &'static str, lease, ignore_value, ignore_lease| {
            pb::PutRequest {
                key: key.into(),
                value: value.into(),
                lease,
                ignore_value,
                ignore_lease,
                prev_kv: false,
            }
        };
        let cases = [
            (put_of("", "v", 1, true, true), Err(Error::EmptyKey)),
            (put_of("k", "v", 1, true, true), Err(Error::ValueProvided)),
            (put_of("k", "", 1, true, true), Err(Error::LeaseProvided)),
            (put_of("k", "", 0, true, true), Ok(())),
            (put_of("k", "v", -1, false, false), Ok(())),
        ];
        for (request, expected) in cases {
            assert_eq!(put(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn lengths_of_nested_transactions_add_up() {
        let puts = |n: usize| -> Vec<_> { (0..n).map(|_| a_get("k")).collect() };
        assert_eq!(txn(&a_txn(puts(128), puts(128)), 128), Ok(()));
        assert_eq!(txn(&a_txn(puts(129), vec![]), 128), Err(Error::TooManyOps));
        assert_eq!(txn(&a_txn(vec![], puts(129)), 128), Err(Error::TooManyOps));
        let compares = pb::TxnRequest {
            compare: vec![pb::Compare::default(); 129],
            ..Default::default()
        };
        assert_eq!(txn(&compares, 128), Err(Error::TooManyOps));

        let mut ops = puts(127);
        ops.push(nest(vec![], vec![]));
        assert_eq!(txn(&a_txn(ops.clone(), vec![]), 128), Ok(()));
        ops[127] = nest(vec![a_get("k")], vec![]);
        assert_eq!(txn(&a_txn(ops, vec![]), 128), Err(Error::TooManyOps));
    }

    #[test]
    fn faults_are_named_in_order() {
        let empty_compare = vec![pb::Compare::default()];
        let bad = pb::TxnRequest {
            compare: empty_compare,
            success: vec![pb::RequestOp::default()],
            failure: vec![],
        };
        assert_eq!(txn(&bad, 128), Err(Error::EmptyKey));
        assert_eq!(txn(&bad, 0), Err(Error::TooManyOps));
        let empty = vec![pb::RequestOp::default()];
        assert_eq!(
            txn(&a_txn(empty.clone(), vec![a_put("")]), 128),
            Err(Error::KeyNotFound)
        );
        assert_eq!(
            txn(&a_txn(vec![a_put("")], empty.clone()), 128),
            Err(Error::EmptyKey)
        );
        // An empty operation in the branch for failure comes before a duplicate in the one for success.
        assert_eq!(
            txn(&a_txn(vec![a_put("k"), a_put("k")], empty), 128),
            Err(Error::KeyNotFound)
        );
        assert_eq!(
            txn(
                &a_txn(vec![nest(vec![a_delete("", "")], vec![])], vec![]),
                128
            ),
            Err(Error::EmptyKey)
        );
        assert_eq!(txn(&pb::TxnRequest::default(), 128), Ok(()));
    }

    #[test]
    fn overlaps() {
        let duplicate = Err(Error::DuplicateKey);
        let cases: Vec<(Vec<pb::RequestOp>, Result<(), Error>)> = vec![
            (vec![a_put("a"), a_put("b"), a_get("a")], Ok(())),
            (vec![a_put("a"), a_put("a")], duplicate.clone()),
            (vec![a_put("a"), a_delete("a", "")], duplicate.clone()),
            (vec![a_delete("a", ""), a_put("a")], duplicate.clone()),
            (vec![a_put("b"), a_delete("a", "c")], duplicate.clone()),
            (vec![a_put("c"), a_delete("a", "c")], Ok(())),
            (vec![a_put("b"), a_delete("c", "a")], Ok(())),
            (
                vec![a_delete("a", "c"), a_delete("b", "d"), a_delete("b", "")],
                Ok(()),
            ),
            (
                vec![a_delete("a", "c"), a_delete("b", "d"), a_put("cc")],
                duplicate.clone(),
            ),
            // The end of one NUL byte is taken literally.
            (vec![a_put("k"), a_delete("a", "\0")], Ok(())),
            (vec![a_delete("a", "\0"), a_put("k")], Ok(())),
            // Branches of one nested transaction exclude each other,
            (vec![nest(vec![a_put("a")], vec![a_put("a")])], Ok(())),
            (
                vec![nest(vec![a_put("a")], vec![a_delete("a", "")])],
                Ok(()),
            ),
            // but both can meet their parent and each other's siblings.
            (
                vec![nest(vec![a_put("a")], vec![a_put("a")]), a_put("a")],
                duplicate.clone(),
            ),
            (
                vec![nest(vec![], vec![a_put("a")]), a_put("a")],
                duplicate.clone(),
            ),
            (
                vec![nest(vec![], vec![a_delete("a", "")]), a_put("a")],
                duplicate.clone(),
            ),
            (
                vec![nest(vec![a_put("b")], vec![]), a_delete("a", "c")],
                duplicate.clone(),
            ),
            (
                vec![
                    nest(vec![a_put("a")], vec![]),
                    nest(vec![], vec![a_put("a")]),
                ],
                duplicate.clone(),
            ),
            (
                vec![
                    nest(vec![a_delete("a", "")], vec![]),
                    nest(vec![a_put("a")], vec![]),
                ],
                duplicate.clone(),
            ),
            (
                vec![nest(vec![a_put("a"), a_put("a")], vec![])],
                duplicate.clone(),
            ),
            (
                vec![
                    nest(vec![nest(vec![a_put("a")], vec![])], vec![]),
                    a_put("a"),
                ],
                duplicate,
            ),
        ];
        for (branch, expected) in cases {
            assert_eq!(
                txn(&a_txn(branch.clone(), vec![]), 128),
                expected,
                "{branch:?}"
            );
            assert_eq!(
                txn(&a_txn(vec![], branch.clone()), 128),
                expected,
                "failure: {branch:?}"
            );
        }
    }

    /// Upstream accepts these and all its members crash on the entry, again at every start.
    #[test]
    fn a_put_that_keeps_what_the_same_txn_deletes_is_refused() {
        let duplicate = Err(Error::DuplicateKey);
        let check = |branch: Vec<pb::RequestOp>| txn(&a_txn(branch, vec![]), 128);
        assert_eq!(check(vec![a_delete("k", "\0"), keep("k")]), duplicate);
        assert_eq!(check(vec![a_delete("a", "\0"), keep("k")]), duplicate);
        assert_eq!(
            check(vec![a_delete("a", "\0"), nest(vec![keep("k")], vec![])]),
            duplicate
        );
        assert_eq!(
            check(vec![nest(vec![], vec![a_delete("a", "\0")]), keep("k")]),
            duplicate
        );
        assert_eq!(check(vec![a_delete("l", "\0"), keep("k")]), Ok(()));
        assert_eq!(
            txn(&a_txn(vec![keep("k")], vec![a_delete("k", "\0")]), 128),
            Ok(())
        );
    }

    proptest! {
        /// Model: one entry per pair, looked up one by one.
        #[test]
        fn intervals_are_a_set_of_keys(
            added in proptest::collection::vec(("[a-c]{1,3}", "[a-c]{0,3}"), 0..20),
            asked in proptest::collection::vec("[a-c]{1,3}", 20),
        ) {
            let mut intervals = Intervals::default();
            for (start, end) in &added {
                intervals.add(start.as_bytes(), end.as_bytes());
            }
            for key in &asked {
                let expected = added.iter().any(|(start, end)| {
                    if end.is_empty() { start == key } else { start <= key && key < end }
                });
                prop_assert_eq!(intervals.contains(key.as_bytes()), expected, "{} in {:?}", key, added);
            }
        }
    }
}

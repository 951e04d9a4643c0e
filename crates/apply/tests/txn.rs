//! Transactions: compares, checks of the taken path, order of effects (docs/apply.md).

mod support;

use api::Error;
use api::etcdserverpb as pb;
use apply::{Op, Response};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as RequestOp;
use pb::response_op::Response as ResponseOp;
use support::*;

fn compare(key: &str, end: &str, result: CompareResult, union: TargetUnion) -> pb::Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        key: bytes(key),
        range_end: bytes(end),
        result: result as i32,
        target: target as i32,
        target_union: Some(union),
    }
}

fn host(dir: &tempfile::TempDir) -> Host {
    Host::open(dir.path(), -1)
}

/// Whether a transaction with these compares takes its first branch.
fn holds(host: &mut Host, compare: Vec<pb::Compare>) -> bool {
    let before = host.revision();
    let txn = pb::TxnRequest {
        compare,
        ..Default::default()
    };
    let local = apply::read_only_txn(&host.store, &txn).unwrap().succeeded;
    let answer = host.txn(txn).unwrap();
    assert_eq!(answer.succeeded, local, "reads and writes must judge alike");
    assert_eq!(answer.header.unwrap().revision, before);
    answer.succeeded
}

#[test]
fn every_target_compares_with_every_result() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.grant(5);
    host.put("a", "m");
    let with_lease = pb::PutRequest {
        lease: 5,
        ..put("a", "m")
    };
    host.run(Op::Put(with_lease)).unwrap();
    // version 2, created at 2, modified at 3, lease 5, value "m".
    let number = |target: fn(i64) -> TargetUnion, is: i64| {
        [
            (Equal, target(is), true),
            (Equal, target(is + 1), false),
            (NotEqual, target(is), false),
            (NotEqual, target(is - 1), true),
            (Greater, target(is - 1), true),
            (Greater, target(is), false),
            (Less, target(is + 1), true),
            (Less, target(is), false),
        ]
    };
    let value = |text| TargetUnion::Value(bytes(text));
    let mut cases = vec![
        (Equal, value("m"), true),
        (NotEqual, value("m"), false),
        (Greater, value("l"), true),
        (Less, value("mm"), true),
        (Less, value("m"), false),
    ];
    cases.extend(number(TargetUnion::Version, 2));
    cases.extend(number(TargetUnion::CreateRevision, 2));
    cases.extend(number(TargetUnion::ModRevision, 3));
    cases.extend(number(TargetUnion::Lease, 5));
    for (result, union, expected) in cases {
        let one = compare("a", "", result, union);
        assert_eq!(holds(&mut host, vec![one.clone()]), expected, "{one:?}");
    }
}

#[test]
fn a_missing_key_compares_as_zeros_but_no_value_of_it_does() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    for union in [
        TargetUnion::Version(0),
        TargetUnion::CreateRevision(0),
        TargetUnion::ModRevision(0),
        TargetUnion::Lease(0),
    ] {
        for end in ["", "z"] {
            assert!(holds(
                &mut host,
                vec![compare("a", end, Equal, union.clone())]
            ));
            assert!(!holds(
                &mut host,
                vec![compare("a", end, Greater, union.clone())]
            ));
        }
    }
    assert!(holds(
        &mut host,
        vec![compare("a", "", Less, TargetUnion::Version(1))]
    ));
    for result in [Equal, NotEqual, Greater, Less] {
        let one = compare("a", "", result, TargetUnion::Value(bytes("")));
        assert!(!holds(&mut host, vec![one]));
    }
}

#[test]
fn a_range_compare_holds_only_if_every_key_does_and_all_compares_count() {
    use CompareResult::{Equal, Greater};
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.put("a", "1");
    host.put("b", "1");
    let ones = || compare("a", "z", Equal, TargetUnion::Value(bytes("1")));
    assert!(holds(&mut host, vec![ones()]));
    assert!(holds(&mut host, vec![]));
    let and = compare("a", "", Greater, TargetUnion::Version(1));
    assert!(!holds(&mut host, vec![ones(), and]));
    host.put("c", "2");
    assert!(!holds(&mut host, vec![ones()]));
    assert!(holds(
        &mut host,
        vec![compare("a", "c", Equal, TargetUnion::Value(bytes("1")))]
    ));
}

#[test]
fn unknown_results_hold_unknown_targets_are_equal_and_a_missing_union_is_zero() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.put("a", "1");
    let one = |target, result| pb::Compare {
        key: bytes("a"),
        target,
        result,
        ..Default::default()
    };
    assert!(holds(
        &mut host,
        vec![one(CompareTarget::Version as i32, 77)]
    ));
    assert!(holds(&mut host, vec![one(77, CompareResult::Equal as i32)]));
    assert!(!holds(
        &mut host,
        vec![one(77, CompareResult::Greater as i32)]
    ));
    assert!(holds(
        &mut host,
        vec![one(
            CompareTarget::Version as i32,
            CompareResult::Greater as i32
        )]
    ));
    // A union of another kind than the target counts as zero.
    let mut other = one(CompareTarget::Lease as i32, CompareResult::Equal as i32);
    other.target_union = Some(TargetUnion::Version(1));
    assert!(holds(&mut host, vec![other]));
}

#[test]
fn nested_compares_look_at_the_state_before_the_transaction_and_ranges_at_the_present_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    let nested = pb::TxnRequest {
        compare: vec![compare(
            "a",
            "",
            CompareResult::Equal,
            TargetUnion::Version(0),
        )],
        success: vec![range_op("a", "", 0), put_op("b", "nested")],
        failure: vec![put_op("c", "wrong")],
    };
    let answer = host
        .txn(success(vec![
            put_op("a", "1"),
            txn_op(nested),
            delete_op("a", ""),
        ]))
        .unwrap();
    assert_eq!(answer.header.unwrap().revision, 2);
    assert_eq!(host.value("b").as_deref(), Some("nested"));
    assert_eq!((host.value("a"), host.value("c")), (None, None));
    let Some(ResponseOp::ResponseTxn(inner)) = &answer.responses[1].response else {
        panic!("{answer:?}");
    };
    assert_eq!(inner.header, Some(pb::ResponseHeader::default()));
    let Some(ResponseOp::ResponseRange(seen)) = &inner.responses[0].response else {
        panic!("{inner:?}");
    };
    assert_eq!((seen.count, seen.header.as_ref().unwrap().revision), (1, 2));
    assert_eq!(host.revision(), 2, "one revision for everything");
}

#[test]
fn the_first_failed_check_ends_a_transaction_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.put("a", "1");
    host.put("a", "2");
    let compaction = pb::CompactionRequest {
        revision: 3,
        physical: false,
    };
    host.run(Op::Compaction(compaction)).unwrap();
    let unknown_lease = pb::PutRequest {
        lease: 99,
        ..put("k", "v")
    };
    let ignore = |value: bool| {
        op(RequestOp::RequestPut(pb::PutRequest {
            ignore_value: value,
            ignore_lease: !value,
            ..put("missing", "")
        }))
    };
    let cases = [
        (range_op("a", "", 4), Error::FutureRev),
        (range_op("a", "", 2), Error::Compacted),
        (range_op("a", "", -1), Error::Compacted),
        (
            op(RequestOp::RequestPut(unknown_lease)),
            Error::LeaseNotFound,
        ),
        (ignore(true), Error::KeyNotFound),
        (ignore(false), Error::KeyNotFound),
    ];
    for (bad, expected) in cases {
        for waited in [true, false] {
            let before = host.state();
            let nested = success(vec![bad.clone()]);
            let txn = success(vec![put_op("x", "1"), delete_op("a", ""), txn_op(nested)]);
            let at = host.next();
            let applied = host.try_apply(at, Op::Txn(txn), waited).unwrap();
            let error = applied.result.unwrap().unwrap_err();
            assert_eq!(error.text(), expected.text());
            let after = host.state();
            assert_eq!((after.hash, after.revision), (before.hash, before.revision));
        }
        // What is not on the taken path is not looked at.
        let txn = pb::TxnRequest {
            failure: vec![bad],
            ..Default::default()
        };
        assert!(host.txn(txn).is_ok());
    }
    assert!(host.txn(success(vec![range_op("a", "", 3)])).is_ok());
}

#[test]
fn before_the_first_compaction_a_range_at_minus_one_is_the_latest_and_below_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.put("a", "1");
    for revision in [-1, -5] {
        let txn = success(vec![range_op("a", "", revision)]);
        let local = apply::read_only_txn(&host.store, &txn);
        let written = host.txn(txn);
        if revision == -1 {
            assert!(local.is_ok() && written.is_ok());
        } else {
            assert_eq!(local.unwrap_err().text(), Error::Compacted.text());
            assert_eq!(written.unwrap_err().text(), Error::Compacted.text());
        }
    }
}

#[test]
fn a_put_that_keeps_what_its_own_transaction_deleted_changes_nothing_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    for kept in ["value", "lease"] {
        host.put("k", "1");
        let keeping = pb::PutRequest {
            ignore_value: kept == "value",
            ignore_lease: kept == "lease",
            ..put("k", "")
        };
        let before = host.revision();
        let poison = success(vec![
            delete_op("k", "\0"),
            op(RequestOp::RequestPut(keeping)),
            put_op("after", kept),
        ]);
        let answer = host.txn(poison).unwrap();
        assert_eq!(answer.responses.len(), 3);
        assert_eq!(host.revision(), before + 1);
        assert_eq!(
            (host.value("k"), host.value("after")),
            (None, Some(kept.into()))
        );
    }
}

#[test]
fn a_txn_uses_a_revision_only_if_it_changes_something() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    for txn in [
        success(vec![]),
        success(vec![range_op("a", "", 0)]),
        success(vec![delete_op("a", "z")]),
        success(vec![pb::RequestOp { request: None }]),
    ] {
        assert_eq!(host.txn(txn).unwrap().header.unwrap().revision, 1);
    }
    let many = success(vec![
        put_op("a", "1"),
        put_op("b", "1"),
        delete_op("a", "\0"),
    ]);
    let answer = host.txn(many).unwrap();
    assert_eq!((answer.header.unwrap().revision, host.revision()), (2, 2));
}

#[test]
fn puts_keep_value_or_lease_as_asked_and_lease_zero_detaches() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.grant(7);
    let attached = |host: &Host| host.lessor.lock().unwrap().lease_of(b"k");
    let first = pb::PutRequest {
        lease: 7,
        ..put("k", "1")
    };
    host.run(Op::Put(first)).unwrap();
    let keep_lease = pb::PutRequest {
        ignore_lease: true,
        prev_kv: true,
        ..put("k", "2")
    };
    let Ok(Response::Put(answer)) = host.run(Op::Put(keep_lease)) else {
        panic!("the put must work");
    };
    let previous = answer.prev_kv.unwrap();
    assert_eq!(
        (previous.value().as_ref(), previous.lease()),
        (&b"1"[..], 7)
    );
    assert_eq!(
        (host.value("k").as_deref(), attached(&host)),
        (Some("2"), Some(7))
    );
    let keep_value = pb::PutRequest {
        ignore_value: true,
        ..put("k", "")
    };
    host.run(Op::Put(keep_value)).unwrap();
    assert_eq!(
        (host.value("k").as_deref(), attached(&host)),
        (Some("2"), None)
    );
    // The lease is looked at before the key.
    let both_missing = pb::PutRequest {
        lease: 99,
        ignore_value: true,
        ..put("none", "")
    };
    let error = host.run(Op::Put(both_missing)).unwrap_err();
    assert_eq!(error.text(), Error::LeaseNotFound.text());
}

//! Who may do what with which keys.

mod support;

use api::Error;
use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use auth::{AuthOp, Caller, LeaseKeys, Permissions};
use bytes::Bytes;
use pb::request_op::Request as RequestOp;
use proptest::prelude::*;
use support::*;

const NO_LEASES: fn(i64) -> [&'static [u8]; 0] = |_| [];

/// `ann` writes `a` and reads `b`; lease 7 holds `x`, lease 8 holds `a`, 9 holds nothing.
fn store() -> Member {
    let mut member = Member::enabled();
    member.ok(grant("r", Type::Write, "a", ""));
    member.ok(grant("r", Type::Read, "b", ""));
    member
}

fn leases(lease: i64) -> Vec<&'static [u8]> {
    match lease {
        7 => vec![b"x"],
        8 => vec![b"a"],
        _ => vec![],
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

fn txn(ops: Vec<RequestOp>) -> pb::TxnRequest {
    let op = |op| pb::RequestOp { request: Some(op) };
    pb::TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..Default::default()
    }
}

/// Every line was seen on etcd 3.7.3.
#[test]
fn requests_need_the_rights_of_all_their_parts() {
    let member = store();
    let permissions = member.view().permissions_owned();
    let ann = caller("ann", member.revision());
    let denied = Err(Error::PermissionDenied);
    let put_prev = pb::PutRequest {
        prev_kv: true,
        ..put("a")
    };
    let put_lease = |lease| pb::PutRequest { lease, ..put("a") };
    let delete_prev = pb::DeleteRangeRequest {
        prev_kv: true,
        ..delete("a")
    };
    let compare = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "a".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let check_put = |put: &pb::PutRequest| permissions.check_put(ann, put, &leases);
    let check_txn = |txn: &pb::TxnRequest| permissions.check_txn(ann, txn, &leases);

    assert_eq!(check_put(&put("a")), Ok(()));
    assert_eq!(check_put(&put("b")), denied);
    assert_eq!(
        check_put(&put_prev),
        denied,
        "the previous value needs READ"
    );
    assert_eq!(
        check_put(&put_lease(7)),
        denied,
        "the lease's other key needs WRITE"
    );
    assert_eq!(check_put(&put_lease(8)), Ok(()));
    assert_eq!(
        check_put(&put_lease(77)),
        Ok(()),
        "an unknown lease is somebody else's matter"
    );

    assert_eq!(permissions.check_delete_range(ann, &delete("a")), Ok(()));
    assert_eq!(permissions.check_delete_range(ann, &delete_prev), denied);
    assert_eq!(permissions.check_range(ann, &range("b", "")), Ok(()));
    assert_eq!(permissions.check_range(ann, &range("a", "")), denied);
    assert_eq!(permissions.check_range(ann, &range("b", "c")), denied);
    assert_eq!(permissions.check_range(ann, &range("b", "b\0")), Ok(()));

    assert_eq!(
        check_txn(&txn(vec![RequestOp::RequestPut(put("a"))])),
        Ok(())
    );
    assert_eq!(check_txn(&compare), denied);
    for op in [
        RequestOp::RequestPut(put_prev),
        RequestOp::RequestPut(put_lease(7)),
        RequestOp::RequestDeleteRange(delete_prev),
        RequestOp::RequestRange(range("a", "")),
        RequestOp::RequestTxn(compare),
        RequestOp::RequestTxn(txn(vec![RequestOp::RequestPut(put("x"))])),
    ] {
        let request = txn(vec![op]);
        assert_eq!(check_txn(&request), denied);
        let other_branch = pb::TxnRequest {
            failure: request.success,
            ..Default::default()
        };
        assert_eq!(check_txn(&other_branch), denied);
    }

    assert_eq!(permissions.check_lease_write(ann, 7, &leases), denied);
    assert_eq!(permissions.check_lease_write(ann, 8, &leases), Ok(()));
    assert_eq!(permissions.check_lease_read(ann, 8, &leases), denied);
    assert_eq!(permissions.check_lease_read(ann, 9, &leases), Ok(()));
    let old = caller("ann", 1);
    assert_eq!(
        permissions.check_lease_write(old, 8, &leases),
        Err(Error::AuthOldRevision)
    );
    let old_root = caller("root", 1);
    assert_eq!(permissions.check_lease_write(old_root, 7, &leases), Ok(()));
    assert_eq!(permissions.check_lease_read(old_root, 7, &leases), Ok(()));
}

/// Ranges without keys ask for their first key; the end `\0` is the end of all keys.
#[test]
fn watches_need_read_on_their_range() {
    let member = store();
    let permissions = member.view().permissions_owned();
    let ann = caller("ann", member.revision());
    for (key, end, allowed) in [
        ("b", "", true),
        ("b", "\0", false),
        ("b", "c", false),
        ("c", "b", false),
        ("b", "b", true),
        ("b", "a", true),
        ("", "", false),
    ] {
        let result = permissions.check_watch(ann, key.as_bytes(), end.as_bytes());
        assert_eq!(result.is_ok(), allowed, "{key} {end:?}");
    }
    let mut member = member;
    member.ok(grant("r", Type::Read, "\0", "\0"));
    let permissions = member.view().permissions_owned();
    let ann = caller("ann", member.revision());
    assert_eq!(permissions.check_watch(ann, b"", b"\0"), Ok(()));
}

/// Who one is and as of when comes before what one may do. Seen on etcd 3.7.3 with tokens signed for the purpose.
#[test]
fn users_and_revisions() {
    let mut member = store();
    let revision = member.revision();
    let permissions = member.view().permissions_owned();
    let everything = |who: Caller<'_>| {
        let put = permissions.check_put(who, &put("a"), &NO_LEASES);
        let range = permissions.check_range(who, &range("b", ""));
        let admin = permissions.is_admin(who);
        let empty_txn = permissions.check_txn(who, &pb::TxnRequest::default(), &NO_LEASES);
        let empty_lease = permissions.check_lease_write(who, 9, &leases);
        assert_eq!(put, range);
        assert_eq!(
            (empty_txn, empty_lease),
            (Ok(()), Ok(())),
            "nothing is asked for, so nobody"
        );
        (put, admin)
    };
    let denied = Err(Error::PermissionDenied);
    let old = Err(Error::AuthOldRevision);
    let empty = Err(Error::UserEmpty);
    let unknown = Err(Error::UserNotFound);
    for (who, keys, admin) in [
        (Caller::default(), empty.clone(), empty.clone()),
        (caller("ann", revision), Ok(()), denied.clone()),
        (caller("ann", revision + 5), Ok(()), denied.clone()),
        (caller("ann", revision - 1), old.clone(), denied.clone()),
        (caller("ann", 0), empty.clone(), denied.clone()),
        (caller("root", revision), Ok(()), Ok(())),
        (caller("root", revision - 1), old.clone(), Ok(())),
        (caller("ghost", revision), denied.clone(), unknown.clone()),
        (caller("ghost", 1), old, unknown),
        (caller("", revision), denied, empty),
    ] {
        assert_eq!(everything(who), (keys, admin), "{who:?}");
    }
    assert_eq!(permissions.is_identified(true), Ok(()));
    assert_eq!(permissions.is_identified(false), Err(Error::UserEmpty));
    member.ok(disable());
    let permissions = member.view().permissions_owned();
    let nobody = Caller::default();
    assert_eq!(permissions.is_range_permitted(nobody, b"a", b""), Ok(()));
    assert_eq!(permissions.is_admin(nobody), Ok(()));
    assert_eq!(permissions.is_identified(false), Ok(()));
}

/// What was compiled before a change is not touched by it, and what is compiled after has it.
#[test]
fn changes_reach_all_users_they_concern() {
    let mut member = store();
    member.ok(user_add("bob"));
    member.ok(grant_role("bob", "r"));
    member.ok(role_add("s"));
    let may_read = |permissions: &Permissions, user: &str, key: &[u8]| {
        permissions
            .is_range_permitted(caller(user, permissions.revision()), key, b"")
            .is_ok()
    };
    let before = member.view().permissions_owned();
    member.ok(grant("r", Type::Read, "c", ""));
    member.ok(grant("s", Type::Read, "d", ""));
    member.ok(grant_role("bob", "s"));
    let after = member.view().permissions_owned();
    for (user, key, was, is) in [
        ("ann", b"c", false, true),
        ("bob", b"c", false, true),
        ("ann", b"d", false, false),
        ("bob", b"d", false, true),
        ("ann", b"b", true, true),
    ] {
        assert_eq!(may_read(&before, user, key), was);
        assert_eq!(may_read(&after, user, key), is);
    }
    member.ok(role_delete("r"));
    member.ok(revoke("s", "d", ""));
    let now = member.view().permissions_owned();
    assert!(!may_read(&now, "bob", b"c") && !may_read(&now, "bob", b"d"));
    member.ok(user_delete("bob"));
    let bob = caller("bob", member.revision());
    let result = member.view().permissions().is_put_permitted(bob, b"a");
    assert_eq!(result, Err(Error::PermissionDenied));
}

/// Permissions that today's etcd refuses, but old databases hold.
#[test]
fn permissions_without_keys_grant_nothing() {
    let all = [("", "\0"), ("", ""), ("", "z"), ("z", "a"), ("m", "m")];
    let permissions = all.map(|(key, end)| permission(Type::Readwrite, key, end));
    let member = with_permissions(permissions.to_vec());
    let permissions = member.view().permissions_owned();
    let ann = caller("ann", member.revision());
    for (key, end) in [
        ("a", ""),
        ("m", ""),
        ("z", ""),
        ("a", "\0"),
        ("\0", "\0"),
        ("b", "c"),
    ] {
        assert!(
            permissions.check_range(ann, &range(key, end)).is_err(),
            "{key} {end}"
        );
    }
}

/// A store whose role `r` holds just these, as they are.
fn with_permissions(permissions: Vec<Permission>) -> Member {
    use api::authpb::Role;
    use prost::Message as _;
    let mut database = Member::enabled().database;
    let role = Role {
        name: "r".into(),
        key_permission: permissions,
    };
    let record: Bytes = role.encode_to_vec().into();
    auth::Records::put(&mut database, backend::Bucket::AuthRoles, b"r", record);
    Member::on(database, simple())
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', b'c', 0xFF]), 1..4)
}

fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![0]),
        6 => key(),
    ]
}

/// The end as a key, `None` for no end.
fn end_key(key: &[u8], range_end: &[u8]) -> Option<Vec<u8>> {
    match range_end {
        [] => Some([key, &[0]].concat()),
        [0] => None,
        end => Some(end.to_vec()),
    }
}

/// Walks from permission to permission until the end of the range is reached.
fn naive(permissions: &[Permission], kind: Type, key: &[u8], range_end: &[u8]) -> bool {
    let target = end_key(key, range_end).map(|end| end.max([key, &[0]].concat()));
    let mut at = key.to_vec();
    loop {
        let reach = permissions
            .iter()
            .filter(|one| [kind as i32, Type::Readwrite as i32].contains(&one.perm_type))
            .filter(|one| !one.key.is_empty() && one.key <= at)
            .map(|one| end_key(&one.key, &one.range_end))
            .filter(|end| end.as_ref().is_none_or(|end| *end > at))
            .max_by(|a, b| match (a, b) {
                (Some(a), Some(b)) => a.cmp(b),
                (a, b) => a.is_none().cmp(&b.is_none()),
            });
        match (reach, &target) {
            (None, _) => return false,
            (Some(None), _) => return true,
            (Some(Some(end)), Some(target)) if end >= *target => return true,
            (Some(Some(end)), _) => at = end,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_range_is_allowed_when_permissions_add_up_to_it(
        granted in prop::collection::vec((0..3_i32, key(), range_end()), 0..12),
        asked in prop::collection::vec((key(), range_end()), 1..20),
    ) {
        let granted: Vec<Permission> = granted
            .into_iter()
            .map(|(perm_type, key, end)| Permission {
                perm_type,
                key: key.into(),
                range_end: end.into(),
            })
            .collect();
        let member = with_permissions(granted.clone());
        let permissions = member.view().permissions_owned();
        let ann = caller("ann", member.revision());
        for (key, end) in asked {
            let read = permissions.is_range_permitted(ann, &key, &end).is_ok();
            prop_assert_eq!(read, naive(&granted, Type::Read, &key, &end), "read {:?} {:?}", key, end);
            let write = permissions.is_delete_range_permitted(ann, &key, &end).is_ok();
            prop_assert_eq!(write, naive(&granted, Type::Write, &key, &end), "write {:?} {:?}", key, end);
        }
    }

    /// After any operations, a store that starts on the records is like the one that wrote them.
    #[test]
    fn a_store_and_its_records_are_the_same(ops in prop::collection::vec(any_op(), 0..60)) {
        let mut member = Member::enabled();
        for op in ops {
            let _ = member.apply(op);
        }
        let mut again = Member::on(member.database.clone(), simple());
        prop_assert_eq!(&again.database, &member.database);
        for op in [status(), user_list(), role_list(), role_get("r"), user_get("u")] {
            prop_assert_eq!(again.apply(op.clone()), member.apply(op));
        }
        let (a, b) = (member.view().permissions_owned(), again.view().permissions_owned());
        for user in ["root", "ann", "u", "v"] {
            let who = caller(user, member.revision());
            for key in ["a", "b", "c"] {
                for end in ["", "\0", "b", "c"] {
                    let (key, end) = (key.as_bytes(), end.as_bytes());
                    prop_assert_eq!(
                        a.is_range_permitted(who, key, end),
                        b.is_range_permitted(who, key, end)
                    );
                }
            }
        }
    }
}

fn any_op() -> impl Strategy<Value = AuthOp> {
    let user = || prop::sample::select(vec!["root", "ann", "u", "v"]);
    let role = || prop::sample::select(vec!["root", "r", "s"]);
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let end = || prop::sample::select(vec!["", "\0", "b", "c"]);
    let kind = prop::sample::select(vec![Type::Read, Type::Write, Type::Readwrite]);
    prop_oneof![
        user().prop_map(|user| user_add_with(user, "")),
        user().prop_map(user_delete),
        (user(), role()).prop_map(|(user, role)| grant_role(user, role)),
        (user(), role()).prop_map(|(user, role)| grant_role(user, role)),
        (user(), role()).prop_map(|(user, role)| revoke_role(user, role)),
        role().prop_map(role_add),
        role().prop_map(role_delete),
        (role(), kind, key(), end()).prop_map(|(role, kind, key, end)| grant(role, kind, key, end)),
        (role(), key(), end()).prop_map(|(role, key, end)| revoke(role, key, end)),
        Just(enable()),
        Just(disable()),
    ]
}

/// The trait is what the apply thread's lessor looks like.
#[test]
fn lease_keys_can_be_any_iterator() {
    fn check(keys: &impl LeaseKeys) -> usize {
        let mut count = 0;
        keys.visit(1, &mut |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        count
    }
    let lessor: Result<Vec<Bytes>, ()> = Ok(vec!["a".into(), "b".into()]);
    assert_eq!(check(&|_| lessor.as_ref().into_iter().flatten()), 2);
}

//! What the users of entries may do: checked when an entry is applied, with the permissions of that moment.

mod support;

use api::Error;
use api::etcdserverpb as pb;
use apply::{Op, Response};
use auth::{AuthOp, AuthResponse};
use support::*;

/// An auth revision that no change makes old.
const RECENT: u64 = 1000;

fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.enable_auth();
    (dir, host)
}

#[test]
fn a_user_writes_its_own_range_only_and_nobody_writes_nothing() {
    let (_dir, mut host) = host();
    let mut run = |user: &str, revision, key: &str| {
        let result = host.run_as(user, revision, Op::Put(put(key, "1")));
        result.err()
    };
    assert_eq!(run("u", RECENT, "a"), None);
    assert_eq!(run("u", RECENT, "b"), Some(Error::PermissionDenied));
    assert_eq!(run("root", RECENT, "b"), None);
    assert_eq!(run("nobody", RECENT, "a"), Some(Error::PermissionDenied));
    assert_eq!(run("", 0, "a"), Some(Error::UserEmpty));
    assert_eq!(run("u", 1, "a"), Some(Error::AuthOldRevision));
    assert_eq!(run("root", 1, "a"), Some(Error::AuthOldRevision));
}

#[test]
fn every_kind_of_request_on_keys_is_checked() {
    let (_dir, mut host) = host();
    let txn = |key: &str| {
        success(vec![
            put_op("a", "1"),
            txn_op(success(vec![put_op(key, "2")])),
        ])
    };
    let mut denied = |op| host.run_as("u", RECENT, op).err() == Some(Error::PermissionDenied);
    assert!(denied(Op::DeleteRange(delete("a", "c"))));
    assert!(!denied(Op::DeleteRange(delete("a", "b"))));
    assert!(denied(Op::Range(range("b", "", 0))));
    assert!(!denied(Op::Range(range("a", "", 0))));
    assert!(denied(Op::Txn(txn("b"))));
    assert!(!denied(Op::Txn(txn("aa"))));
    assert_eq!(
        (host.value("b"), host.value("aa")),
        (None, Some("2".into()))
    );
    // A transaction that was refused has left nothing.
    host.run_as("u", RECENT, Op::DeleteRange(delete("a", "b")))
        .unwrap();
    host.run_as("u", RECENT, Op::Txn(txn("b"))).unwrap_err();
    assert_eq!(host.value("a"), None);
}

#[test]
fn a_lease_with_keys_of_others_is_neither_revoked_nor_used() {
    let (_dir, mut host) = host();
    host.grant(7);
    let with_lease = |key: &str| {
        Op::Put(pb::PutRequest {
            lease: 7,
            ..put(key, "1")
        })
    };
    let revoke = || Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 });
    host.run_as("u", RECENT, with_lease("a")).unwrap();
    host.run_as("root", RECENT, with_lease("z")).unwrap();
    for op in [with_lease("a"), revoke()] {
        let result = host.run_as("u", RECENT, op);
        assert_eq!(result.err(), Some(Error::PermissionDenied));
    }
    // Root revokes with whatever revision: the member itself does so when a lease ends.
    host.run_as("root", 1, revoke()).unwrap();
    assert_eq!((host.value("a"), host.value("z")), (None, None));
}

#[test]
fn users_and_roles_are_changed_by_root_only_and_survive_a_restart() {
    let (dir, mut host) = host();
    let role = |name: &str| {
        Op::Auth(AuthOp::RoleAdd(pb::AuthRoleAddRequest {
            name: name.into(),
        }))
    };
    let refused = host.run_as("u", RECENT, role("x"));
    assert_eq!(refused.err(), Some(Error::PermissionDenied));
    host.run_as("root", RECENT, role("x")).unwrap();
    let revision = host.auth.revision();
    host.backend.close().unwrap();
    drop(host);
    let mut host = Host::open(dir.path(), -1);
    assert!(host.auth.enabled());
    assert_eq!(host.auth.revision(), revision);
    host.index = 100;
    let list = Op::Auth(AuthOp::RoleList(pb::AuthRoleListRequest {}));
    match host.run_as("root", RECENT, list) {
        Ok(Response::Auth(AuthResponse::RoleList(list))) => assert_eq!(list.roles, ["r", "x"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_names_the_entry_before_its_own_and_reads_are_left_out_where_nobody_waits() {
    let (_dir, mut host) = host();
    let password = AuthOp::UserAdd(pb::AuthUserAddRequest {
        name: "p".into(),
        hashed_password: "aGFzaA==".into(),
        ..Default::default()
    });
    host.run_as("root", RECENT, Op::Auth(password)).unwrap();
    let before = host.index;
    let login = AuthOp::Authenticate(pb::InternalAuthenticateRequest {
        name: "p".into(),
        simple_token: "abcdefghijklmnop".into(),
        ..Default::default()
    });
    match host.run(Op::Auth(login)) {
        Ok(Response::Auth(AuthResponse::Authenticate(login))) => {
            assert_eq!(login.token, format!("abcdefghijklmnop.{before}"));
        }
        other => panic!("{other:?}"),
    }
    let at = host.next();
    let status = Op::Auth(AuthOp::Status(pb::AuthStatusRequest {}));
    let applied = host.try_apply(at, status, false).unwrap();
    assert!(matches!(applied.result, Some(Ok(Response::Done))));
    assert_eq!(host.machine.position(), at);
}

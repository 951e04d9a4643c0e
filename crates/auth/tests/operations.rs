//! What each operation checks, changes, stores and answers.

mod support;

use api::Error;
use api::authpb::{Permission, Role, User, UserAddOptions, permission::Type};
use api::etcdserverpb as pb;
use auth::{AuthOp, AuthResponse, Caller, RecoverError};
use backend::Bucket;
use prost::Message as _;
use support::*;

/// An operation and what it must come to; `Ok(n)`: the auth revision grows by `n`.
type Case = (AuthOp, Result<u64, Error>);

fn play(member: &mut Member, cases: Vec<Case>) {
    for (op, expected) in cases {
        let text = format!("{op:?}");
        let (before, records) = (member.revision(), member.database.clone());
        let result = member.apply(op);
        match expected {
            Ok(bump) => {
                assert!(result.is_ok(), "{text}: {result:?}");
                assert_eq!(member.revision(), before + bump, "{text}");
            }
            Err(error) => {
                assert_eq!(result, Err(error), "{text}");
                assert_eq!(member.revision(), before, "{text}");
                assert_eq!(
                    member.database, records,
                    "{text}: a refused operation wrote something"
                );
            }
        }
        let stored = member
            .database
            .record(Bucket::Auth, "authRevision")
            .unwrap();
        assert_eq!(stored, member.revision().to_be_bytes(), "{text}");
    }
}

fn no_password_user(name: &str) -> AuthOp {
    AuthOp::UserAdd(pb::AuthUserAddRequest {
        name: name.into(),
        options: Some(UserAddOptions { no_password: true }),
        hashed_password: "!!!".into(),
        password: "abc".into(),
    })
}

fn grant_nothing(role: &str) -> AuthOp {
    AuthOp::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: None,
    })
}

#[test]
fn a_new_database_has_revision_one_and_no_word_of_being_enabled() {
    let member = Member::default();
    assert_eq!(member.revision(), 1);
    let all: Vec<_> = member.database.0.iter().collect();
    let key = (Bucket::Auth, b"authRevision".to_vec());
    assert_eq!(
        all,
        [(&key, &bytes::Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1]))]
    );
}

#[test]
fn users_and_roles() {
    let mut member = Member::default();
    play(
        &mut member,
        vec![
            (user_add(""), Err(Error::UserEmpty)),
            (user_add("ann"), Ok(1)),
            (user_add("ann"), Err(Error::UserAlreadyExist)),
            (user_add(&"n".repeat(32768)), Ok(1)),
            (user_add(&"n".repeat(32769)), Err(Error::InvalidAuthMgmt)),
            (user_delete(&"n".repeat(32768)), Ok(1)),
            (no_password_user("bob"), Ok(1)),
            (
                change_password("ghost", "!!!".into()),
                Err(Error::UserNotFound),
            ),
            (
                change_password("ann", "!!!".into()),
                Err(Error::NoPasswordUser),
            ),
            (change_password("ann", hashed("pw2")), Ok(1)),
            (change_password("bob", "!!!".into()), Ok(1)),
            (grant_role("ghost", "none"), Err(Error::UserNotFound)),
            (grant_role("ann", "none"), Err(Error::RoleNotFound)),
            (grant_role("ann", "root"), Ok(1)),
            (grant_role("ann", "root"), Ok(0)),
            (role_add(""), Err(Error::RoleEmpty)),
            (role_add("r"), Ok(1)),
            (role_add("r"), Err(Error::RoleAlreadyExist)),
            (role_add(&"n".repeat(32769)), Err(Error::InvalidAuthMgmt)),
            (role_add("a"), Ok(1)),
            (grant_role("ann", "r"), Ok(1)),
            (grant_role("ann", "a"), Ok(1)),
            (grant_role("bob", "r"), Ok(1)),
            (user_get("ann"), Ok(0)),
            (user_get("ghost"), Err(Error::UserNotFound)),
            (revoke_role("ghost", "r"), Err(Error::UserNotFound)),
            (revoke_role("ann", "none"), Err(Error::RoleNotGranted)),
            (revoke_role("ann", "root"), Ok(1)),
            (role_get("ghost"), Err(Error::RoleNotFound)),
            (role_get("root"), Err(Error::RoleNotFound)),
            (role_delete("ghost"), Err(Error::RoleNotFound)),
        ],
    );
    let roles = |member: &mut Member, user: &str| match member.ok(user_get(user)) {
        AuthResponse::UserGet(response) => response.roles,
        other => panic!("{other:?}"),
    };
    assert_eq!(roles(&mut member, "ann"), ["a", "r"]);
    // One step for all users that have the role.
    play(
        &mut member,
        vec![
            (role_delete("r"), Ok(1)),
            (user_delete("ghost"), Err(Error::UserNotFound)),
        ],
    );
    assert_eq!(roles(&mut member, "ann"), ["a"]);
    assert!(roles(&mut member, "bob").is_empty());
    assert_eq!(
        member.ok(user_list()),
        AuthResponse::UserList(pb::AuthUserListResponse {
            header: None,
            users: vec!["ann".into(), "bob".into()]
        })
    );
    assert_eq!(
        member.ok(role_list()),
        AuthResponse::RoleList(pb::AuthRoleListResponse {
            header: None,
            roles: vec!["a".into()]
        })
    );
}

#[test]
fn enabling_needs_root_with_its_role_and_leaves_the_revision() {
    let mut member = Member::default();
    play(
        &mut member,
        vec![
            (disable(), Ok(0)),
            (enable(), Err(Error::RootUserNotExist)),
            (user_add("root"), Ok(1)),
            (enable(), Err(Error::RootRoleNotExist)),
            (grant_role("root", "root"), Ok(1)),
            (enable(), Ok(0)),
            (enable(), Ok(0)),
        ],
    );
    assert_eq!(
        member.database.record(Bucket::Auth, "authEnabled"),
        Some(&[1][..])
    );
    assert!(member.view().enabled());
    play(&mut member, vec![(disable(), Ok(1)), (disable(), Ok(0))]);
    assert_eq!(
        member.database.record(Bucket::Auth, "authEnabled"),
        Some(&[0][..])
    );
    assert!(!member.view().enabled());
}

#[test]
fn root_cannot_be_harmed_while_auth_is_on() {
    let mut member = Member::enabled();
    play(
        &mut member,
        vec![
            (user_delete("root"), Err(Error::InvalidAuthMgmt)),
            (revoke_role("root", "root"), Err(Error::InvalidAuthMgmt)),
            (role_delete("root"), Err(Error::InvalidAuthMgmt)),
            (revoke_role("ann", "root"), Err(Error::RoleNotGranted)),
            (revoke_role("ghost", "root"), Err(Error::UserNotFound)),
            (disable(), Ok(1)),
            (role_delete("root"), Ok(1)),
            (user_delete("root"), Ok(1)),
        ],
    );
}

#[test]
fn permissions_of_a_role() {
    let mut member = Member::default();
    let bad = Err(Error::InvalidAuthMgmt);
    play(
        &mut member,
        vec![
            (grant_nothing("none"), Err(Error::PermissionNotGiven)),
            (grant("none", Type::Read, "", ""), bad.clone()),
            (grant("none", Type::Read, "b", "a"), bad.clone()),
            (grant("none", Type::Read, "b", "b"), bad.clone()),
            (grant("none", Type::Read, "b", "\0\0"), bad),
            (
                grant("none", Type::Read, "b", "\0"),
                Err(Error::RoleNotFound),
            ),
            (role_add("r"), Ok(1)),
            (grant("r", Type::Read, "b", ""), Ok(1)),
            (grant("r", Type::Read, "b", ""), Ok(1)),
            (grant("r", Type::Readwrite, "a", "\0"), Ok(1)),
            (grant("r", Type::Write, "b", ""), Ok(1)),
            (revoke("none", "a", ""), Err(Error::RoleNotFound)),
            (revoke("r", "a", ""), Err(Error::PermissionNotGranted)),
            (revoke("r", "", "\0"), Err(Error::PermissionNotGranted)),
        ],
    );
    let stored = |member: &Member| {
        let record = member.database.record(Bucket::AuthRoles, "r").unwrap();
        Role::decode(record).unwrap().key_permission
    };
    assert_eq!(
        stored(&member),
        [
            permission(Type::Readwrite, "a", "\0"),
            permission(Type::Write, "b", "")
        ]
    );
    // Only the first of a key is found again: a second grant for [b, d) is added beside the first.
    for end in ["c", "d", "d"] {
        member.ok(grant("r", Type::Read, "b", end));
    }
    let ends: Vec<_> = stored(&member)
        .into_iter()
        .map(|one| one.range_end)
        .collect();
    assert_eq!(ends, ["\0", "", "c", "d", "d"]);
    play(&mut member, vec![(revoke("r", "b", "d"), Ok(1))]);
    assert_eq!(stored(&member).len(), 3);
}

/// Kinds of access a newer release may know are kept, and grant nothing here.
#[test]
fn unknown_kinds_of_permission_are_stored_and_grant_nothing() {
    let mut member = Member::enabled();
    let strange = Permission {
        perm_type: 7,
        ..permission(Type::Read, "q", "")
    };
    member.ok(AuthOp::RoleGrantPermission(
        pb::AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(strange.clone()),
        },
    ));
    let AuthResponse::RoleGet(response) = member.ok(role_get("r")) else {
        panic!()
    };
    assert_eq!(response.perm, [strange]);
    let permissions = member.view().permissions_owned();
    let ann = caller("ann", member.revision());
    assert!(permissions.is_range_permitted(ann, b"q", b"").is_err());
    assert!(permissions.is_put_permitted(ann, b"q").is_err());
}

/// The bytes are those Go writes: empty options are there, zero fields are not.
#[test]
fn records_are_gos_to_the_byte() {
    let mut member = Member::default();
    member.ok(user_add_with("u", "pw"));
    let mut expected = b"\x0a\x01u\x12\x3c".to_vec();
    expected.extend(auth::hash("pw", cheap(), [3; 16]).unwrap().bytes());
    expected.extend(b"\x22\x00");
    assert_eq!(
        member.database.record(Bucket::AuthUsers, "u").unwrap(),
        expected
    );
    member.ok(no_password_user("n"));
    member.ok(grant_role("n", "root"));
    assert_eq!(
        member.database.record(Bucket::AuthUsers, "n").unwrap(),
        b"\x0a\x01n\x1a\x04root\x22\x02\x08\x01"
    );
    member.ok(role_add("r"));
    assert_eq!(
        member.database.record(Bucket::AuthRoles, "r").unwrap(),
        b"\x0a\x01r"
    );
    member.ok(grant("r", Type::Read, "k", ""));
    member.ok(grant("r", Type::Readwrite, "l", "\0"));
    assert_eq!(
        member.database.record(Bucket::AuthRoles, "r").unwrap(),
        b"\x0a\x01r\x12\x03\x12\x01k\x12\x08\x08\x02\x12\x01l\x1a\x01\0"
    );
}

/// Users of releases before 3.4 have no options; they get none by being changed.
#[test]
fn records_without_options_stay_without() {
    let mut database = Database::default();
    let old = User {
        name: "old".into(),
        password: "x".into(),
        ..Default::default()
    };
    auth::Records::put(
        &mut database,
        Bucket::AuthUsers,
        b"old",
        old.encode_to_vec().into(),
    );
    let mut member = Member::on(database, simple());
    member.ok(grant_role("old", "root"));
    let record = User::decode(member.database.record(Bucket::AuthUsers, "old").unwrap()).unwrap();
    assert_eq!(
        record,
        User {
            roles: vec!["root".into()],
            ..old
        }
    );
}

#[test]
fn passwords() {
    let mut member = Member::enabled();
    member.ok(no_password_user("np"));
    member.ok(user_add_with("empty", ""));
    let check = |member: &Member, user: &str, password: &str| {
        let check = member.view().permissions().login(user)?;
        assert_eq!(check.revision, member.revision());
        if auth::verify(password, &check.hash) {
            Ok(())
        } else {
            Err(Error::AuthFailed)
        }
    };
    assert_eq!(check(&member, "ann", "pw"), Ok(()));
    assert_eq!(check(&member, "ann", ""), Err(Error::AuthFailed));
    assert_eq!(check(&member, "ghost", "pw"), Err(Error::AuthFailed));
    assert_eq!(check(&member, "np", "pw"), Err(Error::NoPasswordUser));
    assert_eq!(check(&member, "empty", ""), Ok(()));
    // Changed to nothing: no password fits, not even the empty one.
    member.ok(change_password("empty", String::new()));
    assert_eq!(check(&member, "empty", ""), Err(Error::AuthFailed));
    member.ok(disable());
    assert_eq!(check(&member, "ann", "pw"), Err(Error::AuthNotEnabled));
}

/// Members of before 3.5 proposed passwords in plain.
#[test]
fn plain_passwords_of_old_entries_are_hashed_the_same_everywhere() {
    let op = || {
        AuthOp::UserAdd(pb::AuthUserAddRequest {
            name: "u".into(),
            password: "secret".into(),
            ..Default::default()
        })
    };
    let mut members = [Member::default(), Member::default()];
    for member in &mut members {
        member.ok(op());
    }
    assert_eq!(members[0].database, members[1].database);
    let record = User::decode(members[0].database.record(Bucket::AuthUsers, "u").unwrap()).unwrap();
    assert!(auth::verify("secret", &record.password));
    members[0].ok(user_delete("u"));
    members[0].ok(op());
    let again = User::decode(members[0].database.record(Bucket::AuthUsers, "u").unwrap()).unwrap();
    assert_ne!(
        record.password, again.password,
        "another entry, another salt"
    );
}

#[test]
fn who_may_ask_for_what() {
    let mut member = Member::enabled();
    let old = caller("root", 1);
    let (ann, ghost, nobody) = (caller("ann", 1), caller("ghost", 99), Caller::default());
    let for_root = || {
        vec![
            enable(),
            disable(),
            user_add("x"),
            user_delete("x"),
            change_password("x", String::new()),
            grant_role("ann", "r"),
            revoke_role("x", "x"),
            role_add("x"),
            role_delete("x"),
            grant_nothing("x"),
            revoke("x", "x", ""),
            user_list(),
            role_list(),
        ]
    };
    for (who, error) in [
        (ann, Error::PermissionDenied),
        (ghost, Error::UserNotFound),
        (nobody, Error::UserEmpty),
    ] {
        for op in for_root() {
            assert_eq!(member.apply_as(who, op), Err(error.clone()));
        }
    }
    // Root is not asked for the revision.
    member.apply_as(old, user_add("x")).unwrap();
    // Everybody may see themselves and their roles.
    assert!(member.apply_as(ann, user_get("ann")).is_ok());
    assert!(member.apply_as(ann, role_get("r")).is_ok());
    assert_eq!(
        member.apply_as(ann, user_get("root")),
        Err(Error::PermissionDenied)
    );
    assert_eq!(
        member.apply_as(ann, user_get("none")),
        Err(Error::PermissionDenied)
    );
    assert_eq!(
        member.apply_as(ann, role_get("root")),
        Err(Error::PermissionDenied)
    );
    assert_eq!(
        member.apply_as(ann, role_get("none")),
        Err(Error::PermissionDenied)
    );
    assert_eq!(
        member.apply_as(ghost, user_get("ghost")),
        Err(Error::UserNotFound)
    );
    assert_eq!(
        member.apply_as(nobody, user_get("ann")),
        Err(Error::UserEmpty)
    );
    assert_eq!(
        member.apply_as(nobody, role_get("r")),
        Err(Error::UserEmpty)
    );
    let AuthResponse::RoleGet(root) = member.ok(role_get("root")) else {
        panic!()
    };
    assert_eq!(root.perm, [permission(Type::Readwrite, "", "\0")]);
    // And anybody may ask for the status.
    let AuthResponse::Status(status) = member.apply_as(nobody, status()).unwrap() else {
        panic!()
    };
    assert!(status.enabled);
    assert_eq!(status.auth_revision, member.revision());
}

#[test]
fn logins() {
    let mut member = Member::enabled();
    member.ok(no_password_user("np"));
    member.index = 122;
    let AuthResponse::Authenticate(login_of_ann) = member.ok(login("ann", "abc")) else {
        panic!()
    };
    // The entry is 123; etcd's tokens carry the one before.
    assert_eq!(login_of_ann.token, "abc.122");
    assert_eq!(login_of_ann.revision, member.revision());
    assert_eq!(member.apply(login("np", "abc")), Err(Error::AuthFailed));
    assert_eq!(member.apply(login("ghost", "abc")), Err(Error::AuthFailed));
    member.ok(disable());
    assert_eq!(
        member.apply(login("ann", "abc")),
        Err(Error::AuthNotEnabled)
    );
}

#[test]
fn what_the_database_holds_comes_back() {
    let mut member = Member::enabled();
    member.ok(grant("r", Type::Readwrite, "k", "m"));
    let before = (
        member.revision(),
        member.ok(user_list()),
        member.ok(role_get("r")),
    );
    let mut again = Member::on(member.database.clone(), simple());
    assert_eq!(
        (
            again.revision(),
            again.ok(user_list()),
            again.ok(role_get("r"))
        ),
        before
    );
    assert_eq!(again.database, member.database);
    assert!(again.view().enabled());
    let ann = caller("ann", again.revision());
    assert_eq!(
        again.view().permissions().is_put_permitted(ann, b"l"),
        Ok(())
    );
}

#[test]
fn a_database_with_broken_records_is_refused_and_the_old_state_kept() {
    let good = Member::enabled();
    let user = (Bucket::AuthUsers, b"ann".to_vec());
    for (key, value) in [
        (user.clone(), &b"\xff"[..]),
        (user.clone(), b""),
        (user, b"\x0a\x03bob"),
        ((Bucket::AuthRoles, b"r".to_vec()), b"\x0a"),
        ((Bucket::Auth, b"authRevision".to_vec()), b"123"),
    ] {
        let mut database = good.database.clone();
        database.0.insert(key, bytes::Bytes::copy_from_slice(value));
        let mut member = Member::enabled();
        let before = member.revision();
        assert!(matches!(
            member.store.recover(&database),
            Err(RecoverError::Corrupt { .. })
        ));
        assert_eq!(member.revision(), before);
        assert!(member.view().enabled());
        assert!(member.apply(user_get("ann")).is_ok());
    }
}

#[test]
fn a_snapshot_ends_tokens_of_users_it_changes() {
    let mut member = Member::enabled();
    member.ok(user_add("bob"));
    member.ok(user_add("eve"));
    let tokens = ["ann", "bob", "eve"].map(|user| match member.ok(login(user, user)) {
        AuthResponse::Authenticate(login) => login.token,
        other => panic!("{other:?}"),
    });
    let mut newer = Member::on(member.database.clone(), simple());
    newer.ok(change_password("bob", hashed("other")));
    newer.ok(user_delete("eve"));
    member.store.recover(&newer.database).unwrap();
    assert_eq!(member.revision(), newer.revision());
    let good = tokens.each_ref().map(|token| {
        let who = auth::Credentials::Token(token);
        member.view().identify(&who, 1000, &At::default()).is_ok()
    });
    assert_eq!(good, [true, false, false]);
    newer.ok(disable());
    member.store.recover(&newer.database).unwrap();
    newer.ok(enable());
    member.store.recover(&newer.database).unwrap();
    let who = auth::Credentials::Token(&tokens[0]);
    assert_eq!(
        member.view().identify(&who, 1000, &At::default()),
        Err(Error::InvalidAuthToken)
    );
}

/// Each operation is found in, and written into, its field of the log entry.
#[test]
fn operations_travel_in_log_entries() {
    let all = [
        enable(),
        disable(),
        status(),
        login("a", "b"),
        user_add("a"),
        user_delete("a"),
        user_get("a"),
        change_password("a", "h".into()),
        grant_role("a", "b"),
        revoke_role("a", "b"),
        user_list(),
        role_list(),
        role_add("a"),
        role_delete("a"),
        role_get("a"),
        grant("a", Type::Write, "k", "l"),
        revoke("a", "k", "l"),
    ];
    for op in all {
        let mut bytes = Vec::new();
        op.encode_field(&mut bytes);
        assert_eq!(bytes.len(), op.field_len());
        let mut request = pb::InternalRaftRequest::decode(&bytes[..]).unwrap();
        assert_eq!(request.encode_to_vec(), bytes);
        assert_eq!(AuthOp::take(&mut request), Some(op));
        assert_eq!(request, pb::InternalRaftRequest::default());
        assert_eq!(AuthOp::take(&mut request), None);
    }
}

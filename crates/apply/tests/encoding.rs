//! How requests look in the log (docs/apply.md): byte for byte what other members write and read.

mod support;

use api::etcdserverpb as pb;
use api::membershippb as mpb;
use apply::{DecodeError, Op, Request, encode};
use auth::AuthOp;
use bytes::Bytes;
use prost::Message;
use support::*;

fn message(id: u64) -> pb::InternalRaftRequest {
    pb::InternalRaftRequest {
        header: Some(pb::RequestHeader {
            id,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Every operation, and the same as the generated message.
fn all(id: u64) -> Vec<(Op, pb::InternalRaftRequest)> {
    let txn = success(vec![
        put_op("a", "1"),
        range_op("a", "b", -1),
        delete_op("c", "\0"),
    ]);
    let attributes = mpb::ClusterMemberAttrSetRequest {
        member_id: u64::MAX,
        member_attributes: Some(mpb::Attributes {
            name: "m1".into(),
            client_urls: vec!["http://c:1".into()],
        }),
    };
    let downgrade = mpb::DowngradeInfoSetRequest {
        enabled: true,
        ver: "3.6.0".into(),
    };
    let checkpoint = pb::LeaseCheckpointRequest {
        checkpoints: vec![pb::LeaseCheckpoint {
            id: -3,
            remaining_ttl: 9,
        }],
    };
    macro_rules! pair {
        ($op:ident, $field:ident, $value:expr) => {{
            let value = $value;
            let mut raw = message(id);
            raw.$field = Some(value.clone());
            (Op::$op(value), raw)
        }};
    }
    macro_rules! auth {
        ($op:ident, $field:ident, $value:expr) => {{
            let (value, mut raw) = ($value, message(id));
            raw.$field = Some(value.clone());
            (Op::Auth(AuthOp::$op(value)), raw)
        }};
    }
    vec![
        pair!(Range, range, range("a", "\0", 7)),
        pair!(Put, put, put("key", "value")),
        pair!(Put, put, pb::PutRequest::default()),
        pair!(DeleteRange, delete_range, delete("a", "b")),
        pair!(Txn, txn, txn),
        pair!(
            Compaction,
            compaction,
            pb::CompactionRequest {
                revision: 5,
                physical: true
            }
        ),
        pair!(
            LeaseGrant,
            lease_grant,
            pb::LeaseGrantRequest { id: -1, ttl: 60 }
        ),
        pair!(LeaseRevoke, lease_revoke, pb::LeaseRevokeRequest { id: 7 }),
        pair!(LeaseCheckpoint, lease_checkpoint, checkpoint),
        pair!(
            Alarm,
            alarm,
            pb::AlarmRequest {
                action: 1,
                member_id: 2,
                alarm: 1
            }
        ),
        pair!(
            ClusterVersionSet,
            cluster_version_set,
            mpb::ClusterVersionSetRequest {
                ver: "3.7.0".into()
            }
        ),
        pair!(ClusterMemberAttrSet, cluster_member_attr_set, attributes),
        pair!(DowngradeInfoSet, downgrade_info_set, downgrade),
        auth!(Enable, auth_enable, pb::AuthEnableRequest {}),
        auth!(
            UserAdd,
            auth_user_add,
            pb::AuthUserAddRequest {
                name: "u".into(),
                hashed_password: "aGFzaA==".into(),
                ..Default::default()
            }
        ),
        auth!(
            Authenticate,
            authenticate,
            pb::InternalAuthenticateRequest {
                name: "u".into(),
                simple_token: "abc".into(),
                ..Default::default()
            }
        ),
        auth!(RoleList, auth_role_list, pb::AuthRoleListRequest {}),
    ]
}

#[test]
fn a_request_is_encoded_as_the_message_it_stands_for_and_decoded_back() {
    for id in [1, 0x7f, u64::MAX] {
        for (op, raw) in all(id) {
            for (user, revision) in [("", 0), ("u", 7)] {
                let request = request_of(id, user, revision, op.clone());
                let mut raw = raw.clone();
                let header = raw.header.as_mut().unwrap();
                (header.username, header.auth_revision) = (user.into(), revision);
                let data = encode(&request);
                assert_eq!(data, raw.encode_to_vec(), "{op:?}");
                assert_eq!(api::raft_request_id(&data), Some(id));
                assert_eq!(Request::decode(&data).unwrap(), request);
            }
        }
    }
}

#[test]
fn the_bytes_are_those_seen_in_real_logs() {
    let version = Op::ClusterVersionSet(mpb::ClusterVersionSetRequest {
        ver: "3.7.0".into(),
    });
    assert_eq!(
        &encode(&request_of(1, "", 0, version))[..],
        b"\xa2\x06\x02\x08\x01\xa2\x51\x07\x0a\x053.7.0"
    );
    let downgrade = Op::DowngradeInfoSet(mpb::DowngradeInfoSetRequest {
        enabled: true,
        ver: "3.6.0".into(),
    });
    assert_eq!(
        &encode(&request_of(1, "", 0, downgrade))[..],
        b"\xa2\x06\x02\x08\x01\xb2\x51\x09\x08\x01\x12\x053.6.0"
    );
    // Fields come in the order of their numbers: a put before the header.
    assert_eq!(
        &encode(&request_of(1, "", 0, Op::Put(put("k", "v"))))[..],
        b"\x22\x06\x0a\x01k\x12\x01v\xa2\x06\x02\x08\x01"
    );
}

#[test]
fn the_id_of_old_members_and_the_user_are_read_and_the_first_known_field_counts() {
    let mut raw = message(5);
    raw.id = 4;
    raw.put = Some(put("a", "1"));
    raw.range = Some(range("a", "", 0));
    raw.header = Some(pb::RequestHeader {
        id: 5,
        username: "u".into(),
        auth_revision: 3,
    });
    let request = Request::decode(&raw.encode_to_vec().into()).unwrap();
    assert_eq!(
        (request.id, request.username.as_str(), request.auth_revision),
        (4, "u", 3)
    );
    assert!(matches!(request.op, Op::Range(_)));
}

#[test]
fn what_is_no_request_is_an_error_and_never_a_panic() {
    let unknown = Request::decode(&message(1).encode_to_vec().into());
    assert!(matches!(unknown, Err(DecodeError::UnknownOperation)));
    for junk in [&b"\xff"[..], b"\x22\xff", b"\x0a", b"\x22\x05\x0a\x09abc"] {
        assert!(
            Request::decode(&Bytes::from_static(junk)).is_err(),
            "{junk:?}"
        );
    }
}

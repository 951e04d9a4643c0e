//! Members given the same log hold the same data, whoever waits for answers, however full their disks are and
//! whenever they were restarted.

mod support;

use api::etcdserverpb as pb;
use api::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use api::raftpb::ConfChange;
use apply::{Op, Request, encode};
use auth::AuthOp;
use backend::Position;
use bytes::Bytes;
use cluster::Change;
use pb::request_op::Request as RequestOp;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use support::*;

#[derive(Clone, Debug)]
enum Entry {
    Empty,
    /// User, auth revision, operation.
    Request(&'static str, u64, Op),
    Legacy(Bytes),
    Change(Change),
}

fn key() -> impl Strategy<Value = Bytes> {
    select(vec!["a", "ab", "b", "c", "\u{ff}"]).prop_map(bytes)
}

fn end() -> impl Strategy<Value = Bytes> {
    select(vec!["", "", "b", "c", "\0"]).prop_map(bytes)
}

fn lease() -> impl Strategy<Value = i64> {
    select(vec![0, 0, 1, 2, -3])
}

fn put_request() -> impl Strategy<Value = pb::PutRequest> {
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    (key(), "[a-z]{0,3}", lease(), flags).prop_map(|(key, value, lease, flags)| pb::PutRequest {
        key,
        value: value.into(),
        lease,
        prev_kv: flags.0,
        ignore_value: flags.1,
        ignore_lease: flags.2,
    })
}

fn delete_request() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range_request() -> impl Strategy<Value = pb::RangeRequest> {
    (key(), end(), -6_i64..12, 0_i64..3).prop_map(|(key, range_end, revision, limit)| {
        pb::RangeRequest {
            key,
            range_end,
            revision: if revision < -2 { 0 } else { revision },
            limit,
            ..Default::default()
        }
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    use pb::compare::TargetUnion;
    let union = prop_oneof![
        (0_i64..3).prop_map(TargetUnion::Version),
        (0_i64..9).prop_map(TargetUnion::ModRevision),
        (0_i64..9).prop_map(TargetUnion::CreateRevision),
        "[a-z]?".prop_map(|text| TargetUnion::Value(text.into())),
        lease().prop_map(TargetUnion::Lease),
    ];
    (key(), end(), 0..5_i32, 0..6_i32, prop::option::of(union)).prop_map(
        |(key, range_end, result, target, target_union)| pb::Compare {
            key,
            range_end,
            result,
            target,
            target_union,
        },
    )
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let simple = || {
        prop_oneof![
            put_request().prop_map(RequestOp::RequestPut),
            delete_request().prop_map(RequestOp::RequestDeleteRange),
            range_request().prop_map(RequestOp::RequestRange),
        ]
    };
    let leaf = (
        prop::collection::vec(compare(), 0..2),
        prop::collection::vec(simple().prop_map(op), 0..4),
        prop::collection::vec(simple().prop_map(op), 0..3),
    )
        .prop_map(|(compare, success, failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        });
    leaf.prop_recursive(3, 16, 4, move |inner| {
        let any_op = || {
            prop_oneof![
                3 => simple(),
                1 => inner.clone().prop_map(RequestOp::RequestTxn),
            ]
        };
        (
            prop::collection::vec(compare(), 0..2),
            prop::collection::vec(any_op().prop_map(op), 0..4),
            prop::collection::vec(any_op().prop_map(op), 0..4),
        )
            .prop_map(|(compare, success, failure)| pb::TxnRequest {
                compare,
                success,
                failure,
            })
    })
}

fn cluster_op() -> impl Strategy<Value = Op> {
    let attributes = "[a-z]{0,3}".prop_map(|name| {
        Op::ClusterMemberAttrSet(ClusterMemberAttrSetRequest {
            member_id: LOCAL,
            member_attributes: Some(Attributes {
                name,
                client_urls: vec!["http://c:1".into()],
            }),
        })
    });
    let version = select(vec!["3.5.0", "3.6.0", "3.7.0"]);
    let version =
        version.prop_map(|ver| Op::ClusterVersionSet(ClusterVersionSetRequest { ver: ver.into() }));
    let downgrade = any::<bool>().prop_map(|enabled| {
        Op::DowngradeInfoSet(DowngradeInfoSetRequest {
            enabled,
            ver: "3.6.0".into(),
        })
    });
    prop_oneof![attributes, version, downgrade]
}

/// Who proposes, and since when that is known; from far in the future is always recent enough.
fn caller() -> impl Strategy<Value = (&'static str, u64)> {
    let user = select(vec!["root", "root", "root", "u", "u", "nobody", ""]);
    let revision = prop_oneof![3 => Just(1000_u64), 1 => 0_u64..12];
    (user, revision).prop_map(|(user, revision)| (user, if user.is_empty() { 0 } else { revision }))
}

fn auth_op() -> impl Strategy<Value = AuthOp> {
    let user = || select(vec!["root", "u", "u", "v", ""]).prop_map(str::to_owned);
    let role = || select(vec!["root", "r", "r", "s", ""]).prop_map(str::to_owned);
    let permission = || {
        (0_i32..3, key(), end()).prop_map(|(perm_type, key, range_end)| api::authpb::Permission {
            perm_type,
            key,
            range_end,
        })
    };
    let add = (user(), any::<bool>(), select(vec!["aGFzaA==", "eA==", "?"])).prop_map(
        |(name, no_password, hash)| {
            AuthOp::UserAdd(pb::AuthUserAddRequest {
                name,
                hashed_password: hash.into(),
                options: Some(api::authpb::UserAddOptions { no_password }),
                ..Default::default()
            })
        },
    );
    let grant_role = (user(), role()).prop_map(|(user, role)| {
        AuthOp::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role })
    });
    let revoke_role = (user(), role()).prop_map(|(name, role)| {
        AuthOp::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name, role })
    });
    let change = user().prop_map(|name| {
        AuthOp::UserChangePassword(pb::AuthUserChangePasswordRequest {
            name,
            hashed_password: "bmV3".into(),
            ..Default::default()
        })
    });
    let grant = (role(), permission()).prop_map(|(name, perm)| {
        let perm = Some(perm);
        AuthOp::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name, perm })
    });
    let revoke = (role(), key(), end()).prop_map(|(role, key, range_end)| {
        AuthOp::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
            role,
            key,
            range_end,
        })
    });
    let login = user().prop_map(|name| {
        AuthOp::Authenticate(pb::InternalAuthenticateRequest {
            name,
            simple_token: "abcdefghijklmnop".into(),
            ..Default::default()
        })
    });
    prop_oneof![
        4 => add,
        1 => user().prop_map(|name| AuthOp::UserDelete(pb::AuthUserDeleteRequest { name })),
        4 => grant_role,
        1 => revoke_role,
        1 => change,
        3 => role().prop_map(|name| AuthOp::RoleAdd(pb::AuthRoleAddRequest { name })),
        1 => role().prop_map(|role| AuthOp::RoleDelete(pb::AuthRoleDeleteRequest { role })),
        4 => grant,
        1 => revoke,
        2 => login,
        3 => Just(AuthOp::Enable(pb::AuthEnableRequest {})),
        1 => Just(AuthOp::Disable(pb::AuthDisableRequest {})),
        1 => user().prop_map(|name| AuthOp::UserGet(pb::AuthUserGetRequest { name })),
        1 => Just(AuthOp::RoleList(pb::AuthRoleListRequest {})),
    ]
}

fn request() -> impl Strategy<Value = Op> {
    let compaction = (-1_i64..12).prop_map(|revision| {
        Op::Compaction(pb::CompactionRequest {
            revision,
            physical: false,
        })
    });
    let grant = (lease(), -1_i64..100)
        .prop_map(|(id, ttl)| Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl }));
    let revoke = lease().prop_map(|id| Op::LeaseRevoke(pb::LeaseRevokeRequest { id }));
    let checkpoint = (lease(), 0_i64..9).prop_map(|(id, remaining_ttl)| {
        Op::LeaseCheckpoint(pb::LeaseCheckpointRequest {
            checkpoints: vec![pb::LeaseCheckpoint { id, remaining_ttl }],
        })
    });
    // Disarmed more often than raised, or nothing would happen any more.
    let alarm =
        (select(vec![0, 1, 2, 2, 2]), 1_u64..3, 0_i32..3).prop_map(|(action, member_id, alarm)| {
            Op::Alarm(pb::AlarmRequest {
                action,
                member_id,
                alarm,
            })
        });
    prop_oneof![
        8 => put_request().prop_map(Op::Put),
        3 => delete_request().prop_map(Op::DeleteRange),
        6 => txn().prop_map(Op::Txn),
        1 => range_request().prop_map(Op::Range),
        2 => compaction,
        4 => grant,
        2 => revoke,
        1 => checkpoint,
        2 => alarm,
        2 => cluster_op(),
        8 => auth_op().prop_map(Op::Auth),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let id = || 2_u64..6;
    prop_oneof![
        (id(), any::<bool>()).prop_map(|(id, learner)| Change::Add {
            member: member(id, learner),
            as_learner: learner,
        }),
        id().prop_map(Change::Promote),
        id().prop_map(Change::Remove),
        (id(), id()).prop_map(|(id, other)| Change::Update {
            id,
            peer_urls: member(other, false).peer_urls,
        }),
    ]
}

fn legacy() -> impl Strategy<Value = Bytes> {
    let forms = vec![
        (
            "PUT",
            "/0/members/1/attributes",
            r#"{"name":"old","clientURLs":[]}"#,
        ),
        ("PUT", "/0/version", "3.5.0"),
        ("SYNC", "", ""),
    ];
    select(forms).prop_map(|(method, path, val)| {
        let request = pb::Request {
            id: 3,
            method: method.into(),
            path: path.into(),
            val: val.into(),
            ..Default::default()
        };
        request.encode_to_vec().into()
    })
}

fn log() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![
        20 => (caller(), request()).prop_map(|((user, revision), op)| Entry::Request(user, revision, op)),
        2 => change().prop_map(Entry::Change),
        1 => legacy().prop_map(Entry::Legacy),
        1 => Just(Entry::Empty),
    ];
    let root = || {
        let user = AuthOp::UserAdd(pb::AuthUserAddRequest {
            name: "root".into(),
            ..Default::default()
        });
        let role = AuthOp::UserGrantRole(pb::AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        });
        [user, role, AuthOp::Enable(pb::AuthEnableRequest {})]
            .map(|op| Entry::Request("", 0, Op::Auth(op)))
    };
    (any::<bool>(), prop::collection::vec(entry, 1..60)).prop_map(move |(auth, mut rest)| {
        if auth {
            let at = rest.len() / 3;
            rest.splice(at..at, root());
        }
        let founder = Entry::Change(Change::Add {
            member: member(LOCAL, false),
            as_learner: false,
        });
        [vec![founder], rest].concat()
    })
}

impl Host {
    /// Applies the entry at `index`; `waiting` has the request at hand as its proposer, otherwise it is decoded.
    fn follow(&mut self, index: u64, entry: &Entry, waiting: bool) {
        let at = Position { index, term: 2 };
        match entry {
            Entry::Empty => self.machine.apply_empty(at),
            Entry::Change(change) => {
                let change: ConfChange = change.encode(index);
                self.conf_change(at, &change);
            }
            Entry::Legacy(data) => self.decoded(at, data, waiting),
            Entry::Request(user, revision, op) => {
                let request = request_of(index, user, *revision, op.clone());
                if waiting {
                    self.machine.apply(at, request, true, NOW).unwrap();
                } else {
                    self.decoded(at, &encode(&request), false);
                }
            }
        }
    }

    fn decoded(&mut self, at: Position, data: &Bytes, waited: bool) {
        let request = Request::decode(data).unwrap();
        self.machine.apply(at, request, waited, NOW).unwrap();
    }

    fn follow_all(&mut self, log: &[Entry], from: u64, waiting: bool) {
        for (index, entry) in (from..).zip(log) {
            self.follow(index, entry, waiting);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_given_the_same_log_are_equal(log in log(), stop in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let member = |name: &str, quota| {
            let home = dir.path().join(name);
            std::fs::create_dir_all(&home).unwrap();
            Host::open(&home, quota)
        };
        let mut proposer = member("proposer", -1);
        proposer.follow_all(&log, 1, true);
        let expected = proposer.state();

        // Decodes everything, and its disk has been too full from the start.
        let mut follower = member("follower", 1);
        follower.follow_all(&log, 1, false);
        prop_assert_eq!(follower.state(), expected.clone());

        // Restarted in the middle: it sees old entries again, from the first one on.
        let mut before = member("before", -1);
        let stop = stop.index(log.len());
        before.follow_all(&log[..stop], 1, false);
        before.copy_to(&dir.path().join("after"));
        drop(before);
        let mut after = member("after", -1);
        after.follow_all(&log, 1, false);
        prop_assert_eq!(after.state(), expected.clone());

        // And once more from what is on disk in the end.
        after.copy_to(&dir.path().join("last"));
        let last = member("last", -1);
        let mut state = last.state();
        state.position.term = expected.position.term;
        prop_assert_eq!(state, expected);
    }
}

//! Alarms, quota, leases, members, replay (docs/apply.md).

mod support;

use api::Error;
use api::etcdserverpb as pb;
use api::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use api::raftpb::ConfChange;
use apply::{Fatal, Op, Request, Response};
use backend::{Bucket, Position};
use bytes::Bytes;
use cluster::Change;
use pb::alarm_request::AlarmAction;
use prost::Message;
use support::*;

const ACTIVATE: i32 = AlarmAction::Activate as i32;
const DEACTIVATE: i32 = AlarmAction::Deactivate as i32;
const GET: i32 = AlarmAction::Get as i32;
const NONE: i32 = pb::AlarmType::None as i32;
const NOSPACE: i32 = pb::AlarmType::Nospace as i32;
const CORRUPT: i32 = pb::AlarmType::Corrupt as i32;

fn requests() -> Vec<(&'static str, Op)> {
    let other_branch = pb::TxnRequest {
        failure: vec![put_op("x", "1")],
        ..Default::default()
    };
    let compaction = pb::CompactionRequest {
        revision: 2,
        physical: false,
    };
    let grant = pb::LeaseGrantRequest { id: 50, ttl: 60 };
    vec![
        ("range", Op::Range(range("a", "", 0))),
        ("put", Op::Put(put("x", "1"))),
        ("txn with a put", Op::Txn(success(vec![put_op("x", "1")]))),
        ("txn with a put not taken", Op::Txn(other_branch)),
        (
            "txn that deletes",
            Op::Txn(success(vec![delete_op("x", "")])),
        ),
        ("delete", Op::DeleteRange(delete("x", ""))),
        ("compaction", Op::Compaction(compaction)),
        ("grant", Op::LeaseGrant(grant)),
        (
            "checkpoint",
            Op::LeaseCheckpoint(pb::LeaseCheckpointRequest::default()),
        ),
        ("revoke", Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 })),
    ]
}

fn refused_under(alarms: &[i32]) -> Vec<(&'static str, String)> {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.put("a", "1");
    host.grant(1);
    for alarm in alarms {
        // Whoever raised it: an alarm of any member counts.
        host.alarm(ACTIVATE, 77, *alarm);
    }
    requests()
        .into_iter()
        .filter_map(|(name, op)| Some((name, host.run(op).err()?.text().to_owned())))
        .collect()
}

#[test]
fn alarms_refuse_what_they_must_and_nothing_else() {
    assert_eq!(refused_under(&[]), []);
    let no_space = |name| (name, Error::NoSpace.text().to_owned());
    let corrupt = |name| (name, Error::Corrupt.text().to_owned());
    assert_eq!(
        refused_under(&[NOSPACE]),
        [
            no_space("put"),
            no_space("txn with a put"),
            no_space("txn with a put not taken"),
            no_space("grant")
        ]
    );
    let all: Vec<_> = requests()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| *name != "checkpoint")
        .map(corrupt)
        .collect();
    assert_eq!(refused_under(&[CORRUPT]), all);
    assert_eq!(refused_under(&[NOSPACE, CORRUPT]), all);
}

#[test]
fn an_alarm_is_raised_once_disarmed_exactly_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let of = |member_id, alarm| pb::AlarmMember { member_id, alarm };
    assert_eq!(host.alarm(ACTIVATE, 1, NONE), []);
    for _ in 0..2 {
        assert_eq!(host.alarm(ACTIVATE, 1, NOSPACE), [of(1, NOSPACE)]);
    }
    host.alarm(ACTIVATE, 2, CORRUPT);
    assert_eq!(host.alarm(GET, 0, NONE).len(), 2);
    assert_eq!(host.alarm(GET, 0, CORRUPT), [of(2, CORRUPT)]);
    assert_eq!(host.alarm(DEACTIVATE, 0, NOSPACE), []);
    assert_eq!(host.alarm(77, 1, NOSPACE), []);
    assert!(host.alarms.no_space());
    host.backend.close().unwrap();
    drop(host);

    let mut host = Host::open(dir.path(), -1);
    assert_eq!(host.alarms.list().len(), 2);
    host.index = 100;
    assert_eq!(host.alarm(DEACTIVATE, 1, NOSPACE), [of(1, NOSPACE)]);
    assert_eq!(host.alarm(DEACTIVATE, 1, NOSPACE), []);
    assert!(!host.alarms.no_space());
    assert_eq!(
        host.backend
            .range(Bucket::Alarm, b"", None, 0)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn over_quota_the_change_stays_the_answer_is_an_error_and_one_alarm_is_wished() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), 1);
    let applied = host.applied(Op::Put(put("a", "1")));
    assert!(is_no_space_wish(&applied));
    assert_eq!(
        applied.result.unwrap().unwrap_err().text(),
        Error::NoSpace.text()
    );
    assert_eq!(
        (host.value("a").as_deref(), host.revision()),
        (Some("1"), 2)
    );
    // What takes no room goes on.
    let applied = host.applied(Op::DeleteRange(delete("a", "")));
    assert!(applied.result.unwrap().is_ok() && applied.effect.is_none());
    let grant = host.applied(Op::LeaseGrant(pb::LeaseGrantRequest { id: 5, ttl: 60 }));
    assert!(is_no_space_wish(&grant) && host.lessor.lock().unwrap().exists(5));
    // Another error of the request is told as it is.
    let applied = host.applied(Op::LeaseGrant(pb::LeaseGrantRequest { id: 5, ttl: 60 }));
    assert_eq!(
        applied.result.unwrap().unwrap_err().text(),
        Error::LeaseExist.text()
    );
    assert!(applied.effect.is_none());
    // With the alarm raised nothing is wished and nothing happens.
    host.alarm(ACTIVATE, LOCAL, NOSPACE);
    let applied = host.applied(Op::Put(put("b", "1")));
    assert!(applied.effect.is_none() && host.value("b").is_none());
    assert!(applied.result.unwrap().is_err());
}

#[test]
fn a_revoked_lease_takes_its_keys_in_bytewise_order_and_one_revision() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.grant(1);
    host.grant(2);
    for key in ["b", "a\u{ff}", "c", "a"] {
        let request = pb::PutRequest {
            lease: 1,
            ..put(key, "1")
        };
        host.run(Op::Put(request)).unwrap();
    }
    let before = host.revision();
    host.run(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }))
        .unwrap();
    assert_eq!(host.revision(), before + 1);
    let records = host
        .backend
        .range(Bucket::Key, &(before + 1).to_be_bytes(), None, 0);
    let records = records.unwrap();
    let keys: Vec<_> = records
        .iter()
        .map(|(_, value)| api::mvccpb::KeyValue::decode(value.clone()).unwrap().key)
        .collect();
    assert_eq!(keys, ["a", "a\u{ff}", "b", "c"]);
    for (sub, (key, _)) in records.iter().enumerate() {
        assert_eq!(key[9..17], (sub as u64).to_be_bytes());
        assert_eq!(key.last(), Some(&b't'));
    }
    // Without keys no revision is used, and the record is gone all the same.
    host.run(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 2 }))
        .unwrap();
    assert_eq!(host.revision(), before + 1);
    assert!(
        host.backend
            .range(Bucket::Lease, b"", None, 0)
            .unwrap()
            .is_empty()
    );
    let again = host.run(Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }));
    assert_eq!(again.unwrap_err().text(), Error::LeaseNotFound.text());
}

#[test]
fn grants_are_refused_for_id_zero_a_taken_id_and_too_long_a_life() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let mut grant = |id, ttl| match host.run(Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl })) {
        Ok(Response::LeaseGrant(answer)) => Ok(answer.ttl),
        Err(error) => Err(error.text().to_owned()),
        other => panic!("{other:?}"),
    };
    let refused = |error: Error| Err(error.text().to_owned());
    assert_eq!(grant(0, 10), refused(Error::LeaseNotFound));
    assert_eq!(grant(1, 9_000_000_001), refused(Error::LeaseTtlTooLarge));
    assert_eq!(grant(1, 9_000_000_000), Ok(9_000_000_000));
    assert_eq!(grant(1, 10), refused(Error::LeaseExist));
    assert_eq!((grant(-5, -1), grant(6, 0)), (Ok(2), Ok(2)));
}

#[test]
fn checkpoints_reach_the_database_only_from_cluster_version_3_6_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.grant(1);
    let checkpoint = |remaining_ttl| {
        let known = pb::LeaseCheckpoint {
            id: 1,
            remaining_ttl,
        };
        let unknown = pb::LeaseCheckpoint {
            id: 9,
            remaining_ttl,
        };
        Op::LeaseCheckpoint(pb::LeaseCheckpointRequest {
            checkpoints: vec![unknown, known],
        })
    };
    let record = |host: &Host| {
        host.backend
            .get(Bucket::Lease, &1_i64.to_be_bytes())
            .unwrap()
    };
    let granted = record(&host);
    host.run(checkpoint(20)).unwrap();
    assert_eq!(record(&host), granted);
    host.run(version("3.6.0")).unwrap();
    host.run(checkpoint(20)).unwrap();
    assert_ne!(record(&host), granted);
}

fn version(ver: &str) -> Op {
    Op::ClusterVersionSet(ClusterVersionSetRequest { ver: ver.into() })
}

#[test]
fn entries_the_database_holds_change_nothing_when_they_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.change(&Change::Add {
        member: member(LOCAL, false),
        as_learner: false,
    });
    host.run(version("3.6.0")).unwrap();
    host.grant(1);
    host.put("a", "1");
    host.alarm(ACTIVATE, 1, CORRUPT);
    host.alarm(DEACTIVATE, 1, CORRUPT);
    let (before, last) = (host.state(), host.index);
    for index in 1..=last {
        let at = Position { index, term: 2 };
        for op in [
            Op::Put(put("b", "1")),
            Op::DeleteRange(delete("a", "")),
            Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }),
            Op::Auth(auth::AuthOp::RoleAdd(pb::AuthRoleAddRequest {
                name: "r".into(),
            })),
        ] {
            let applied = host.try_apply(at, op, true).unwrap();
            assert!(applied.result.is_none() && applied.effect.is_none());
        }
        host.machine.apply_empty(at);
        let removal = Change::Remove(55).encode(1);
        let verdict = host.machine.apply_conf_change(at, &removal).unwrap();
        assert!(verdict.for_raft.is_none(), "raft knows it already");
        host.machine.end_conf_change(at, Some("{}".into()));
    }
    let mut after = host.state();
    assert_eq!(after.buckets, before.buckets);
    after.membership = before.membership.clone();
    assert_eq!(after, before);
    // Attributes are taken over in memory, and only there.
    let attributes = ClusterMemberAttrSetRequest {
        member_id: LOCAL,
        member_attributes: Some(Attributes {
            name: "old".into(),
            client_urls: vec![],
        }),
    };
    let at = Position { index: 2, term: 2 };
    host.try_apply(at, Op::ClusterMemberAttrSet(attributes), false)
        .unwrap();
    assert_eq!(host.membership.read().unwrap().local().unwrap().name, "old");
    assert_eq!(host.state().buckets, before.buckets);
}

#[test]
fn every_entry_moves_the_consistent_index_whatever_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let failing = Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 99 });
    for op in [Op::Skipped, Op::Range(range("a", "", 0)), failing] {
        let _ = host.run(op);
        assert_eq!(host.machine.position().index, host.index);
    }
    let at = host.next();
    host.machine.apply_empty(at);
    host.backend.flush().unwrap();
    assert_eq!(host.backend.position(), Some(at));
}

#[test]
fn requests_of_3_5_about_members_and_version_count_and_others_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.change(&Change::Add {
        member: member(LOCAL, false),
        as_learner: false,
    });
    let legacy = |method: &str, path: &str, val: &str| {
        let request = pb::Request {
            id: 12,
            method: method.into(),
            path: path.into(),
            val: val.into(),
            ..Default::default()
        };
        let wrapped = pb::InternalRaftRequest {
            v2: Some(request.clone()),
            ..Default::default()
        };
        [request.encode_to_vec(), wrapped.encode_to_vec()]
    };
    let attributes = r#"{"name":"m1","clientURLs":["http://c:1"]}"#;
    for form in 0..2 {
        for (data, id) in [
            legacy("PUT", "/0/members/1/attributes", attributes),
            legacy("PUT", "/0/version", "3.5.0"),
            legacy("SYNC", "", ""),
            legacy("PUT", "/1/keys/a", "x"),
            legacy("DELETE", "/0/members/1/attributes", ""),
        ]
        .iter()
        .zip([12, 12, 12, 12, 12])
        {
            let request = Request::decode(&Bytes::from(data[form].clone())).unwrap();
            assert!(form == 1 || request.id == id);
            let at = host.next();
            host.machine.apply(at, request, false, NOW).unwrap();
        }
    }
    let membership = host.membership.read().unwrap();
    let local = membership.local().unwrap();
    assert_eq!((local.name.as_str(), local.client_urls.len()), ("m1", 1));
    assert_eq!(membership.version().unwrap().to_string(), "3.5.0");
    assert_eq!(host.store.current_revision(), 1);
}

#[test]
fn changes_of_members_are_judged_and_a_refused_one_still_moves_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let add = |id, learner| Change::Add {
        member: member(id, learner),
        as_learner: learner,
    };
    for change in [add(1, false), add(2, false), add(3, true)] {
        assert!(host.change(&change).result.is_ok());
    }
    let moved = Change::Update {
        id: 1,
        peer_urls: member(2, false).peer_urls,
    };
    let refused = [
        (add(2, false), Error::MemberExist),
        (add(4, true), Error::TooManyLearners),
        (Change::Promote(2), Error::MemberNotLearner),
        (Change::Promote(9), Error::MemberNotFound),
        (Change::Remove(9), Error::MemberNotFound),
        (moved, Error::PeerUrlExist),
    ];
    for (change, expected) in refused {
        let before = host.membership.read().unwrap().clone();
        let verdict = host.change(&change);
        assert_eq!(verdict.result.unwrap_err().text(), expected.text());
        let for_raft = verdict.for_raft.unwrap();
        assert_eq!(for_raft.node_id, 0, "raft must not follow a refused change");
        assert_eq!(*host.membership.read().unwrap(), before);
        assert_eq!(host.machine.position().index, host.index);
    }
    assert!(host.change(&Change::Promote(3)).result.is_ok());
    assert!(host.change(&Change::Remove(2)).result.is_ok());
    let verdict = host.change(&add(2, false));
    assert_eq!(
        verdict.result.unwrap_err().text(),
        Error::MemberNotFound.text()
    );
    let verdict = host.change(&Change::Remove(LOCAL));
    assert!(verdict.removed_self);
    // Again at a replay: it stops again.
    let at = Position {
        index: host.index,
        term: 2,
    };
    let removal = Change::Remove(LOCAL).encode(1);
    let verdict = host.machine.apply_conf_change(at, &removal).unwrap();
    assert!(verdict.removed_self && verdict.for_raft.is_none());
}

#[test]
fn what_a_member_cannot_follow_stops_it_before_the_index_moves() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    host.put("a", "1");
    let unknown = ClusterMemberAttrSetRequest {
        member_id: 99,
        member_attributes: None,
    };
    let before = host.machine.position();
    for op in [
        version("3.8.0"),
        version("junk"),
        Op::ClusterMemberAttrSet(unknown),
    ] {
        let at = host.next();
        assert!(host.try_apply(at, op, true).is_err());
        assert_eq!(host.machine.position(), before);
    }
    let at = host.next();
    let nonsense = ConfChange {
        r#type: 99,
        ..Default::default()
    };
    let error = host.machine.apply_conf_change(at, &nonsense).unwrap_err();
    assert!(matches!(error, Fatal::Cluster(_)));
    assert_eq!(host.machine.position(), before);
}

#[test]
fn a_compaction_answers_at_once_and_refuses_what_is_gone_or_to_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let mut compact = |revision| {
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        host.run(Op::Compaction(request))
            .err()
            .map(|e| e.text().to_owned())
    };
    let text = |error: Error| Some(error.text().to_owned());
    assert_eq!(compact(-1), text(Error::Compacted));
    assert_eq!(compact(2), text(Error::FutureRev));
    // A new store can be compacted at 0, once.
    assert_eq!((compact(0), compact(0)), (None, text(Error::Compacted)));
    assert_eq!(compact(1), None);
}

#[test]
fn a_compaction_at_zero_is_remembered_before_it_has_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), -1);
    let request = pb::CompactionRequest::default();
    host.run(Op::Compaction(request)).unwrap();
    host.backend.close().unwrap();
    drop(host);
    // Compacted at 0 or not decides whether a transaction that reads at −1 may run.
    let host = Host::open(dir.path(), -1);
    assert_eq!(host.store.compact_revision(), 0);
}

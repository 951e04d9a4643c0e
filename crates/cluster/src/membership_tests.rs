use proptest::prelude::*;

use super::*;
use crate::records::testing::MapRecords;

fn settings() -> Settings {
    Settings {
        local_id: 1,
        cluster_id: 0xc1,
        max_learners: 1,
        server_version: Version::new(3, 7, 3),
    }
}

fn member(id: u64, learner: bool) -> Member {
    Member {
        id,
        peer_urls: vec![format!("http://m{id}:1")],
        is_learner: learner,
        ..Member::default()
    }
}

fn add(id: u64) -> Change {
    Change::Add {
        member: member(id, false),
        as_learner: false,
    }
}

fn add_learner(id: u64) -> Change {
    Change::Add {
        member: member(id, true),
        as_learner: true,
    }
}

fn update(id: u64, url: &str) -> Change {
    Change::Update {
        id,
        peer_urls: vec![url.to_owned()],
    }
}

/// Members 1 and 2 vote, 3 learns, 9 was removed.
fn sample() -> (Membership, MapRecords) {
    let mut membership = Membership::new(settings());
    let mut records = MapRecords::default();
    for change in [add(1), add(2), add(9), Change::Remove(9), add_learner(3)] {
        membership.validate(&change).unwrap();
        membership.apply(&change, Persist::Backend(&mut records));
    }
    (membership, records)
}

#[test]
fn changes_are_judged_as_in_etcd() {
    let (membership, _) = sample();
    let clash = |id| Change::Add {
        member: Member {
            id,
            peer_urls: member(2, false).peer_urls,
            ..Member::default()
        },
        as_learner: false,
    };
    // A learner that raft gets as a voter does not count against the limit.
    let odd_learner = Change::Add {
        member: member(5, true),
        as_learner: false,
    };
    for (change, want) in [
        (add(4), Ok(())),
        (odd_learner, Ok(())),
        (add(2), Err(Error::IdExists)),
        (add(9), Err(Error::IdRemoved)),
        (clash(4), Err(Error::PeerUrlExists)),
        (add_learner(4), Err(Error::TooManyLearners)),
        (Change::Promote(3), Ok(())),
        (Change::Promote(2), Err(Error::NotLearner)),
        (Change::Promote(4), Err(Error::IdNotFound)),
        (Change::Promote(9), Err(Error::IdRemoved)),
        (Change::Remove(2), Ok(())),
        (Change::Remove(4), Err(Error::IdNotFound)),
        (Change::Remove(9), Err(Error::IdRemoved)),
        (update(2, "http://m2:1"), Ok(())),
        (update(2, "http://m3:1"), Err(Error::PeerUrlExists)),
        (update(4, "http://x:1"), Err(Error::IdNotFound)),
    ] {
        assert_eq!(membership.validate(&change), want, "{change:?}");
    }
}

#[test]
fn records_are_those_of_etcd() {
    let (mut membership, mut records) = sample();
    assert_eq!(
        records.text(Bucket::Members, "3"),
        Some(r#"{"id":3,"peerURLs":["http://m3:1"],"isLearner":true}"#)
    );
    assert_eq!(records.text(Bucket::MembersRemoved, "9"), Some("removed"));
    assert_eq!(records.text(Bucket::Members, "9"), None);

    membership.apply(&Change::Promote(3), Persist::Backend(&mut records));
    membership.apply(&update(3, "http://new:1"), Persist::Backend(&mut records));
    let outcome = membership.set_attributes(
        3,
        "m3",
        &["http://c:1".to_owned()],
        Persist::Backend(&mut records),
    );
    assert_eq!(outcome, Ok(AttributesOutcome::Updated));
    assert_eq!(
        records.text(Bucket::Members, "3"),
        Some(r#"{"id":3,"peerURLs":["http://new:1"],"name":"m3","clientURLs":["http://c:1"]}"#)
    );
    membership
        .set_version("3.7.0", Persist::Backend(&mut records))
        .unwrap();
    membership
        .set_downgrade(true, "3.6.0", Persist::Backend(&mut records))
        .unwrap();
    assert_eq!(
        records.text(Bucket::Cluster, "clusterVersion"),
        Some("3.7.0")
    );
    assert_eq!(
        records.text(Bucket::Cluster, "downgrade"),
        Some(r#"{"target-version":"3.6.0","enabled":true}"#)
    );
    assert_eq!(Membership::load(settings(), &records), Ok(membership));
}

#[test]
fn effects_name_the_peers_to_connect() {
    let (mut membership, mut records) = sample();
    let mut apply = |change| membership.apply(&change, Persist::Backend(&mut records));
    assert_eq!(apply(add(4)), Effect::AddPeer(member(4, false)));
    assert_eq!(apply(Change::Promote(3)), Effect::None);
    assert!(matches!(apply(update(4, "http://x:1")), Effect::UpdatePeer(m) if m.id == 4));
    assert_eq!(apply(update(1, "http://y:1")), Effect::None);
    assert_eq!(apply(Change::Remove(4)), Effect::RemovePeer(4));
    assert_eq!(apply(Change::Remove(1)), Effect::RemovedSelf);
}

#[test]
fn replayed_entries_leave_members_and_backend_alone() {
    let (mut membership, records) = sample();
    let before = membership.clone();
    for (change, effect) in [
        (add(9), Effect::AddPeer(member(9, false))),
        (Change::Remove(9), Effect::RemovePeer(9)),
        (Change::Promote(3), Effect::None),
        (update(9, "http://old:1"), Effect::None),
    ] {
        assert_eq!(membership.apply(&change, Persist::MemoryOnly), effect);
    }
    // Perhaps it was refused in its time: the backend knows.
    let urls = &before.member(2).unwrap().peer_urls;
    let effect = membership.apply(&update(2, "http://old:1"), Persist::MemoryOnly);
    assert!(matches!(effect, Effect::UpdatePeer(m) if m.peer_urls == *urls));
    assert_eq!(membership, before);
    membership
        .set_version("3.6.0", Persist::MemoryOnly)
        .unwrap();
    membership
        .set_attributes(2, "n", &[], Persist::MemoryOnly)
        .unwrap();
    assert_eq!(membership.member(2).unwrap().name, "n");
    assert_eq!(Membership::load(settings(), &records), Ok(before));
}

#[test]
fn attributes_of_removed_members_are_skipped_of_unknown_ones_fatal() {
    let (mut membership, _) = sample();
    let mut set = |id| membership.set_attributes(id, "x", &[], Persist::MemoryOnly);
    assert_eq!(set(9), Ok(AttributesOutcome::MemberRemoved));
    assert_eq!(set(77), Err(FatalError::MemberUnknown(77)));
}

#[test]
fn version_goes_up_and_down_but_not_above_the_server() {
    let (mut membership, _) = sample();
    let mut set = |text| membership.set_version(text, Persist::MemoryOnly);
    let first = set("3.6.0").unwrap();
    assert_eq!((first.from, first.is_downgrade()), (None, false));
    assert!(!set("3.7.0").unwrap().is_downgrade());
    assert!(!set("3.7.0").unwrap().is_downgrade());
    assert!(set("3.6.0").unwrap().is_downgrade());
    assert!(matches!(set("3.8.0"), Err(FatalError::ServerTooOld { .. })));
    assert!(matches!(set("x"), Err(FatalError::BadVersion(_))));
    assert_eq!(membership.version(), Some(Version::V3_6));
}

#[test]
fn raft_gets_voters_and_learners_in_order() {
    let (membership, _) = sample();
    let state = membership.conf_state();
    assert_eq!((state.voters, state.learners), (vec![1, 2], vec![3]));
    assert_eq!(
        membership.members_json(),
        concat!(
            r#"[{"id":1,"peerURLs":["http://m1:1"]},{"id":2,"peerURLs":["http://m2:1"]},"#,
            r#"{"id":3,"peerURLs":["http://m3:1"],"isLearner":true}]"#
        )
    );
}

#[test]
fn damaged_records_stop_the_member() {
    for (bucket, key, value) in [
        (Bucket::Members, "1", "{"),
        (Bucket::Members, "zz", r#"{"id":1}"#),
        (Bucket::Members, "1", r#"{"id":2}"#),
        (Bucket::MembersRemoved, "", "removed"),
        (Bucket::Cluster, "clusterVersion", "three"),
        (Bucket::Cluster, "clusterVersion", "3.8.0"),
        (Bucket::Cluster, "downgrade", "nope"),
    ] {
        let mut records = MapRecords::default();
        records.set(bucket, key, value.as_bytes());
        assert!(
            Membership::load(settings(), &records).is_err(),
            "{key} {value}"
        );
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = 1..6_u64;
    prop_oneof![
        (id.clone(), 1..6_u64, any::<bool>()).prop_map(|(id, url, learner)| Change::Add {
            member: Member {
                id,
                ..member(url, learner)
            },
            as_learner: learner,
        }),
        id.clone().prop_map(Change::Promote),
        id.clone().prop_map(Change::Remove),
        (id, 1..6_u64).prop_map(|(id, url)| Change::Update {
            id,
            peer_urls: member(url, false).peer_urls,
        }),
    ]
}

proptest! {
    /// Memory and backend never differ, ids are never reused, URLs never shared.
    #[test]
    fn memory_and_backend_agree(changes in prop::collection::vec(any_change(), 0..40)) {
        let mut membership = Membership::new(settings());
        let mut records = MapRecords::default();
        for change in changes {
            if membership.validate(&change).is_ok() {
                let change = Change::decode(&change.encode(1)).unwrap();
                membership.apply(&change, Persist::Backend(&mut records));
            }
            prop_assert_eq!(&Membership::load(settings(), &records).unwrap(), &membership);
            let mut urls: Vec<_> = membership.members().flat_map(|m| &m.peer_urls).collect();
            urls.sort_unstable();
            prop_assert!(urls.windows(2).all(|w| w[0] != w[1]));
            prop_assert!(membership.members().filter(|m| m.is_learner).count() <= 1);
            prop_assert!(membership.members().all(|m| !membership.is_removed(m.id)));
        }
    }
}

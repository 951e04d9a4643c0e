//! Reading and writing through the layers, against a plain map.

mod common;

use std::ops::ControlFlow;

use backend::{Bucket, Op, View};
use bytes::Bytes;
use common::{Model, at, bytes, config, content, open};
use proptest::prelude::*;

#[test]
fn what_an_entry_writes_is_seen_at_once_but_pinned_only_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    writer.put(Bucket::Lease, b"a", bytes("1"));
    assert_eq!(backend.get(Bucket::Lease, b"a").unwrap(), Some(bytes("1")));
    assert_eq!(backend.view().get(Bucket::Lease, b"a").unwrap(), None);
    assert_eq!(
        backend
            .latest(Bucket::Lease)
            .get(Bucket::Lease, b"a")
            .unwrap(),
        Some(bytes("1"))
    );
    let before = backend.view();
    writer.end_entry(at(1));
    assert_eq!(before.get(Bucket::Lease, b"a").unwrap(), None);
    assert_eq!(
        backend.view().get(Bucket::Lease, b"a").unwrap(),
        Some(bytes("1"))
    );
    assert_eq!(backend.position(), Some(at(1)));
}

#[test]
fn a_deletion_in_memory_hides_what_the_file_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    for key in ["a", "b", "c"] {
        writer.put(Bucket::AuthUsers, key, bytes("1"));
    }
    writer.end_entry(at(1));
    backend.flush().unwrap();
    writer.delete(Bucket::AuthUsers, b"b");
    assert_eq!(backend.get(Bucket::AuthUsers, b"b").unwrap(), None);
    let range = backend.range(Bucket::AuthUsers, b"", None, 0).unwrap();
    assert_eq!(range, [(bytes("a"), bytes("1")), (bytes("c"), bytes("1"))]);
    writer.end_entry(at(2));
    backend.flush().unwrap();
    assert_eq!(
        backend
            .range(Bucket::AuthUsers, b"b", Some(b"d"), 1)
            .unwrap(),
        [(bytes("c"), bytes("1"))]
    );
}

#[test]
fn position_term_and_conf_state_are_found_again_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (backend, mut writer) = open(dir.path());
        assert_eq!(backend.position(), None);
        writer.set_conf_state(bytes("{\"voters\":[1]}"));
        writer.end_entry(backend::Position { index: 7, term: 3 });
    }
    let (backend, _writer) = open(dir.path());
    assert_eq!(
        backend.position(),
        Some(backend::Position { index: 7, term: 3 })
    );
    let meta = |key: &[u8]| backend.get(Bucket::Meta, key).unwrap().unwrap();
    assert_eq!(meta(b"consistent_index"), &7_u64.to_be_bytes()[..]);
    assert_eq!(meta(b"term"), &3_u64.to_be_bytes()[..]);
    assert_eq!(meta(b"confState"), "{\"voters\":[1]}");
}

#[test]
fn a_moved_position_alone_is_committed_when_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (backend, mut writer) = open(dir.path());
        writer.put(Bucket::Lease, b"a", bytes("1"));
        writer.end_entry(at(1));
        writer.end_entry(at(9));
        // The background write must not let entry 9 count as durable before its position is.
        backend
            .background(vec![Op::Put {
                bucket: Bucket::Meta,
                key: bytes("storageVersion"),
                value: bytes("3.7.0"),
            }])
            .wait()
            .unwrap();
        writer.commit().wait().unwrap();
        let file = backend.snapshot().unwrap();
        let copy = dir.path().join("copy");
        file.write_to(
            &mut std::fs::File::options()
                .create(true)
                .write(true)
                .truncate(true)
                .open(&copy)
                .unwrap(),
        )
        .unwrap();
        let db = bbolt::Db::open(common::real(), &copy, bbolt::Options::default()).unwrap();
        let tx = db.read().unwrap();
        let index = tx
            .bucket(b"meta")
            .unwrap()
            .unwrap()
            .get(b"consistent_index")
            .unwrap()
            .unwrap()
            .to_vec();
        assert_eq!(index, 9_u64.to_be_bytes());
    }
}

#[test]
fn a_ticket_drawn_within_an_entry_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(dir.path());
    writer.put(Bucket::Meta, b"scheduledCompactRev", bytes("x"));
    let ticket = writer.commit();
    backend.flush().unwrap();
    assert!(!ticket.is_done());
    writer.end_entry(at(1));
    ticket.wait().unwrap();
}

#[test]
fn the_position_cannot_be_written_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let (_backend, mut writer) = open(dir.path());
    let forged = std::panic::AssertUnwindSafe(|| {
        writer.put(Bucket::Meta, b"consistent_index", bytes("12345678"));
    });
    assert!(std::panic::catch_unwind(forged).is_err());
}

#[test]
fn writers_wait_when_too_much_is_pending_and_go_on_after_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let config = backend::Config {
        max_pending_bytes: 10_000,
        ..config(dir.path())
    };
    let (backend, mut writer) = backend::open(common::real(), config).unwrap();
    for index in 1..=500 {
        writer.put(
            Bucket::Key,
            common::revision(index),
            Bytes::from(vec![7; 1000]),
        );
        writer.end_entry(at(index));
        assert!(backend.pending_bytes() <= 12_000);
    }
    assert_eq!(content(&backend).len(), 500);
}

#[test]
fn a_huge_entry_is_one_unit() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (backend, mut writer) = open(dir.path());
        writer.put(Bucket::Lease, b"before", bytes("1"));
        writer.end_entry(at(1));
        writer.put_all(
            Bucket::Lease,
            (0..20_000_u64).map(|i| (i.to_be_bytes(), bytes("x"))),
        );
        assert_eq!(
            backend
                .view()
                .get(Bucket::Lease, &1_u64.to_be_bytes())
                .unwrap(),
            None
        );
        assert_eq!(
            backend.get(Bucket::Lease, &1_u64.to_be_bytes()).unwrap(),
            Some(bytes("x"))
        );
        writer.delete(Bucket::Lease, 5_u64.to_be_bytes());
        writer.end_entry(at(2));
    }
    let (backend, _writer) = open(dir.path());
    assert_eq!(content(&backend).len(), 20_000);
    assert_eq!(backend.position(), Some(at(2)));
}

#[derive(Clone, Debug)]
enum Step {
    Put(Bucket, u8, u8),
    Delete(Bucket, u8),
    End,
    Background(Bucket, u8, Option<u8>),
    Flush,
    View,
    Reopen,
}

fn bucket() -> impl Strategy<Value = Bucket> {
    prop_oneof![Just(Bucket::Key), Just(Bucket::Lease), Just(Bucket::Meta)]
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..20_u8;
    prop_oneof![
        8 => (bucket(), key.clone(), any::<u8>()).prop_map(|(b, k, v)| Step::Put(b, k, v)),
        4 => (bucket(), key.clone()).prop_map(|(b, k)| Step::Delete(b, k)),
        4 => Just(Step::End),
        2 => (bucket(), 20..30_u8, any::<Option<u8>>()).prop_map(|(b, k, v)| Step::Background(b, k, v)),
        1 => Just(Step::Flush),
        1 => Just(Step::View),
        1 => Just(Step::Reopen),
    ]
}

fn change(model: &mut Model, bucket: Bucket, key: u8, value: Option<u8>) {
    match value {
        Some(value) => model.insert((bucket, vec![key]), vec![value]),
        None => model.remove(&(bucket, vec![key])),
    };
}

fn view_content(view: &View) -> Model {
    let mut content = Model::new();
    for bucket in Bucket::ALL {
        view.for_each(bucket, b"", None, &mut |key, value| {
            content.insert((bucket, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    common::strip_position(&mut content);
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn all_layers_together_are_one_map(steps in proptest::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, mut writer) = open(dir.path());
        // With the running entry, and without.
        let (mut now, mut ended) = (Model::new(), Model::new());
        let mut index = 0;
        let mut views: Vec<(View, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Put(bucket, key, value) => {
                    change(&mut now, bucket, key, Some(value));
                    writer.put(bucket, [key], Bytes::from(vec![value]));
                }
                Step::Delete(bucket, key) => {
                    change(&mut now, bucket, key, None);
                    writer.delete(bucket, [key]);
                }
                Step::End => {
                    index += 1;
                    writer.end_entry(at(index));
                    ended.clone_from(&now);
                }
                Step::Background(bucket, key, value) => {
                    change(&mut now, bucket, key, value);
                    change(&mut ended, bucket, key, value);
                    let key = Bytes::from(vec![key]);
                    let op = match value {
                        Some(value) => Op::Put { bucket, key, value: Bytes::from(vec![value]) },
                        None => Op::Delete { bucket, key },
                    };
                    let _ = backend.background(vec![op]);
                }
                Step::Flush => backend.flush().unwrap(),
                Step::View => views.push((backend.view(), ended.clone())),
                Step::Reopen => {
                    views.clear();
                    drop(writer);
                    drop(backend);
                    (backend, writer) = open(dir.path());
                    now.clone_from(&ended);
                    prop_assert_eq!(backend.position().map_or(0, |p| p.index), index);
                }
            }
            prop_assert_eq!(content(&backend), now.clone());
        }
        for (view, expected) in views {
            prop_assert_eq!(view_content(&view), expected);
        }
    }
}

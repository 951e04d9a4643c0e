//! Random transactions, compactions, restarts and reads against a store that remembers everything.

mod common;

use std::sync::{Arc, Mutex};

use api::mvccpb::KeyValue;
use common::{Change, Member, Model, naive_hash_kv, parsed};
use mvcc::{Error, Event, EventKind, EventSink, RangeOptions, SortOrder, SortTarget};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8, i64),
    Delete(u8, Option<u8>),
    Range(u8, Option<u8>, RangeOptions),
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<Op>),
    Compact(i64),
    Range(u8, Option<u8>, RangeOptions),
    Hash(i64),
    Events(i64, usize),
    Reopen,
    Defrag,
}

fn key() -> impl Strategy<Value = u8> {
    0..12_u8
}

/// `None`: the key alone. 255: everything from the key on.
fn end() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 4 => (0..14_u8).prop_map(Some), 2 => Just(Some(255))]
}

fn options() -> impl Strategy<Value = RangeOptions> {
    let order = prop_oneof![2 => Just(SortOrder::None), 1 => Just(SortOrder::Ascend), 1 => Just(SortOrder::Descend)];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Create),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    let bound = || prop_oneof![4 => Just(0_i64), 1 => 0..30_i64];
    let flag = || prop::bool::weighted(0.2);
    (
        -1..6_i64,
        -2..12_i64,
        order,
        target,
        (flag(), flag()),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(
            |(limit, back, sort_order, sort_target, (keys_only, count_only), bounds)| {
                RangeOptions {
                    limit,
                    revision: back,
                    sort_order,
                    sort_target,
                    keys_only,
                    count_only,
                    min_mod_revision: bounds.0,
                    max_mod_revision: bounds.1,
                    min_create_revision: bounds.2,
                    max_create_revision: bounds.3,
                }
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (key(), 0..4_u8, prop_oneof![Just(0_i64), Just(77)]).prop_map(|(k, v, l)| Op::Put(k, v, l)),
        2 => (key(), end()).prop_map(|(k, e)| Op::Delete(k, e)),
        1 => (key(), end(), options()).prop_map(|(k, e, o)| Op::Range(k, e, o)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(op(), 0..4).prop_map(Step::Txn),
        1 => (-1..10_i64).prop_map(Step::Compact),
        8 => (key(), end(), options()).prop_map(|(k, e, o)| Step::Range(k, e, o)),
        2 => (-1..10_i64).prop_map(Step::Hash),
        2 => (-1..30_i64, 1..5_usize).prop_map(|(from, max)| Step::Events(from, max)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Defrag),
    ]
}

fn name(key: u8) -> Vec<u8> {
    vec![b'k', key + 1]
}

fn range_end(end: Option<u8>) -> Vec<u8> {
    match end {
        None => Vec::new(),
        Some(255) => vec![0],
        Some(end) => name(end),
    }
}

/// Turns the "so many revisions back" of the generator into a revision; small ones mean the present.
fn resolve(options: RangeOptions, current: i64) -> RangeOptions {
    let back = options.revision;
    RangeOptions {
        revision: if back <= 0 { back } else { current + 2 - back },
        ..options
    }
}

fn same_error(a: &Error, b: &Error) -> bool {
    matches!(
        (a, b),
        (Error::Compacted, Error::Compacted) | (Error::FutureRev, Error::FutureRev)
    )
}

type Outcome = Result<(Vec<KeyValue>, i64, bool), Error>;

fn assert_same(got: Result<mvcc::RangeResult, Error>, expected: Outcome, revision: i64) {
    match (got, expected) {
        (Ok(got), Ok((kvs, count, more))) => {
            assert_eq!(
                (parsed(&got.kvs), got.count, got.more, got.revision),
                (kvs, count, more, revision)
            );
        }
        (Err(got), Err(expected)) => assert!(same_error(&got, &expected), "{got:?} {expected:?}"),
        (got, expected) => panic!("{got:?} {expected:?}"),
    }
}

#[derive(Default)]
struct Sink(Mutex<Vec<(i64, Arc<[Event]>)>>);

impl EventSink for Sink {
    fn publish(&self, revision: i64, events: Arc<[Event]>) {
        self.0.lock().unwrap().push((revision, events));
    }

    fn compacted(&self, _revision: i64) {}
}

struct World {
    dir: tempfile::TempDir,
    member: Option<Member>,
    model: Model,
    sink: Arc<Sink>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            dir,
            member: None,
            model: Model::default(),
            sink: Arc::default(),
        };
        world.reopen();
        world
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        self.member = None;
        let member = Member::open(self.dir.path());
        assert_eq!(member.store.current_revision(), self.model.current);
        assert_eq!(member.store.compact_revision(), self.model.compacted);
        member.store.set_sink(self.sink.clone());
        let alive: Vec<_> = self
            .model
            .keys(b"\0", b"\0", i64::MAX)
            .into_iter()
            .filter_map(|key| {
                self.model
                    .get(&key, i64::MAX)
                    .map(|kv| (kv.lease, kv.key.clone()))
            })
            .filter(|(lease, _)| *lease != 0)
            .collect();
        assert_eq!(member.leases, alive);
        self.member = Some(member);
    }

    fn txn(&mut self, ops: &[Op]) {
        let Self {
            member,
            model,
            sink,
            ..
        } = self;
        let member = member.as_mut().unwrap();
        let mut txn = member.writer.begin(&mut member.log);
        let (base, main) = (model.current, model.current + 1);
        assert_eq!(txn.base_revision(), base);
        let mut events: Vec<(EventKind, Vec<u8>)> = Vec::new();
        for op in ops {
            let sub = events.len() as i64;
            match op {
                Op::Put(key, value, lease) => {
                    assert_eq!(txn.put(name(*key), [*value], *lease), main);
                    model.put(main, sub, &name(*key), &[*value], *lease);
                    events.push((EventKind::Put, name(*key)));
                }
                Op::Delete(key, end) => {
                    let (key, end) = (name(*key), range_end(*end));
                    let keys = model.keys(&key, &end, main);
                    let expected: Vec<_> = keys
                        .iter()
                        .map(|k| model.get(k, main).cloned().unwrap())
                        .collect();
                    let deleted = if sub % 2 == 0 {
                        let deleted = txn.delete_range_with_prev(&key, &end).unwrap();
                        let prev: Vec<_> = deleted
                            .iter()
                            .map(|d| d.prev.as_ref().unwrap().to_kv())
                            .collect();
                        assert_eq!(prev, expected);
                        deleted
                    } else {
                        txn.delete_range(&key, &end)
                    };
                    assert_eq!(
                        deleted.iter().map(|d| d.key.to_vec()).collect::<Vec<_>>(),
                        keys
                    );
                    for key in keys {
                        model.delete(main, events.len() as i64, &key);
                        events.push((EventKind::Delete, key));
                    }
                }
                Op::Range(key, end, options) => {
                    let (key, end) = (name(*key), range_end(*end));
                    let now = if events.is_empty() { base } else { main };
                    let options = resolve(*options, base);
                    // Within a transaction the present is its own revision.
                    let seen = Model {
                        current: now,
                        ..model.clone()
                    };
                    assert_same(
                        txn.range(&key, &end, &options),
                        seen.range(&key, &end, &options),
                        now,
                    );
                    assert_eq!(
                        txn.get(&key).unwrap().map(|kv| kv.to_kv()),
                        model.get(&key, now).cloned()
                    );
                    assert_eq!(
                        txn.meta(&key).map(|m| m.version),
                        model.get(&key, now).map(|kv| kv.version)
                    );
                }
            }
        }
        let end = txn.finish();
        member.end_entry();
        model.current += i64::from(!events.is_empty());
        assert_eq!(end.revision, model.current);
        check_events(model, &end.events, main, &events);
        if !events.is_empty() {
            let (revision, published) = sink.0.lock().unwrap().pop().unwrap();
            assert_eq!((revision, &published[..]), (main, &end.events[..]));
        }
    }

    fn step(&mut self, step: &Step) {
        let current = self.model.current;
        match step {
            Step::Txn(ops) => self.txn(ops),
            Step::Compact(back) => {
                let revision = current + 1 - back;
                let result = self.member().compact(revision);
                let expected = match revision {
                    r if r <= self.model.compacted => Err(Error::Compacted),
                    r if r > current => Err(Error::FutureRev),
                    _ => Ok(()),
                };
                match (result, expected) {
                    (Ok(()), Ok(())) => self.compacted(revision),
                    (Err(a), Err(b)) => assert!(same_error(&a, &b)),
                    other => panic!("{other:?}"),
                }
            }
            Step::Range(key, end, options) => {
                let (key, end, options) = (name(*key), range_end(*end), resolve(*options, current));
                let got = self.member().store.range(&key, &end, &options);
                assert_same(got, self.model.range(&key, &end, &options), current);
            }
            Step::Hash(back) => self.hash(if *back <= 0 {
                *back
            } else {
                current + 2 - back
            }),
            Step::Events(from, max) => self.events(*from, *max),
            Step::Reopen => self.reopen(),
            Step::Defrag => self.member().backend.defrag().unwrap(),
        }
    }

    /// After a compaction only what its readers can see is left, and the hash over what it found is known.
    fn compacted(&mut self, revision: i64) {
        let before = self.model.compacted;
        self.model.compacted = revision;
        let member = self.member.as_ref().unwrap();
        for (main, sub, tombstone, _, value) in common::records(&member.backend) {
            if main > revision {
                continue;
            }
            let key = api::RawKv::from_encoded(value).key();
            let changes = &self.model.history[&key[..]];
            let newest = changes
                .iter()
                .rev()
                .find(|change| change.main <= revision)
                .unwrap();
            assert_eq!(
                (newest.main, newest.sub),
                (main, sub),
                "only the newest stays"
            );
            assert!(
                !tombstone || main == revision,
                "a deletion stays only at the compacted revision"
            );
        }
        let hashes = member.store.compaction_hashes();
        let last = hashes.last().unwrap();
        assert_eq!((last.revision, last.compact_revision), (revision, before));
        assert!(hashes.len() <= 10);
    }

    fn hash(&mut self, revision: i64) {
        let (current, compacted) = (self.model.current, self.model.compacted);
        let member = self.member.as_ref().unwrap();
        let got = member.store.hash_kv(revision);
        if revision < 0 {
            // Nothing is at or below such a revision: the hash of no record.
            let got = got.unwrap();
            assert_eq!(
                (got.hash_revision, got.compact_revision),
                (revision, compacted)
            );
            return;
        }
        let at = if revision == 0 { current } else { revision };
        let stored = member.store.compaction_hashes();
        if let Some(stored) = stored
            .iter()
            .find(|stored| revision > 0 && stored.revision == revision)
        {
            let got = got.unwrap();
            assert_eq!(
                (got.hash, got.compact_revision),
                (stored.hash, stored.compact_revision)
            );
        } else if at > current {
            assert!(matches!(got, Err(Error::FutureRev)));
        } else if at < compacted {
            assert!(matches!(got, Err(Error::Compacted)));
        } else {
            let got = got.unwrap();
            assert_eq!((got.hash_revision, got.compact_revision), (at, compacted));
            assert_eq!(got.current_revision, current);
            assert_eq!(got.hash, naive_hash_kv(&member.backend, compacted, at));
        }
    }

    fn events(&mut self, from: i64, max: usize) {
        let (model, member) = (&self.model, self.member.as_ref().unwrap());
        let got = member.store.events_since(from, max, 1 << 20);
        if from.max(1) < model.compacted {
            assert!(matches!(got, Err(Error::Compacted)));
            return;
        }
        let mut batch = got.unwrap();
        let mut all = batch.transactions.clone();
        assert!(batch.transactions.len() <= max);
        while batch.next <= batch.current {
            batch = member.store.events_since(batch.next, max, 1).unwrap();
            assert!(batch.transactions.len() <= 1);
            all.extend(batch.transactions.clone());
        }
        for main in from.max(model.compacted + 1).max(2)..=model.current {
            let mut expected: Vec<(&Vec<u8>, &Change)> = model
                .history
                .iter()
                .flat_map(|(key, changes)| changes.iter().map(move |change| (key, change)))
                .filter(|(_, change)| change.main == main)
                .collect();
            expected.sort_by_key(|(_, change)| change.sub);
            let kinds: Vec<_> = expected
                .iter()
                .map(|(key, change)| {
                    (
                        if change.kv.is_some() {
                            EventKind::Put
                        } else {
                            EventKind::Delete
                        },
                        (*key).clone(),
                    )
                })
                .collect();
            let (_, events) = all.iter().find(|(revision, _)| *revision == main).unwrap();
            check_events(model, events, main, &kinds);
        }
    }
}

fn check_events(model: &Model, events: &[Event], main: i64, expected: &[(EventKind, Vec<u8>)]) {
    assert_eq!(events.len(), expected.len());
    for (sub, (event, (kind, key))) in events.iter().zip(expected).enumerate() {
        assert_eq!(
            (event.kind, &event.key[..], event.sub),
            (*kind, &key[..], sub as i64)
        );
        let changes = &model.history[key];
        let i = changes
            .iter()
            .position(|c| (c.main, c.sub) == (main, event.sub))
            .unwrap();
        let before = i.checked_sub(1).and_then(|i| changes[i].kv.clone());
        let kv = event.kv.to_kv();
        match &changes[i].kv {
            Some(put) => {
                assert_eq!(&kv, put);
                assert_eq!(event.create, put.create_revision == main);
            }
            None => {
                let expected = KeyValue {
                    key: key.clone().into(),
                    mod_revision: main,
                    ..KeyValue::default()
                };
                assert_eq!(kv, expected);
            }
        }
        if let Some(prev) = &event.prev {
            assert_eq!(Some(prev.to_kv()), before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_the_model_is(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        let live = world.model.keys(b"\0", b"\0", i64::MAX).len();
        prop_assert_eq!(world.member().store.stats().keys, live);
    }
}

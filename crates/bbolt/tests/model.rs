//! Random operations, compared with maps of maps after every step that can be seen from outside.

mod support;

use bbolt::{Db, Error, Options, ReadTx};
use proptest::prelude::*;
use support::{Item, Model, assert_sound, at_path, compare_lookups, content, open, small_pages};

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Vec<u8>, Vec<u8>),
    /// Many ascending keys with one prefix.
    Append(usize, u8, u16, u16),
    Delete(usize, Vec<u8>),
    /// All keys from one to another.
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    CreateBucket(usize, Vec<u8>),
    DeleteBucket(usize, Vec<u8>),
    SetSequence(usize, u64),
    FillPercent(usize, f64),
    Commit,
    Rollback,
    Reopen,
    OpenReader,
    CloseReader(usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(0u8..6, 1..4),
        2 => (0u16..400).prop_map(|n| format!("key{n:05}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 1..300),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..60),
        2 => (200usize..1500, any::<u8>()).prop_map(|(len, b)| vec![b; len]),
        1 => (3000usize..9000, any::<u8>()).prop_map(|(len, b)| vec![b; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let path = 0usize..4;
    prop_oneof![
        12 => (path.clone(), key(), value()).prop_map(|(p, k, v)| Op::Put(p, k, v)),
        4 => (path.clone(), 0u8..4, 1u16..200, 0u16..120).prop_map(|(p, x, n, l)| Op::Append(p, x, n, l)),
        6 => (path.clone(), key()).prop_map(|(p, k)| Op::Delete(p, k)),
        4 => (path.clone(), key(), key()).prop_map(|(p, a, b)| Op::DeleteRange(p, a, b)),
        3 => (path.clone(), key()).prop_map(|(p, k)| Op::CreateBucket(p, k)),
        1 => (path.clone(), key()).prop_map(|(p, k)| Op::DeleteBucket(p, k)),
        1 => (path.clone(), any::<u64>()).prop_map(|(p, s)| Op::SetSequence(p, s)),
        1 => (path, 0.0f64..1.2).prop_map(|(p, f)| Op::FillPercent(p, f)),
        5 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => Just(Op::Reopen),
        2 => Just(Op::OpenReader),
        2 => (0usize..4).prop_map(Op::CloseReader),
    ]
}

/// Buckets that the operations work in.
fn path(number: usize) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = match number {
        0 => &[b"a"],
        1 => &[b"b"],
        2 => &[b"a", b"nested"],
        _ => &[b"a", b"nested", b"deeper"],
    };
    names.iter().map(|name| name.to_vec()).collect()
}

struct World {
    dir: tempfile::TempDir,
    options: Options,
    db: Option<Db>,
    committed: Model,
    readers: Vec<(ReadTx, Model)>,
}

impl World {
    fn new(options: Options) -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = Some(open(&dir.path().join("db"), options.clone()));
        let mut world = World {
            dir,
            options,
            db,
            committed: Model::default(),
            readers: Vec::new(),
        };
        let mut tx = world.db().write().unwrap();
        for number in 0..4 {
            let path = path(number);
            match path.split_last().unwrap() {
                (name, []) => tx.create_bucket(name).map(|_| ()).unwrap(),
                (name, parents) => {
                    at_path(&mut tx, parents, |b| {
                        b.create_bucket(name).map(|_| ()).unwrap();
                    })
                    .unwrap();
                }
            }
            let mut model = &mut world.committed;
            for name in path {
                let item = model
                    .items
                    .entry(name)
                    .or_insert(Item::Bucket(Model::default()));
                let Item::Bucket(next) = item else {
                    unreachable!()
                };
                model = next;
            }
        }
        tx.commit().unwrap();
        world
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn compare(&self) {
        let tx = self.db().read().unwrap();
        assert_eq!(content(&tx).unwrap(), self.committed);
        assert_sound(&tx);
        for (name, item) in &self.committed.items {
            let Item::Bucket(model) = item else {
                unreachable!()
            };
            let bucket = tx.bucket(name).unwrap().unwrap();
            compare_lookups(
                &bucket,
                model,
                &[vec![0], vec![3, 3], vec![255; 4], b"key00099".to_vec()],
            );
        }
        for (reader, model) in &self.readers {
            assert_eq!(&content(reader).unwrap(), model);
            assert_sound(reader);
        }
        let stats = self.db().stats();
        assert!(self.db().size_in_use() <= self.db().size());
        assert_eq!(stats.open_readers as usize, 1 + self.readers.len());
    }

    fn reopen(&mut self) {
        self.readers.clear();
        // A new write transaction frees what the readers held.
        drop(self.db().write().unwrap());
        let free = self.db().stats().free_pages;
        assert_eq!(self.db().stats().pending_pages, 0);
        self.db.take().unwrap().close().unwrap();
        self.db = Some(open(&self.dir.path().join("db"), self.options.clone()));
        assert_eq!(self.db().stats().free_pages, free, "no page is lost");
    }
}

/// Applies one change to the transaction and to the model; both must agree on errors.
fn apply(tx: &mut bbolt::WriteTx, model: &mut Model, op: &Op) {
    let number = match op {
        Op::Put(p, ..)
        | Op::Append(p, ..)
        | Op::Delete(p, ..)
        | Op::DeleteRange(p, ..)
        | Op::CreateBucket(p, _)
        | Op::DeleteBucket(p, _)
        | Op::SetSequence(p, _)
        | Op::FillPercent(p, _) => *p,
        _ => return,
    };
    let path = path(number);
    let model = path.iter().try_fold(model, |m, name| m.bucket_mut(name));
    let found = at_path(tx, &path, |bucket| {
        let model = model.expect("the model has the bucket too");
        change(bucket, model, op);
        // The transaction sees its own changes.
        let seen = support::bucket_content(&bucket.view().unwrap()).unwrap();
        assert_eq!(&seen, model);
    });
    let _ = found; // the bucket may have been deleted
}

fn change(bucket: &mut bbolt::BucketMut<'_>, model: &mut Model, op: &Op) {
    match op {
        Op::Put(_, key, value) => put(bucket, model, key, value),
        Op::Append(_, prefix, count, len) => {
            for n in 0..*count {
                let key = [b"ap".as_slice(), &[*prefix], &n.to_be_bytes()].concat();
                put(bucket, model, &key, &vec![n as u8; usize::from(*len)]);
            }
        }
        Op::Delete(_, key) => delete(bucket, model, key),
        Op::DeleteRange(_, a, b) => {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            let keys: Vec<_> = model
                .items
                .range(low.clone()..high.clone())
                .map(|(k, _)| k.clone())
                .collect();
            for key in keys {
                delete(bucket, model, &key);
            }
        }
        Op::CreateBucket(_, name) => {
            let result = bucket.create_bucket(name).map(drop);
            match model.items.get(name) {
                None => {
                    result.unwrap();
                    model
                        .items
                        .insert(name.clone(), Item::Bucket(Model::default()));
                }
                Some(Item::Bucket(_)) => assert!(matches!(result, Err(Error::BucketExists))),
                Some(Item::Value(_)) => assert!(matches!(result, Err(Error::IncompatibleValue))),
            }
        }
        Op::DeleteBucket(_, name) => {
            let result = bucket.delete_bucket(name);
            match model.items.get(name) {
                None => assert!(matches!(result, Err(Error::BucketNotFound))),
                Some(Item::Value(_)) => assert!(matches!(result, Err(Error::IncompatibleValue))),
                Some(Item::Bucket(_)) => {
                    result.unwrap();
                    model.items.remove(name);
                }
            }
        }
        Op::SetSequence(_, sequence) => {
            bucket.set_sequence(*sequence);
            model.sequence = *sequence;
        }
        Op::FillPercent(_, fill) => bucket.set_fill_percent(*fill),
        _ => {}
    }
}

fn put(bucket: &mut bbolt::BucketMut<'_>, model: &mut Model, key: &[u8], value: &[u8]) {
    let result = bucket.put(key, value);
    if let Some(Item::Bucket(_)) = model.items.get(key) {
        assert!(matches!(result, Err(Error::IncompatibleValue)));
        return;
    }
    result.unwrap();
    model
        .items
        .insert(key.to_vec(), Item::Value(value.to_vec()));
}

fn delete(bucket: &mut bbolt::BucketMut<'_>, model: &mut Model, key: &[u8]) {
    let result = bucket.delete(key);
    match model.items.get(key) {
        Some(Item::Bucket(_)) => assert!(matches!(result, Err(Error::IncompatibleValue))),
        Some(Item::Value(_)) => {
            assert!(result.unwrap());
            model.items.remove(key);
        }
        None => assert!(!result.unwrap()),
    }
}

fn run(options: Options, ops: &[Op]) {
    let mut world = World::new(options);
    let mut pending = world.committed.clone();
    let mut open_tx = None;
    for op in ops {
        match op {
            Op::Commit => {
                if let Some(tx) = open_tx.take() {
                    bbolt::WriteTx::commit(tx).unwrap();
                    world.committed = pending.clone();
                    world.compare();
                }
            }
            Op::Rollback => {
                drop(open_tx.take());
                pending = world.committed.clone();
                world.compare();
            }
            Op::Reopen => {
                drop(open_tx.take());
                pending = world.committed.clone();
                world.reopen();
                world.compare();
            }
            Op::OpenReader => {
                if world.readers.len() < 4 {
                    let reader = world.db().read().unwrap();
                    world.readers.push((reader, world.committed.clone()));
                }
            }
            Op::CloseReader(n) => {
                if *n < world.readers.len() {
                    world.readers.remove(*n);
                }
            }
            change => {
                let tx = open_tx.get_or_insert_with(|| world.db().write().unwrap());
                apply(tx, &mut pending, change);
            }
        }
    }
    drop(open_tx);
    world.compare();
    world.reopen();
    world.compare();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_maps_of_maps(ops in prop::collection::vec(op(), 1..120)) {
        run(small_pages(), &ops);
    }

    #[test]
    fn behaves_like_maps_of_maps_with_a_persisted_freelist(ops in prop::collection::vec(op(), 1..80)) {
        run(Options { no_freelist_sync: false, ..small_pages() }, &ops);
    }
}

//! What the tests of this crate share: a model of a database and ways to compare with it.
#![allow(dead_code)] // each test program uses a part

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bbolt::{Bucket, BucketMut, Db, Error, Options, ReadTx, WriteTx};
use disk::{Fs, RealFs};

/// The content of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub sequence: u64,
    pub items: BTreeMap<Vec<u8>, Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Value(Vec<u8>),
    Bucket(Model),
}

impl Model {
    pub fn bucket_mut(&mut self, name: &[u8]) -> Option<&mut Model> {
        match self.items.get_mut(name) {
            Some(Item::Bucket(bucket)) => Some(bucket),
            _ => None,
        }
    }
}

pub fn small_pages() -> Options {
    Options {
        page_size: 1024,
        no_sync: true,
        ..Options::default()
    }
}

pub fn open(path: &Path, options: Options) -> Db {
    Db::open(Arc::new(RealFs), path, options).unwrap()
}

pub fn open_on(fs: Arc<dyn Fs>, path: &Path, options: Options) -> Result<Db, Error> {
    Db::open(fs, path, options)
}

/// Reads everything that a transaction sees, forwards, and compares with reading backwards.
pub fn content(tx: &ReadTx) -> Result<Model, Error> {
    let mut model = Model::default();
    for name in tx.buckets() {
        let name = name?;
        let bucket = tx.bucket(name)?.expect("a listed bucket is there");
        model
            .items
            .insert(name.to_vec(), Item::Bucket(bucket_content(&bucket)?));
    }
    Ok(model)
}

pub fn bucket_content(bucket: &Bucket<'_>) -> Result<Model, Error> {
    let mut model = Model {
        sequence: bucket.sequence(),
        items: BTreeMap::new(),
    };
    let mut forwards = Vec::new();
    let mut cursor = bucket.cursor();
    let mut item = cursor.first()?;
    while let Some((key, value)) = item {
        forwards.push(key);
        let item_model = match value {
            Some(value) => Item::Value(value.to_vec()),
            None => Item::Bucket(bucket_content(
                &bucket.bucket(key)?.expect("nested bucket"),
            )?),
        };
        assert!(
            model.items.insert(key.to_vec(), item_model).is_none(),
            "a key came twice"
        );
        item = cursor.next()?;
    }
    let mut backwards = Vec::new();
    let mut cursor = bucket.cursor();
    let mut item = cursor.last()?;
    while let Some((key, _)) = item {
        backwards.push(key);
        item = cursor.prev()?;
    }
    backwards.reverse();
    assert_eq!(forwards, backwards);
    Ok(model)
}

/// Compares point reads and seeks with the model.
pub fn compare_lookups(bucket: &Bucket<'_>, model: &Model, probes: &[Vec<u8>]) {
    for key in model.items.keys().chain(probes) {
        let expected = match model.items.get(key) {
            Some(Item::Value(value)) => Some(value.as_slice()),
            _ => None,
        };
        assert_eq!(bucket.get(key).unwrap(), expected);
        let found = bucket
            .cursor()
            .seek(key)
            .unwrap()
            .map(|(key, _)| key.to_vec());
        let next = model
            .items
            .range(key.clone()..)
            .next()
            .map(|(key, _)| key.clone());
        assert_eq!(found, next);
    }
}

pub fn assert_sound(tx: &ReadTx) {
    let findings: Vec<String> = tx
        .check_strictly()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(findings.is_empty(), "{findings:?}");
}

/// Runs `change` on the bucket at a path, if all of the path exists.
pub fn at_path<R>(
    tx: &mut WriteTx,
    path: &[Vec<u8>],
    change: impl FnOnce(&mut BucketMut<'_>) -> R,
) -> Option<R> {
    let (first, rest) = path.split_first()?;
    let mut bucket = tx.bucket(first).unwrap()?;
    descend(&mut bucket, rest, change)
}

fn descend<R>(
    bucket: &mut BucketMut<'_>,
    path: &[Vec<u8>],
    change: impl FnOnce(&mut BucketMut<'_>) -> R,
) -> Option<R> {
    match path.split_first() {
        None => Some(change(bucket)),
        Some((name, rest)) => descend(&mut bucket.bucket(name).unwrap()?, rest, change),
    }
}

/// A generator of numbers for tests that need many of them from one seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

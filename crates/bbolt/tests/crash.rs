//! A crash at every operation, and failures of every operation.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bbolt::{Db, Error, Options};
use disk::RealFs;
use disk::testing::{Fault, OpKind, RecordingFs};
use support::{Item, Model, Random, assert_sound, content, open_on};

fn options() -> Options {
    Options {
        page_size: 1024,
        ..Options::default()
    }
}

/// Changes two buckets in one transaction; returns what the database then has.
fn step(db: &Db, model: &Model, random: &mut Random) -> Result<Model, Error> {
    let mut model = model.clone();
    let mut tx = db.write()?;
    for name in [b"a".to_vec(), b"b".to_vec()] {
        let mut bucket = tx.create_bucket_if_missing(&name)?;
        let entry = model
            .items
            .entry(name)
            .or_insert_with(|| Item::Bucket(Model::default()));
        let Item::Bucket(items) = entry else {
            unreachable!()
        };
        for _ in 0..random.below(12) {
            let key = format!("key{:03}", random.below(60)).into_bytes();
            if random.below(3) == 0 {
                bucket.delete(&key)?;
                items.items.remove(&key);
            } else {
                let len = [10, 100, 700, 2500][random.below(4) as usize];
                let value = random.bytes(len);
                bucket.put(&key, &value)?;
                items.items.insert(key, Item::Value(value));
            }
        }
    }
    tx.commit()?;
    Ok(model)
}

fn read_image(path: &Path) -> Result<Model, Error> {
    let db = open_on(Arc::new(RealFs), path, options())?;
    let tx = db.read()?;
    assert_sound(&tx);
    content(&tx)
}

fn crash_everywhere(options: Options, steps: usize, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let mut random = Random(seed);
    // After how many operations which state was acknowledged.
    let mut acknowledged = BTreeMap::new();
    let mut model = Model::default();
    {
        let db = open_on(Arc::new(fs.clone()), &dir.path().join("db"), options).unwrap();
        acknowledged.insert(fs.op_count(), model.clone());
        let reader = db.read().unwrap();
        for i in 0..steps {
            model = step(&db, &model, &mut random).unwrap();
            acknowledged.insert(fs.op_count(), model.clone());
            if i == steps / 2 {
                assert_eq!(content(&reader).unwrap(), Model::default());
            }
        }
    }
    for n in 0..=fs.op_count() {
        let before = acknowledged.range(..=n).next_back().map(|(_, m)| m);
        let after = acknowledged.range(n + 1..).next().map(|(_, m)| m);
        for seed in 0..5 {
            let image = tempfile::tempdir().unwrap();
            fs.crash_image(n, seed, image.path()).unwrap();
            let found = read_image(&image.path().join("db")).unwrap();
            let empty = Model::default();
            assert!(
                Some(&found) == before
                    || Some(&found) == after
                    || (before.is_none() && found == empty),
                "operation {n}, seed {seed}: neither the last nor the next state"
            );
        }
    }
}

#[test]
fn a_crash_anywhere_leaves_the_last_state_or_the_next() {
    crash_everywhere(options(), 25, 1);
}

#[test]
fn a_crash_anywhere_leaves_a_state_with_a_persisted_freelist_too() {
    crash_everywhere(
        Options {
            no_freelist_sync: false,
            ..options()
        },
        15,
        2,
    );
}

/// A crash, then more commits, then a crash again: pages of the fallback state are not used too early.
#[test]
fn recovery_after_a_crash_can_crash_as_well() {
    let mut random = Random(7);
    let mut dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for round in 0..12 {
        let fs = RecordingFs::new(dir.path()).unwrap();
        let mut states = vec![model.clone()];
        {
            let db = open_on(Arc::new(fs.clone()), &dir.path().join("db"), options()).unwrap();
            for _ in 0..3 {
                model = step(&db, &model, &mut random).unwrap();
                states.push(model.clone());
            }
        }
        let next = tempfile::tempdir().unwrap();
        let n = random.below(fs.op_count() as u64 + 1) as usize;
        fs.crash_image(n, random.next(), next.path()).unwrap();
        model = read_image(&next.path().join("db")).unwrap();
        assert!(states.contains(&model), "round {round}");
        dir = next;
    }
}

/// What a step makes of a model; it does not depend on the database.
fn state_after(model: &Model, random: &mut Random) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let db = open_on(Arc::new(RealFs), &dir.path().join("db"), options()).unwrap();
    step(&db, model, random).unwrap()
}

/// Fails the n-th operation of a kind, for every n: the commit reports it, the database goes on reading
/// the last state, writes go on only if nothing is unknown, and the file opens to one of the two states.
#[test]
fn every_failed_operation_is_reported_and_loses_nothing() {
    for kind in [OpKind::Write, OpKind::Sync, OpKind::SetLen, OpKind::Map] {
        let mut failures = 0;
        for skip in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let fs = RecordingFs::new(dir.path()).unwrap();
            let db = open_on(Arc::new(fs.clone()), &path, options()).unwrap();
            let mut random = Random(3);
            let mut model = Model::default();
            fs.fail(Fault {
                kind,
                skip,
                errno: libc::EIO,
                forever: false,
            });
            let mut failed = None;
            for _ in 0..12 {
                let before = random.clone();
                match step(&db, &model, &mut random) {
                    Ok(next) => model = next,
                    Err(error) => {
                        failed = Some((error, before));
                        break;
                    }
                }
            }
            let Some((error, mut before)) = failed else {
                break;
            };
            failures += 1;
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert_eq!(content(&db.read().unwrap()).unwrap(), model);
            let mut attempted = before.clone();
            let retried = step(&db, &model, &mut before);
            match kind {
                OpKind::SetLen | OpKind::Map => model = retried.unwrap(),
                _ => assert!(matches!(retried, Err(Error::Poisoned(_))), "{retried:?}"),
            }
            assert_eq!(content(&db.read().unwrap()).unwrap(), model);
            db.close().unwrap();
            let found = read_image(&path).unwrap();
            // A meta page that failed half-way, or in its sync, may be there all the same.
            let unknown = matches!(kind, OpKind::Sync | OpKind::Write);
            let next = state_after(&model, &mut attempted);
            assert!(found == model || (unknown && found == next));
        }
        assert!(failures > 0, "{kind:?} never failed");
    }
}

#[test]
fn a_failed_creation_can_be_repeated() {
    for kind in [
        OpKind::Write,
        OpKind::Sync,
        OpKind::SyncDir,
        OpKind::Create,
        OpKind::Open,
    ] {
        for skip in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let fs = RecordingFs::new(dir.path()).unwrap();
            fs.fail(Fault {
                kind,
                skip,
                errno: libc::ENOSPC,
                forever: false,
            });
            let first = open_on(Arc::new(fs.clone()), &path, options()).map(drop);
            fs.clear_faults();
            let db = open_on(Arc::new(fs), &path, options()).unwrap();
            assert_eq!(
                content(&db.read().unwrap()).unwrap(),
                Model::default(),
                "{first:?}"
            );
        }
    }
}

//! Doing with a file of unknown content whatever can be done. Shared with the fuzz target.

use std::sync::Arc;

use bbolt::{Bucket, Db, Error, Options};
use disk::RealFs;

fn options() -> Options {
    Options {
        no_sync: true,
        ..Options::default()
    }
}

fn walk(bucket: &Bucket<'_>, depth: usize, budget: &mut u32) -> Result<(), Error> {
    let mut cursor = bucket.cursor();
    let mut item = cursor.first()?;
    while let Some((key, value)) = item {
        *budget = budget.saturating_sub(1);
        if *budget == 0 {
            return Ok(());
        }
        let _ = bucket.get(key)?;
        let _ = bucket.cursor().seek(key)?;
        if value.is_none()
            && depth < 8
            && let Some(nested) = bucket.bucket(key)?
        {
            // Damage below does not keep the rest from being read.
            let _ = walk(&nested, depth + 1, budget);
            let _ = nested.split_keys(3);
        }
        item = cursor.next()?;
    }
    let mut cursor = bucket.cursor();
    let mut item = cursor.last()?;
    while item.is_some() && *budget > 0 {
        *budget -= 1;
        item = cursor.prev()?;
    }
    Ok(())
}

fn change_all(db: &Db) -> Result<(), Error> {
    let mut tx = db.write()?;
    for name in tx.buckets()? {
        let mut bucket = tx.create_bucket_if_missing(&name)?;
        for n in 0..40u32 {
            let key = format!("{:04}", n * 23);
            let _ = bucket.put(key.as_bytes(), &[1; 100]);
            let _ = bucket.delete(format!("{:04}", n * 29).as_bytes());
        }
        let _ = bucket.delete_bucket(b"nested");
    }
    let _ = tx.delete_bucket(b"lease");
    tx.commit()?;
    Ok(())
}

/// Does with a file whatever can be done.
#[allow(clippy::disallowed_methods)]
pub fn use_file(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, bytes).unwrap();
    let read_only = Options {
        read_only: true,
        ..options()
    };
    if let Ok(db) = Db::open(Arc::new(RealFs), &path, read_only) {
        let tx = db.read().unwrap();
        let _ = tx.check();
        let _ = tx.check_strictly();
        let mut budget = 200_000;
        for name in tx.buckets() {
            if let Ok(name) = name
                && let Ok(Some(bucket)) = tx.bucket(name)
            {
                let _ = walk(&bucket, 0, &mut budget);
            }
        }
        let _ = tx.write_to(&mut std::io::sink());
    }
    if let Ok(db) = Db::open(Arc::new(RealFs), &path, options()) {
        for _ in 0..2 {
            let before = db.read().unwrap();
            let sound = before.check_strictly().is_empty();
            let changed = change_all(&db);
            let after = db.read().unwrap().check_strictly();
            // What was sound stays sound.
            assert!(
                !sound || (changed.is_ok() && after.is_empty()),
                "{changed:?} {after:?}"
            );
        }
    }
}

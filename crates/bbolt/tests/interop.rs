//! Turns with Go's bbolt on the same file: each side reads, checks and goes on with what the other wrote.
//!
//! Needs a Go toolchain and, the first time, the Go module proxy; without them the tests are skipped, unless
//! `CI=true`.

mod support;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bbolt::{Bucket, BucketMut, Error, Options};
use support::{Random, assert_sound, open};

/// Builds `interop/boltcheck` once per test run.
fn tool() -> Option<&'static Path> {
    static TOOL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match TOOL.get_or_init(build) {
        Ok(path) => Some(path),
        Err(reason) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI=true, but: {reason}"
            );
            println!("skipped: {reason}");
            None
        }
    }
}

#[allow(clippy::disallowed_methods)] // a build result, not data
fn build() -> Result<PathBuf, String> {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop");
    let bin = interop.join("bin");
    std::fs::create_dir_all(&bin).map_err(|e| e.to_string())?;
    let fresh = bin.join(format!(".boltcheck.{}", std::process::id()));
    let output = Command::new("go")
        .args(["build", "-trimpath", "-mod=readonly", "-o"])
        .arg(&fresh)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .current_dir(interop.join("boltcheck"))
        .output()
        .map_err(|e| format!("no Go toolchain: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "go build: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    // Renamed into place, so that parallel test programs do not see half a file.
    let path = bin.join("boltcheck");
    std::fs::rename(&fresh, &path).map_err(|e| e.to_string())?;
    Ok(path)
}

fn go(flags: &[&str], command: &str, file: &Path, args: &[u64]) -> String {
    let output = Command::new(tool().unwrap())
        .args(flags)
        .arg(command)
        .arg(file)
        .args(args.iter().map(ToString::to_string))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "boltcheck {command}: {errors}{text}"
    );
    text
}

/// Checks what Go wrote, with its check and ours. With a persisted freelist Go's bbolt 1.5 now and then loses a
/// page that is then in no tree and not in the list; that does no harm and is repaired by our next commit.
fn check_after_go(flags: &[&str], file: &Path) {
    let leak =
        |text: &str| flags.contains(&"-freelist-sync") && text.ends_with("unreachable unfreed");
    // Looked at first: opened by Go, a file can get another freelist.
    let ours: Vec<String> = {
        let db = open(
            file,
            Options {
                read_only: true,
                ..Options::default()
            },
        );
        db.read()
            .unwrap()
            .check_strictly()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let output = Command::new(tool().unwrap())
        .args(flags)
        .arg("check")
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(leak), "Go's check: {text}");
    assert!(ours.iter().all(|text| leak(text)), "our check: {ours:?}");
    assert_eq!(
        text.lines().count(),
        ours.len(),
        "Go's check: {text}, ours: {ours:?}"
    );
}

/// The same text as `boltcheck dump`.
fn dump(file: &Path, options: &Options) -> String {
    let db = open(
        file,
        Options {
            read_only: true,
            ..options.clone()
        },
    );
    let tx = db.read().unwrap();
    let mut out = String::new();
    for name in tx.buckets() {
        let name = name.unwrap();
        dump_bucket(&mut out, &hex(name), &tx.bucket(name).unwrap().unwrap());
    }
    out
}

fn dump_bucket(out: &mut String, path: &str, bucket: &Bucket<'_>) {
    writeln!(out, "bucket {path} {}", bucket.sequence()).unwrap();
    let mut cursor = bucket.cursor();
    let mut item = cursor.first().unwrap();
    while let Some((key, value)) = item {
        match value {
            Some(value) => {
                let sum = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
                    (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
                });
                writeln!(out, "value {path} {} {} {sum:016x}", hex(key), value.len()).unwrap();
            }
            None => {
                let nested = bucket.bucket(key).unwrap().unwrap();
                dump_bucket(out, &format!("{path}/{}", hex(key)), &nested);
            }
        }
        item = cursor.next().unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").unwrap();
        out
    })
}

fn random_key(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => {
            let len = 1 + random.below(400) as usize;
            random.bytes(len)
        }
        1 => {
            let len = 1 + random.below(3) as usize;
            random.bytes(len)
        }
        _ => format!("key{:06}", random.below(3000)).into_bytes(),
    }
}

fn random_value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(40) {
        0 => 5000 + random.below(60000),
        1..=3 => 1000 + random.below(4000),
        _ => random.below(120),
    };
    random.bytes(len as usize)
}

fn change(bucket: &mut BucketMut<'_>, random: &mut Random) -> Result<(), Error> {
    match random.below(24) {
        0 => bucket.set_sequence(random.next() >> 1),
        1 => {
            let mut keys = Vec::new();
            {
                let mut cursor = bucket.cursor()?;
                let mut item = cursor.seek(&random_key(random))?;
                for _ in 0..random.below(200) {
                    let Some((key, value)) = item else { break };
                    if value.is_some() {
                        keys.push(key.to_vec());
                    }
                    item = cursor.next()?;
                }
            }
            for key in keys {
                assert!(bucket.delete(&key)?);
            }
        }
        2 if random.below(10) == 0 => {
            match bucket.delete_bucket(format!("nested{}", random.below(3)).as_bytes()) {
                Ok(()) | Err(Error::BucketNotFound | Error::IncompatibleValue) => {}
                Err(e) => return Err(e),
            }
        }
        3..=5 => match bucket.delete(&random_key(random)) {
            Ok(_) | Err(Error::IncompatibleValue) => {}
            Err(e) => return Err(e),
        },
        6 | 7 => {
            let name = format!("nested{}", random.below(3));
            let mut nested = bucket.create_bucket_if_missing(name.as_bytes())?;
            return change(&mut nested, random);
        }
        _ => match bucket.put(&random_key(random), &random_value(random)) {
            Ok(()) | Err(Error::IncompatibleValue) => {}
            Err(e) => return Err(e),
        },
    }
    Ok(())
}

fn write(file: &Path, options: &Options, random: &mut Random, count: u64) {
    let db = open(file, options.clone());
    let mut left = count;
    while left > 0 {
        let mut tx = db.write().unwrap();
        for _ in 0..(1 + random.below(150)).min(left) {
            let name = format!("bucket{}", random.below(4));
            let mut bucket = tx.create_bucket_if_missing(name.as_bytes()).unwrap();
            change(&mut bucket, random).unwrap();
            left -= 1;
        }
        tx.commit().unwrap();
    }
    db.close().unwrap();
}

fn take_turns(flags: &[&str], options: &Options, seed: u64) {
    if tool().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db");
    let mut random = Random(seed);
    if seed.is_multiple_of(2) {
        write(&file, options, &mut random, 200);
    }
    for turn in 0..6 {
        go(flags, "write", &file, &[seed * 100 + turn, 300]);
        check_after_go(flags, &file);
        assert_eq!(
            dump(&file, options),
            go(flags, "dump", &file, &[]),
            "after Go's turn {turn}"
        );
        write(&file, options, &mut random, 300);
        go(flags, "check", &file, &[]);
        assert_sound(&open(&file, options.clone()).read().unwrap());
        assert_eq!(
            dump(&file, options),
            go(flags, "dump", &file, &[]),
            "after our turn {turn}"
        );
    }
}

fn quick() -> Options {
    Options {
        no_sync: true,
        ..Options::default()
    }
}

#[test]
fn turns_with_go_as_etcd_opens_it() {
    take_turns(&["-no-sync"], &quick(), 1);
    take_turns(&["-no-sync"], &quick(), 2);
}

#[test]
fn turns_with_small_pages() {
    let options = Options {
        page_size: 1024,
        ..quick()
    };
    take_turns(&["-no-sync", "-page-size=1024"], &options, 3);
    take_turns(
        &["-no-sync", "-page-size=1024", "-freelist-type=array"],
        &options,
        4,
    );
}

#[test]
fn turns_with_a_persisted_freelist() {
    let options = Options {
        no_freelist_sync: false,
        ..quick()
    };
    take_turns(&["-no-sync", "-freelist-sync"], &options, 5);
    take_turns(
        &["-no-sync", "-freelist-sync", "-freelist-type=array"],
        &options,
        6,
    );
}

/// One side persists the freelist, the other one does not.
#[test]
fn turns_with_a_freelist_that_comes_and_goes() {
    take_turns(&["-no-sync", "-freelist-sync"], &quick(), 7);
    take_turns(
        &["-no-sync"],
        &Options {
            no_freelist_sync: false,
            ..quick()
        },
        8,
    );
}

/// Revisions are appended, old ones deleted, by both.
#[test]
fn a_file_like_etcds_is_appended_to_and_compacted_by_both() {
    if tool().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db");
    for turn in 0..4 {
        go(&["-no-sync"], "etcd", &file, &[turn, 3000]);
        assert_eq!(dump(&file, &quick()), go(&[], "dump", &file, &[]));
        let db = open(&file, quick());
        append_and_compact(&db, &mut Random(turn));
        db.close().unwrap();
        go(&["-no-sync"], "check", &file, &[]);
        assert_eq!(dump(&file, &quick()), go(&[], "dump", &file, &[]));
        go(&["-no-sync"], "append", &file, &[turn, 700]);
        go(&["-no-sync"], "check", &file, &[]);
    }
}

fn append_and_compact(db: &bbolt::Db, random: &mut Random) {
    for _ in 0..5 {
        let mut tx = db.write().unwrap();
        let mut bucket = tx.bucket(b"key").unwrap().unwrap();
        bucket.set_fill_percent(0.9);
        let last = bucket
            .cursor()
            .unwrap()
            .last()
            .unwrap()
            .map(|(key, _)| key.to_vec())
            .unwrap();
        let next = u64::from_be_bytes(last[..8].try_into().unwrap()) + 1;
        for revision in next..next + 500 {
            let key = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
            let len = 30 + random.below(300) as usize;
            bucket.put(&key, &random.bytes(len)).unwrap();
        }
        let keys: Vec<Vec<u8>> = {
            let view = bucket.view().unwrap();
            let mut cursor = view.cursor();
            let mut keys = Vec::new();
            let mut item = cursor.first().unwrap();
            while let Some((key, _)) = item {
                keys.push(key.to_vec());
                item = cursor.next().unwrap();
            }
            keys
        };
        for key in keys.iter().take(keys.len() / 2) {
            if random.below(3) > 0 {
                assert!(bucket.delete(key).unwrap());
            }
        }
        tx.bucket(b"meta")
            .unwrap()
            .unwrap()
            .put(b"consistent_index", &next.to_be_bytes())
            .unwrap();
        tx.commit().unwrap();
    }
}

/// The copy made while the writer goes on is a database of its own, for Go too.
#[test]
fn go_opens_a_copy_made_while_writing() {
    if tool().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join("db"), dir.path().join("copy"));
    let mut random = Random(11);
    write(&file, &quick(), &mut random, 400);
    let expected = dump(&file, &quick());
    let db = open(&file, quick());
    let tx = db.read().unwrap();
    let mut bytes = Vec::new();
    let mut buf = [0; 5000];
    loop {
        let n = tx.copy_chunk(bytes.len() as u64, &mut buf).unwrap();
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&buf[..n]);
        let mut writer = db.write().unwrap();
        let mut bucket = writer.create_bucket_if_missing(b"bucket0").unwrap();
        let _ = change(&mut bucket, &mut random);
        writer.commit().unwrap();
    }
    assert_eq!(bytes.len() as u64, tx.size());
    #[allow(clippy::disallowed_methods)]
    std::fs::write(&copy, bytes).unwrap();
    assert_eq!(go(&[], "dump", &copy, &[]), expected);
    go(&["-no-sync"], "check", &copy, &[]);
    assert_eq!(dump(&copy, &quick()), expected);
}

#![allow(clippy::disallowed_methods)] // tests look at files directly

use std::fs;
use std::path::Path;

use super::{Fault, OpKind, RecordingFs};
use crate::{Fs, OpenOptions};

fn recorder() -> (tempfile::TempDir, RecordingFs) {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    (dir, fs)
}

fn image(fs: &RecordingFs, n: usize, seed: u64) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    fs.crash_image(n, seed, target.path()).unwrap();
    target
}

fn read(dir: &Path, name: &str) -> Option<Vec<u8>> {
    fs::read(dir.join(name)).ok()
}

#[test]
fn synced_bytes_and_names_survive_every_seed() {
    let (dir, fs) = recorder();
    let file = fs
        .open(&dir.path().join("a"), OpenOptions::create())
        .unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(dir.path()).unwrap();
    for seed in 0..20 {
        assert_eq!(
            read(image(&fs, fs.op_count(), seed).path(), "a").unwrap(),
            b"hello"
        );
    }
}

#[test]
fn an_unsynced_name_is_lost_by_seed_0_and_kept_by_seed_1() {
    let (dir, fs) = recorder();
    let file = fs
        .open(&dir.path().join("a"), OpenOptions::create())
        .unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(image(&fs, fs.op_count(), 0).path(), "a"), None);
    assert_eq!(
        read(image(&fs, fs.op_count(), 1).path(), "a").unwrap(),
        b"hello"
    );
}

#[test]
fn unsynced_writes_tear_only_at_sectors() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), vec![1; 4096]).unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let file = fs
        .open(&dir.path().join("a"), OpenOptions::write())
        .unwrap();
    file.write_all_at(&[2; 2000], 100).unwrap();
    let (mut torn, mut lost, mut kept) = (0, 0, 0);
    for seed in 0..60 {
        let got = read(image(&fs, 1, seed).path(), "a").unwrap();
        assert_eq!(got.len(), 4096);
        for (i, sector) in got.chunks(512).enumerate() {
            let here: Vec<u8> = (i * 512..(i + 1) * 512)
                .zip(sector)
                .filter(|(at, _)| (100..2100).contains(at))
                .map(|(_, b)| *b)
                .collect();
            assert!(here.iter().all(|b| *b == 1) || here.iter().all(|b| *b == 2));
        }
        match got[100..2100]
            .iter()
            .map(|b| usize::from(*b == 2))
            .sum::<usize>()
        {
            0 => lost += 1,
            2000 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(torn > 0 && lost > 0 && kept > 0);
}

#[test]
fn a_rename_moves_what_is_durable_or_nothing() {
    let (dir, fs) = recorder();
    let sub = dir.path().join("wal.tmp");
    fs.create_dir_all(&sub, 0o700).unwrap();
    let file = fs.open(&sub.join("0"), OpenOptions::create()).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    fs.sync_dir(&sub).unwrap();
    fs.sync_dir(dir.path()).unwrap();
    fs.rename(&sub, &dir.path().join("wal")).unwrap();
    let n = fs.op_count();
    assert!(read(image(&fs, n, 0).path(), "wal.tmp/0").is_some());
    assert!(read(image(&fs, n, 1).path(), "wal/0").is_some());
    fs.sync_dir(dir.path()).unwrap();
    assert!(read(image(&fs, n + 1, 0).path(), "wal/0").is_some());
    // The open handle still reaches the file under its new name.
    file.write_all_at(b"y", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(
        read(image(&fs, fs.op_count(), 0).path(), "wal/0").unwrap(),
        b"y"
    );
}

#[test]
fn lengths_follow_the_order_of_the_calls() {
    let (dir, fs) = recorder();
    let file = fs
        .open(&dir.path().join("a"), OpenOptions::create())
        .unwrap();
    fs.sync_dir(dir.path()).unwrap();
    file.allocate(10_000).unwrap();
    file.sync_all().unwrap();
    file.set_len(5_000).unwrap();
    let n = fs.op_count();
    let len = |seed| read(image(&fs, n, seed).path(), "a").unwrap().len();
    assert_eq!((len(0), len(1)), (10_000, 5_000));
}

#[test]
fn removals_need_the_directory_sync() {
    let (dir, fs) = recorder();
    let path = dir.path().join("a");
    fs.open(&path, OpenOptions::create()).unwrap();
    fs.sync_dir(dir.path()).unwrap();
    fs.remove_file(&path).unwrap();
    let n = fs.op_count();
    assert!(read(image(&fs, n, 0).path(), "a").is_some());
    assert!(read(image(&fs, n, 1).path(), "a").is_none());
}

#[test]
fn faults_hit_the_chosen_call_once_or_for_ever() {
    let (dir, fs) = recorder();
    let file = fs
        .open(&dir.path().join("a"), OpenOptions::create())
        .unwrap();
    fs.fail(Fault {
        kind: OpKind::Write,
        skip: 1,
        errno: libc::ENOSPC,
        forever: false,
    });
    file.write_all_at(b"1234", 0).unwrap();
    let error = file.write_all_at(b"5678", 4).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    file.write_all_at(b"9", 8).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"123456\0\x009");

    fs.fail(Fault {
        kind: OpKind::Sync,
        skip: 0,
        errno: libc::EIO,
        forever: true,
    });
    file.sync_data().unwrap_err();
    file.sync_all().unwrap_err();
    fs.clear_faults();
    file.sync_all().unwrap();
}

//! What the operating system's file system does behind the seam.
#![allow(clippy::disallowed_methods)] // tests look at files directly

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use disk::{Fs, LockKind, OpenOptions, RealFs};

#[test]
fn locks_of_one_kind_exclude_other_handles_until_they_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for kind in [LockKind::FlockExclusive, LockKind::OpenFileWrite] {
        let one = RealFs.open(&path, OpenOptions::create()).unwrap();
        let two = RealFs.open(&path, OpenOptions::create()).unwrap();
        one.try_lock(kind).unwrap();
        assert_eq!(
            two.try_lock(kind).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        one.unlock(kind).unwrap();
        two.try_lock(kind).unwrap();
        // Closing gives the lock back, too.
        drop(two);
        one.try_lock(kind).unwrap();
    }
}

#[test]
fn shared_locks_share_and_exclude_the_exclusive_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let [one, two, three] =
        std::array::from_fn(|_| RealFs.open(&path, OpenOptions::create()).unwrap());
    one.try_lock(LockKind::FlockShared).unwrap();
    two.try_lock(LockKind::FlockShared).unwrap();
    let error = three.try_lock(LockKind::FlockExclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn reserved_space_reads_as_zeros_and_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs
        .open(&dir.path().join("f"), OpenOptions::create())
        .unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.allocate(10_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    let mut buf = vec![1; 10_000];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert!(buf.starts_with(b"abc") && buf[3..].iter().all(|b| *b == 0));
    file.allocate(5_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    let error = file.read_exact_at(&mut buf, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_mapping_may_be_longer_than_the_file_and_shows_later_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs
        .open(&dir.path().join("f"), OpenOptions::create())
        .unwrap();
    file.set_len(4096).unwrap();
    let map = file.map(1 << 20, true).unwrap();
    assert_eq!((map.len(), map.is_empty()), (1 << 20, false));
    file.write_all_at(b"later", 100).unwrap();
    // SAFETY: the range lies in the file's first page, and nothing writes to it any more.
    let seen = unsafe { std::slice::from_raw_parts(map.as_ptr().add(100), 5) };
    assert_eq!(seen, b"later");
    map.lock(4096).unwrap();
}

#[test]
fn directories_are_listed_in_order_made_and_removed_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    RealFs.create_dir_all(&deep, 0o700).unwrap();
    RealFs.create_dir_all(&deep, 0o700).unwrap();
    let mode = std::fs::metadata(&deep).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for name in ["2", "10", "1"] {
        RealFs
            .open(&deep.join(name), OpenOptions::create())
            .unwrap();
    }
    let names: Vec<String> = RealFs
        .read_dir(&deep)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["1", "10", "2"]);
    RealFs.rename(&deep.join("1"), &deep.join("3")).unwrap();
    RealFs.sync_dir(&deep).unwrap();
    assert!(RealFs.exists(&deep.join("3")) && !RealFs.exists(&deep.join("1")));
    RealFs.remove_file(&deep.join("3")).unwrap();
    RealFs.remove_dir_all(&dir.path().join("a")).unwrap();
    RealFs.remove_dir_all(&dir.path().join("a")).unwrap();
    assert!(!RealFs.exists(&deep));
}

#[test]
fn a_new_file_is_private_unless_asked_otherwise_and_create_new_refuses_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let new = OpenOptions {
        write: true,
        create_new: true,
        ..OpenOptions::default()
    };
    RealFs.open(&path, new).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        RealFs.open(&path, new).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let missing = RealFs
        .open(&dir.path().join("g"), OpenOptions::write())
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

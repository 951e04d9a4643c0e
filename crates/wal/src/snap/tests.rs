use super::*;
use api::raftpb::{ConfState, SnapshotMetadata};
use disk::RealFs;
use proptest::prelude::*;

struct Dir {
    dir: tempfile::TempDir,
    snapper: Snapshotter,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let snapper = Snapshotter::new(Arc::new(RealFs), dir.path(), Arc::new(crate::NoObserver));
        Self { dir, snapper }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let file = RealFs
            .open(&self.file(name), OpenOptions::create())
            .unwrap();
        file.write_all_at(content, 0).unwrap();
    }

    fn listing(&self) -> Vec<String> {
        RealFs
            .read_dir(self.dir.path())
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect()
    }
}

fn snapshot(term: u64, index: u64) -> Snapshot {
    let conf_state = ConfState {
        voters: vec![1, u64::MAX],
        ..ConfState::default()
    };
    let metadata = SnapshotMetadata {
        conf_state,
        index,
        term,
    };
    Snapshot {
        data: Bytes::from_static(b"{}"),
        metadata,
    }
}

fn record(term: u64, index: u64) -> WalSnapshot {
    WalSnapshot {
        index,
        term,
        conf_state: None,
    }
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = Dir::new();
    dir.snapper.save(&snapshot(2, 0xab)).unwrap();
    assert_eq!(dir.listing(), ["0000000000000002-00000000000000ab.snap"]);
    assert_eq!(
        dir.snapper.load_newest(&[record(2, 0xab)]).unwrap(),
        snapshot(2, 0xab)
    );
}

#[test]
fn the_initial_snapshot_has_no_file() {
    let dir = Dir::new();
    dir.snapper.save(&snapshot(0, 0)).unwrap();
    assert!(dir.listing().is_empty());
    assert!(matches!(dir.snapper.load(), Err(Error::NoSnapshot)));
}

#[test]
fn a_file_without_a_record_in_the_log_is_an_orphan() {
    let dir = Dir::new();
    for (term, index) in [(1, 5), (1, 0x10), (2, 7)] {
        dir.snapper.save(&snapshot(term, index)).unwrap();
    }
    // The term counts before the index.
    assert_eq!(dir.snapper.load().unwrap(), snapshot(2, 7));
    let known = [record(1, 5), record(1, 0x10)];
    assert_eq!(dir.snapper.load_newest(&known).unwrap(), snapshot(1, 0x10));
    let err = dir.snapper.load_newest(&[record(1, 7)]).unwrap_err();
    assert_eq!(err.to_string(), "snap: no available snapshot");
}

#[test]
fn broken_files_are_set_aside_and_older_ones_used() {
    let dir = Dir::new();
    dir.snapper.save(&snapshot(1, 1)).unwrap();
    dir.snapper.save(&snapshot(1, 2)).unwrap();
    let newest = "0000000000000001-0000000000000002.snap";
    let content = std::fs::read(dir.file(newest)).unwrap();
    let mut flipped = content.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bad, text) in [
        (&flipped[..], "snap: crc mismatch"),
        (&[], "snap: empty snapshot"),
        (&[0x08, 0x05], "snap: empty snapshot"),
    ] {
        dir.put(newest, &[]);
        RealFs
            .open(&dir.file(newest), OpenOptions::write())
            .unwrap()
            .set_len(0)
            .unwrap();
        dir.put(newest, bad);
        assert_eq!(
            read(&RealFs, &dir.file(newest)).unwrap_err().to_string(),
            text
        );
        assert_eq!(dir.snapper.load().unwrap(), snapshot(1, 1));
        assert!(dir.listing().contains(&format!("{newest}.broken")));
        assert!(!dir.listing().contains(&newest.to_owned()));
    }
}

#[test]
fn leftovers_go_at_their_time() {
    let dir = Dir::new();
    for name in [
        "db",
        "db.tmp.123",
        "tmp99",
        "0000000000000004.snap.db",
        "0000000000000005.snap.db",
        "x.snap.db",
    ] {
        dir.put(name, b"x");
    }
    dir.snapper.save(&snapshot(1, 2)).unwrap();
    let snap = "0000000000000001-0000000000000002.snap";
    assert_eq!(dir.snapper.names().unwrap(), [snap]);
    dir.snapper.remove_temporary().unwrap();
    dir.snapper.release_db_before(5).unwrap();
    assert_eq!(
        dir.listing(),
        [snap, "0000000000000005.snap.db", "db", "x.snap.db"]
    );
    assert_eq!(
        dir.snapper.find_db(5).unwrap(),
        dir.file("0000000000000005.snap.db")
    );
    let err = dir.snapper.find_db(4).unwrap_err();
    assert_eq!(err.to_string(), "snap: snapshot file doesn't exist");
}

#[test]
fn a_received_database_appears_only_when_complete() {
    let dir = Dir::new();
    let mut receiver = dir.snapper.receive_db(0x1f).unwrap();
    receiver.write(b"abc").unwrap();
    assert!(dir.snapper.find_db(0x1f).is_err());
    drop(receiver);
    assert!(dir.listing().is_empty());

    let mut receiver = dir.snapper.receive_db(0x1f).unwrap();
    receiver.write(b"abc").unwrap();
    receiver.write(b"de").unwrap();
    assert_eq!(receiver.finish().unwrap(), 5);
    assert_eq!(
        std::fs::read(dir.snapper.find_db(0x1f).unwrap()).unwrap(),
        b"abcde"
    );

    // The first one that is complete stays.
    let mut receiver = dir.snapper.receive_db(0x1f).unwrap();
    receiver.write(b"other").unwrap();
    receiver.finish().unwrap();
    assert_eq!(dir.listing(), ["000000000000001f.snap.db"]);
    assert_eq!(std::fs::read(dir.snapper.db_path(0x1f)).unwrap(), b"abcde");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let dir = Dir::new();
        dir.put("x.snap", &bytes);
        let _ = read(&RealFs, &dir.file("x.snap"));
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed(bit in 0usize..400) {
        let dir = Dir::new();
        dir.snapper.save(&snapshot(3, 9)).unwrap();
        let path = dir.file("0000000000000003-0000000000000009.snap");
        let mut content = std::fs::read(&path).unwrap();
        let at = (bit / 8) % content.len();
        content[at] ^= 1 << (bit % 8);
        dir.put("0000000000000003-0000000000000009.snap", &content);
        if let Ok(read) = read(&RealFs, &path) {
            prop_assert_eq!(read, snapshot(3, 9));
        }
    }
}

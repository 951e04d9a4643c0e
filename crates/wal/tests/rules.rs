//! What etcd accepts and refuses when it opens a log, with its texts.

mod common;

use std::path::Path;

use api::raftpb::HardState;
use common::{METADATA, entry, open, real, small, snapshot};
use disk::{Fs, OpenOptions, RealFs};
use wal::{Error, Preparation, Wal, WalSnapshot};

const FIRST: &str = "0000000000000000-0000000000000000.wal";

fn create(dir: &Path) -> Wal {
    Wal::create(real(), dir, METADATA, small(Preparation::OnDemand)).unwrap()
}

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

fn put(path: &Path, content: &[u8]) {
    let options = OpenOptions {
        truncate: true,
        ..OpenOptions::create()
    };
    RealFs
        .open(path, options)
        .unwrap()
        .write_all_at(content, 0)
        .unwrap();
}

#[test]
fn an_empty_directory_has_no_log() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(text(open(root.path())), "wal: file not found");
    assert_eq!(
        text(wal::valid_snapshots(&RealFs, root.path())),
        "wal: file not found"
    );
    put(&root.path().join("0.tmp"), b"");
    put(&root.path().join("x.wal"), b"");
    assert_eq!(text(open(root.path())), "wal: file not found");
}

#[test]
fn a_missing_segment_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    for name in ["1-5.wal", "2-8.wal", "4-9.wal"] {
        put(&root.path().join(name), b"");
    }
    let start = |index| WalSnapshot {
        index,
        ..WalSnapshot::default()
    };
    let read = |index| wal::read_only(&RealFs, root.path(), &start(index));
    assert_eq!(
        text(read(4)),
        "wal: file not found which matches the snapshot index '4'"
    );
    let gap = "wal: file sequence numbers (starting from 1) do not increase continuously";
    assert_eq!(text(read(7)), gap);
    // From the last segment on nothing is missing.
    assert_eq!(text(read(9)), "wal: snapshot not found");
}

#[test]
fn a_snapshot_record_must_fit_the_one_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    let state = HardState {
        term: 1,
        vote: 1,
        commit: 4,
    };
    let entries: Vec<_> = (1..=6).map(|i| entry(1, i, 10)).collect();
    wal.save(Some(&state), &entries).unwrap();
    for index in [3, 5] {
        wal.save_snapshot(&snapshot(1, index)).unwrap();
    }
    wal.close().unwrap();

    // Beyond the commit index a snapshot never became the base of the log.
    let valid = wal::valid_snapshots(&RealFs, &dir).unwrap();
    assert_eq!(valid, [WalSnapshot::default(), snapshot(1, 3)]);
    let read = wal::read_only(&RealFs, &dir, &valid[1]).unwrap();
    assert_eq!(read.entries, entries[3..]);
    assert_eq!(read.snapshot, snapshot(1, 3));
    assert_eq!(
        text(wal::verify(&RealFs, &dir, &snapshot(2, 3))),
        "wal: snapshot mismatch"
    );
    assert_eq!(
        text(wal::read_only(&RealFs, &dir, &snapshot(1, 4))),
        "wal: snapshot not found"
    );
    assert_eq!(wal::verify(&RealFs, &dir, &snapshot(1, 5)).unwrap(), state);
    // For writing, a missing record is no error.
    let (_, recovered) =
        Wal::open(real(), &dir, &snapshot(1, 4), small(Preparation::OnDemand)).unwrap();
    assert_eq!(recovered.entries, entries[4..]);
}

#[test]
fn later_entries_override_earlier_ones() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    wal.save(None, &[entry(1, 1, 5), entry(1, 2, 5), entry(1, 3, 5)])
        .unwrap();
    wal.save(None, &[entry(2, 2, 5)]).unwrap();
    wal.close().unwrap();
    let (wal, recovered) = open(&dir).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, 5), entry(2, 2, 5)]);
    assert_eq!(wal.last_index(), 2);
}

#[test]
fn entries_with_a_gap_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    wal.save_snapshot(&snapshot(1, 9)).unwrap();
    wal.save(None, &[entry(1, 10, 5)]).unwrap();
    wal.close().unwrap();
    assert_eq!(
        text(open(&dir)),
        "wal: slice bounds out of range, snapshot[Index: 0, Term: 0], current entry[Index: 10, Term: 1], len(ents): 0"
    );
}

#[test]
fn segments_of_different_logs_do_not_mix() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    create(&dir).close().unwrap();
    let other = root.path().join("other");
    let wal = Wal::create(
        real(),
        &other,
        b"\x08\x08\x10\x09",
        small(Preparation::OnDemand),
    );
    wal.unwrap().close().unwrap();
    let second = std::fs::read(other.join(FIRST)).unwrap();
    put(&dir.join("1-1.wal"), &second);
    // The second segment begins with a checksum of 0, which is not where the first one ended.
    let mismatch = "walpb: crc mismatch: expected: 0 computed: ";
    assert!(text(wal::verify(&RealFs, &dir, &WalSnapshot::default())).starts_with(mismatch));

    // With the right checksum the metadata tell them apart.
    let whole = std::fs::read(dir.join(FIRST)).unwrap();
    let used = 16 + 8 + 16 + 8 + 16;
    let crc = crc_of_last_record(&whole[..used]);
    let mut forged = vec![];
    forged.extend(frame(4, crc, None));
    let metadata = b"\x08\x08\x10\x09";
    forged.extend(frame(
        1,
        crc32c::crc32c_append(crc, metadata),
        Some(metadata),
    ));
    put(&dir.join("1-1.wal"), &forged);
    assert_eq!(text(open(&dir)), "wal: conflicting metadata found");
}

/// A frame, made independently of the code under test.
fn frame(kind: u8, crc: u32, data: Option<&[u8]>) -> Vec<u8> {
    let mut record = vec![0x08, kind, 0x10];
    let mut rest = crc;
    while rest >= 0x80 {
        record.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    record.push(rest as u8);
    if let Some(data) = data {
        record.extend([0x1a, data.len() as u8]);
        record.extend(data);
    }
    let padding = (8 - record.len() % 8) % 8;
    let mut frame = (record.len() as u64).to_le_bytes().to_vec();
    frame[7] = if padding == 0 {
        0
    } else {
        0x80 | padding as u8
    };
    frame.extend(record);
    frame.resize(frame.len() + padding, 0);
    frame
}

/// The running checksum after a log of metadata and the empty snapshot record.
fn crc_of_last_record(_log: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(METADATA), b"\x08\x00\x10\x00")
}

#[test]
fn unknown_records_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut log = frame(4, 0, None);
    log.extend(frame(6, crc32c::crc32c(b"x"), Some(b"x")));
    put(&root.path().join(FIRST), &log);
    assert_eq!(text(open(root.path())), "unexpected block type 6");
    // The scan for snapshots passes over them, as etcd's does.
    assert!(
        wal::valid_snapshots(&RealFs, root.path())
            .unwrap()
            .is_empty()
    );
}

/// 3.5 and 3.6 write fields that are zero, 3.7 leaves them out; members were not part of snapshot
/// records before 3.5.
#[test]
fn records_of_all_releases_are_read() {
    let root = tempfile::tempdir().unwrap();
    let mut log = frame(4, 0, None);
    let mut crc = 0;
    let records: [(u8, &[u8]); 7] = [
        (1, METADATA),
        (5, b"\x08\x00\x10\x00"),
        (2, b"\x08\x00\x10\x01\x18\x01"),
        (2, b"\x10\x02\x18\x02\x22\x00"),
        (3, b"\x08\x02\x10\x00\x18\x01"),
        (5, b"\x08\x01\x10\x01"),
        (3, b"\x08\x02\x18\x02"),
    ];
    for (kind, data) in records {
        crc = crc32c::crc32c_append(crc, data);
        log.extend(frame(kind, crc, Some(data)));
    }
    put(&root.path().join(FIRST), &log);
    let (_, recovered) = open(root.path()).unwrap();
    assert_eq!(
        recovered.hard_state,
        HardState {
            term: 2,
            vote: 0,
            commit: 2
        }
    );
    assert_eq!(recovered.entries, [entry(1, 1, 0), entry(2, 2, 0)]);
    assert_eq!(recovered.metadata, METADATA);
    let bare = WalSnapshot {
        index: 1,
        term: 1,
        conf_state: None,
    };
    let valid = wal::valid_snapshots(&RealFs, root.path()).unwrap();
    assert_eq!(valid, [WalSnapshot::default(), bare]);
}

/// The metadata go into later segments as they were read, byte for byte.
#[test]
fn metadata_are_not_encoded_anew() {
    let root = tempfile::tempdir().unwrap();
    // Node id 0 written out, and an unknown field.
    let metadata = b"\x08\x00\x10\x09\x78\x01";
    let mut log = frame(4, 0, None);
    log.extend(frame(1, crc32c::crc32c(metadata), Some(metadata)));
    put(&root.path().join(FIRST), &log);
    let (mut wal, recovered) = open(root.path()).unwrap();
    assert_eq!(recovered.metadata, metadata);
    wal.save(None, &[entry(1, 1, 20_000), entry(1, 2, 1)])
        .unwrap();
    wal.close().unwrap();
    assert_eq!(common::segment_names(root.path()).len(), 2);
    let (wal, recovered) = open(root.path()).unwrap();
    assert_eq!(recovered.metadata, metadata);
    assert_eq!(wal.metadata(), metadata);
}

#[test]
fn a_torn_end_is_cut_off_and_kept_aside() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    wal.save(None, &[entry(1, 1, 100)]).unwrap();
    wal.save(None, &[entry(1, 2, 2000)]).unwrap();
    wal.close().unwrap();
    let path = dir.join(FIRST);
    let sound = std::fs::read(&path).unwrap();
    let mut torn = sound.clone();
    torn[1024..1536].fill(0);
    put(&path, &torn);

    // Who only reads sees the end there.
    let read = wal::read_only(&RealFs, &dir, &WalSnapshot::default()).unwrap();
    assert_eq!(read.entries, [entry(1, 1, 100)]);
    assert_eq!(std::fs::read(&path).unwrap(), torn);
    let (mut wal, recovered) = open(&dir).unwrap();
    assert_eq!(recovered.entries, read.entries);
    assert_eq!(
        std::fs::read(dir.join(format!("{FIRST}.broken"))).unwrap(),
        torn
    );
    wal.save(None, &[entry(2, 2, 30)]).unwrap();
    wal.close().unwrap();
    // Nothing of the torn record is left behind the new one.
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after.len(), sound.len());
    assert!(after[300..].iter().all(|b| *b == 0));
    let (_, recovered) = open(&dir).unwrap();
    assert_eq!(recovered.entries, [entry(1, 1, 100), entry(2, 2, 30)]);
}

#[test]
fn damage_that_no_torn_write_explains_is_not_repaired() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    wal.save(None, &[entry(1, 1, 100)]).unwrap();
    wal.save(None, &[entry(1, 2, 2000)]).unwrap();
    wal.close().unwrap();
    let path = dir.join(FIRST);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[1024] ^= 1;
    put(&path, &damaged);
    let err = text(open(&dir));
    assert!(err.starts_with("walpb: crc mismatch: expected: "), "{err}");
    assert!(
        err.contains(&format!(": in file '{FIRST}' at position: ")),
        "{err}"
    );
    assert!(text(wal::valid_snapshots(&RealFs, &dir)).starts_with("walpb: crc mismatch"));
    assert!(text(wal::read_only(&RealFs, &dir, &WalSnapshot::default())).starts_with("walpb"));
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    assert!(!RealFs.exists(&dir.join(format!("{FIRST}.broken"))));
}

/// A record that ends in the middle of a segment before the last one was not torn by the last crash.
#[test]
fn a_torn_record_before_the_last_segment_stays_an_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    wal.save(None, &[entry(1, 1, 5000), entry(1, 2, 12_000)])
        .unwrap();
    wal.save(None, &[entry(1, 3, 5)]).unwrap();
    wal.close().unwrap();
    let path = dir.join(FIRST);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[1024..1536].fill(0);
    put(&path, &damaged);
    assert!(text(open(&dir)).starts_with("walpb: crc mismatch"));
    damaged.truncate(3000);
    put(&path, &damaged);
    let err = open(&dir).unwrap_err();
    assert!(err.is_unexpected_eof(), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

/// A segment without its head gets one, so that replay can start from it.
#[test]
fn an_empty_last_segment_gets_its_head() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let mut wal = create(&dir);
    let state = HardState {
        term: 1,
        vote: 3,
        commit: 1,
    };
    wal.save(Some(&state), &[entry(1, 1, 5)]).unwrap();
    wal.close().unwrap();
    put(&dir.join("1-2.wal"), &[0; 4096]);
    let (mut wal, _) = open(&dir).unwrap();
    wal.save_snapshot(&snapshot(1, 1)).unwrap();
    wal.save(None, &[entry(1, 2, 5)]).unwrap();
    wal.close().unwrap();
    let start = snapshot(1, 2);
    let (_, recovered) = Wal::open(real(), &dir, &start, small(Preparation::OnDemand)).unwrap();
    assert_eq!(recovered.metadata, METADATA);
    assert_eq!(recovered.hard_state, state);
}

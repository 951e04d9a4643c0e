//! Damaged and foreign bytes never make a reader panic, and never make it allocate what they claim.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::{Call, Driver, METADATA, open, real, small};
use disk::{Fs, OpenOptions, RealFs};
use proptest::prelude::*;
use wal::{Error, Preparation, Wal, WalSnapshot};

type Files = Vec<(String, Vec<u8>)>;

/// A log of three segments.
fn sound() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("wal");
        let wal = Wal::create(real(), &dir, METADATA, small(Preparation::OnDemand)).unwrap();
        let mut driver = Driver::new(wal);
        for i in 0..9u64 {
            let lens = vec![700, 2500, 30];
            driver
                .call(&Call::Save {
                    back: 1,
                    lens,
                    new_term: i % 3 == 0,
                })
                .unwrap();
            driver.call(&Call::Snapshot).unwrap();
        }
        driver.wal.close().unwrap();
        let names = common::segment_names(&dir);
        assert!(names.len() >= 2);
        names
            .into_iter()
            .map(|n| (n.clone(), std::fs::read(dir.join(n)).unwrap()))
            .collect()
    })
}

fn write(dir: &Path, files: &Files) {
    for (name, content) in files {
        let file = RealFs.open(&dir.join(name), OpenOptions::create()).unwrap();
        file.write_all_at(content, 0).unwrap();
    }
}

fn read_everything(dir: &Path) {
    let fs = RealFs;
    let _ = wal::valid_snapshots(&fs, dir);
    for index in [0, 3, 1 << 40] {
        let start = WalSnapshot {
            index,
            ..WalSnapshot::default()
        };
        let _ = wal::read_only(&fs, dir, &start);
        let _ = wal::verify(&fs, dir, &start);
    }
    if let Ok((mut wal, _)) = open(dir) {
        let next = common::entry(99, wal.last_index().saturating_add(1), 10);
        let _ = wal.save(None, &[next]);
        let _ = wal.close();
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        let mut files = sound().clone();
        for (file, bit) in flips {
            let content = &mut file.get_mut(&mut files).1;
            // Most of the last segment is empty: aim at what is in use.
            let bit = bit.index(content.len().min(12_000) * 8);
            content[bit / 8] ^= 1 << (bit % 8);
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files);
        read_everything(dir.path());
    }

    #[test]
    fn cut_files(file: prop::sample::Index, at: prop::sample::Index) {
        let mut files = sound().clone();
        let content = &mut file.get_mut(&mut files).1;
        let at = at.index(content.len());
        content.truncate(at);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files);
        read_everything(dir.path());
    }

    #[test]
    fn any_bytes(content: Vec<u8>, words in prop::collection::vec(any::<u64>(), 0..8)) {
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(content);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &vec![("0-0.wal".to_owned(), bytes)]);
        read_everything(dir.path());
    }

    /// Cut anywhere in its last segment, a log opens with the entries before the cut.
    #[test]
    fn a_cut_in_the_last_segment_is_repaired(at: prop::sample::Index) {
        let mut files = sound().clone();
        let content = &mut files.last_mut().unwrap().1;
        let at = at.index(content.len());
        content.truncate(at);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files);
        let (wal, recovered) = open(dir.path()).unwrap();
        drop(wal);
        let whole = tempfile::tempdir().unwrap();
        write(whole.path(), sound());
        let (_, all) = open(whole.path()).unwrap();
        let same = recovered.entries.iter().zip(&all.entries).take_while(|(a, b)| a == b).count();
        // Only entries that were overridden later may differ.
        prop_assert!(recovered.entries.len() <= same + 2);
    }
}

#[test]
fn a_huge_length_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0-0.wal");
    let file = RealFs.open(&path, OpenOptions::create()).unwrap();
    file.write_all_at(&(1u64 << 55).to_le_bytes(), 0).unwrap();
    let err = Wal::open(
        real(),
        dir.path(),
        &WalSnapshot::default(),
        small(Preparation::OnDemand),
    );
    assert!(err.is_ok(), "the claim looks like a torn write: {err:?}");

    // A sparse file can back any claim.
    let file = RealFs.open(&path, OpenOptions::create()).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&(1u64 << 39).to_le_bytes(), 0).unwrap();
    let err = wal::verify(&RealFs, dir.path(), &WalSnapshot::default()).unwrap_err();
    assert!(matches!(err, Error::Malformed { .. }), "{err}");
}

//! Files that somebody has damaged, by chance or on purpose: errors are fine, panics, endless loops and reads
//! outside of the file are not.

mod exercise;
mod support;

use std::sync::{Arc, OnceLock};

use bbolt::{Db, Options};
use disk::RealFs;
use exercise::use_file;
use proptest::prelude::*;
use support::{Random, open, small_pages};

const PAGE: usize = 1024;

/// A valid file with every kind of page: branches, leaves, overflow, nested and inline buckets, freelist.
fn valid(no_freelist_sync: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = open(
        &path,
        Options {
            no_freelist_sync,
            ..small_pages()
        },
    );
    let mut random = Random(5);
    for round in 0..4u8 {
        let mut tx = db.write().unwrap();
        for name in ["key", "meta", "lease"] {
            let mut bucket = tx.create_bucket_if_missing(name.as_bytes()).unwrap();
            let count = if name == "key" { 60 } else { 2 };
            for _ in 0..count {
                let len = [20, 60, 200, 3000][random.below(4) as usize];
                let key = format!("{:04}", random.below(900));
                bucket.put(key.as_bytes(), &random.bytes(len)).unwrap();
            }
            let mut nested = bucket.create_bucket_if_missing(b"nested").unwrap();
            nested.put(&[round], b"inline").unwrap();
            nested
                .create_bucket_if_missing(b"deeper")
                .unwrap()
                .put(b"x", b"y")
                .unwrap();
        }
        tx.commit().unwrap();
    }
    drop(db);
    std::fs::read(&path).unwrap()
}

fn samples() -> &'static [Vec<u8>; 2] {
    static SAMPLES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    SAMPLES.get_or_init(|| [valid(true), valid(false)])
}

#[derive(Clone, Debug)]
enum Damage {
    Bit(usize, u8),
    Byte(usize, u8),
    /// A header or element field is set to a number that means something.
    Field(usize, usize, u64),
    CopyPage(usize, usize),
    ZeroPage(usize),
    Truncate(usize),
    Noise(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>().prop_map(|i| i.index(1 << 20));
    prop_oneof![
        3 => (at.clone(), 0u8..8).prop_map(|(a, b)| Damage::Bit(a, b)),
        2 => (at.clone(), any::<u8>()).prop_map(|(a, b)| Damage::Byte(a, b)),
        6 => (0usize..64, 0usize..12, 0u64..70).prop_map(|(p, f, v)| Damage::Field(p, f, v)),
        2 => (0usize..64, 0usize..64).prop_map(|(a, b)| Damage::CopyPage(a, b)),
        1 => (0usize..64).prop_map(Damage::ZeroPage),
        1 => at.clone().prop_map(Damage::Truncate),
        1 => (at, prop::collection::vec(any::<u8>(), 1..64)).prop_map(|(a, n)| Damage::Noise(a, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let pages = bytes.len() / PAGE;
    if pages < 2 {
        return;
    }
    let len = bytes.len();
    match damage {
        Damage::Bit(at, bit) => bytes[at % len] ^= 1 << bit,
        Damage::Byte(at, byte) => bytes[at % len] = *byte,
        Damage::Field(page, field, value) => {
            // Pages 0 and 1 are protected by their checksum and left alone here.
            let page = 2 + page % (pages - 2).max(1);
            let at = page * PAGE;
            let (offset, size) = match field {
                0 => (0, 8),
                1 => (8, 2),
                2 => (10, 2),
                3 => (12, 4),
                n => (16 + (n - 4) * 4, 4),
            };
            let value = match value {
                60 => 0xFFFF,
                61 => 0xFFFF_FFFF,
                62 => u64::MAX,
                63 => 0xFFFF_FFF0,
                64 => 0x10,
                n => *n,
            };
            if at + offset + size <= len {
                bytes[at + offset..at + offset + size]
                    .copy_from_slice(&value.to_le_bytes()[..size]);
            }
        }
        Damage::CopyPage(from, to) => {
            let (from, to) = (from % pages, to % pages);
            let copy = bytes[from * PAGE..(from + 1) * PAGE].to_vec();
            bytes[to * PAGE..(to + 1) * PAGE].copy_from_slice(&copy);
            if to >= 2 && from % 2 == 0 {
                bytes[to * PAGE..to * PAGE + 8].copy_from_slice(&(to as u64).to_le_bytes());
            }
        }
        Damage::ZeroPage(page) => {
            let page = page % pages;
            bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        }
        Damage::Truncate(at) => bytes.truncate(at % len),
        Damage::Noise(at, noise) => {
            let at = at % len;
            let end = (at + noise.len()).min(len);
            bytes[at..end].copy_from_slice(&noise[..end - at]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_give_errors_only(
        sample in 0usize..2,
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut bytes = samples()[sample].clone();
        // Without the preallocated end, damage hits something.
        let used = bytes.chunks(PAGE).rposition(|page| page.iter().any(|b| *b != 0)).unwrap_or(0);
        bytes.truncate((used + 1) * PAGE);
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        use_file(&bytes);
    }

    #[test]
    fn noise_gives_errors_only(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        use_file(&bytes);
    }
}

/// A branch page whose children are all the same page, on every level: a reader that followed all of them
/// would not come back.
#[test]
fn a_pyramid_of_shared_pages_ends_reading() {
    let mut bytes = vec![0; PAGE * 45];
    let header = |bytes: &mut Vec<u8>, id: usize, flags: u16, count: u16| {
        bytes[id * PAGE..id * PAGE + 8].copy_from_slice(&(id as u64).to_le_bytes());
        bytes[id * PAGE + 8..id * PAGE + 10].copy_from_slice(&flags.to_le_bytes());
        bytes[id * PAGE + 10..id * PAGE + 12].copy_from_slice(&count.to_le_bytes());
    };
    let template = &samples()[0];
    bytes[..2 * PAGE].copy_from_slice(&template[..2 * PAGE]);
    for meta in 0..2 {
        let body = &mut bytes[meta * PAGE + 16..meta * PAGE + 80];
        body[16..24].copy_from_slice(&3u64.to_le_bytes());
        body[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        body[40..48].copy_from_slice(&45u64.to_le_bytes());
        let sum = body[..56]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
                (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
            });
        body[56..64].copy_from_slice(&sum.to_le_bytes());
    }
    for id in 3..43 {
        header(&mut bytes, id, 1, 2);
        for element in 0..2usize {
            let at = id * PAGE + 16 + element * 16;
            let pos = 32 - element * 16 + element;
            bytes[at..at + 4].copy_from_slice(&(pos as u32).to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&1u32.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&(id as u64 + 1).to_le_bytes());
            bytes[id * PAGE + 48 + element] = b'a' + element as u8;
        }
    }
    header(&mut bytes, 43, 2, 1);
    header(&mut bytes, 44, 2, 0);
    let at = 43 * PAGE + 16;
    bytes[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&16u32.to_le_bytes());
    bytes[at + 8..at + 12].copy_from_slice(&1u32.to_le_bytes());
    bytes[at + 12..at + 16].copy_from_slice(&16u32.to_le_bytes());
    bytes[at + 16] = b'a';
    bytes[at + 17] = 44;
    use_file(&bytes);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    #[allow(clippy::disallowed_methods)]
    std::fs::write(&path, &bytes).unwrap();
    let error = Db::open(Arc::new(RealFs), &path, small_pages()).unwrap_err();
    assert_eq!(error.to_string(), "page 43: multiple references");
    let db = Db::open(
        Arc::new(RealFs),
        &path,
        Options {
            read_only: true,
            ..small_pages()
        },
    )
    .unwrap();
    let tx = db.read().unwrap();
    assert!(tx.buckets().any(|name| name.is_err()));
    let findings: Vec<String> = tx.check().iter().map(ToString::to_string).collect();
    assert!(
        findings
            .iter()
            .any(|text| text == "page 43: multiple references"),
        "{findings:?}"
    );
}

#[test]
fn every_truncation_is_refused_or_sound() {
    let bytes = &samples()[0];
    for len in (0..bytes.len()).step_by(997) {
        use_file(&bytes[..len]);
    }
}

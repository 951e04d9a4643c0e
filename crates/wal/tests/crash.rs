//! After a crash at any point the log opens to what had been synced, perhaps with more of what had been
//! appended, and can go on.

mod common;

use std::sync::Arc;

use common::{Call, Driver, METADATA, Model, open, small};
use disk::testing::RecordingFs;
use disk::{Fs, OpenOptions, RealFs};
use wal::{Preparation, Wal, WalSnapshot};

/// Images per number of operations: all lost, all kept, and two torn in random ways.
const SEEDS: [u64; 4] = [0, 1, 2, 3];

/// What was known after some number of operations on the disk.
struct Acknowledged {
    ops: usize,
    durable: usize,
}

fn script() -> Vec<Call> {
    let mut calls = Vec::new();
    for round in 0..9u64 {
        let new_term = round % 3 == 0;
        calls.push(Call::Save {
            back: round % 4,
            lens: vec![40, 700, 10],
            new_term,
        });
        calls.push(Call::Commit);
        calls.push(Call::Append {
            back: 0,
            lens: vec![300; 4],
            new_term: false,
        });
        calls.push(Call::Append {
            back: 2,
            lens: vec![90, 2000],
            new_term: round % 2 == 0,
        });
        calls.push(Call::Sync);
        match round {
            2 | 6 => calls.push(Call::Snapshot),
            4 => calls.push(Call::Save {
                back: 0,
                lens: vec![150_000],
                new_term: false,
            }),
            _ => {}
        }
        calls.push(Call::Append {
            back: 1,
            lens: vec![5; 3],
            new_term: true,
        });
        calls.push(Call::Commit);
    }
    calls
}

/// Compares one image with what had been asked for.
fn check(image: &std::path::Path, steps: &[common::Step], durable: usize, what: &str) {
    let dir = image.join("wal");
    let (wal, recovered) = open(&dir).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(recovered.metadata, METADATA, "{what}");
    let mut model = Model::default();
    steps[..durable].iter().for_each(|step| model.take(step));
    let mut found = model.agrees(&recovered);
    for step in &steps[durable..] {
        if found {
            break;
        }
        model.take(step);
        found = model.agrees(&recovered);
    }
    assert!(found, "{what}: not a prefix that has all that was synced");

    let valid = wal::valid_snapshots(&RealFs, &dir).unwrap();
    let commit = recovered.hard_state.commit;
    let mut synced = Model::default();
    steps[..durable].iter().for_each(|step| synced.take(step));
    for snapshot in synced.snapshots.iter().filter(|s| s.index <= commit) {
        assert!(valid.contains(snapshot), "{what}: lost {snapshot:?}");
    }

    let mut driver = Driver::resume(wal, &recovered);
    driver
        .call(&Call::Save {
            back: 0,
            lens: vec![1000; 3],
            new_term: true,
        })
        .unwrap();
    driver.wal.close().unwrap();
    let (_, again) = open(&dir).unwrap_or_else(|e| panic!("{what}, second start: {e}"));
    assert!(driver.steps.len() > again.entries.len());
    let mut whole = Model::default();
    driver.steps.iter().for_each(|step| whole.take(step));
    assert!(whole.agrees(&again), "{what}, second start");
}

fn crash_everywhere(preparation: Preparation, every: usize) {
    let root = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(root.path()).unwrap();
    let dir = root.path().join("wal");
    let wal = Wal::create(Arc::new(fs.clone()), &dir, METADATA, small(preparation)).unwrap();
    let created = fs.op_count();
    let mut driver = Driver::new(wal);
    let mut acknowledged = vec![Acknowledged {
        ops: created,
        durable: 0,
    }];
    for call in script() {
        driver.call(&call).unwrap();
        acknowledged.push(Acknowledged {
            ops: fs.op_count(),
            durable: driver.durable,
        });
    }
    let Driver { wal, steps, .. } = driver;
    wal.close().unwrap();

    for ops in (0..=fs.op_count()).step_by(every) {
        for seed in SEEDS {
            // The seed also varies with the point, or all images would be torn alike.
            let seed = if seed < 2 {
                seed
            } else {
                seed + 100 * ops as u64
            };
            let image = tempfile::tempdir().unwrap();
            fs.crash_image(ops, seed, image.path()).unwrap();
            if ops < created {
                // Either there is no log yet or a complete one.
                if wal::exists(&RealFs, &image.path().join("wal")) {
                    check(
                        image.path(),
                        &steps[..0],
                        0,
                        &format!("creation, ops {ops} seed {seed}"),
                    );
                }
                continue;
            }
            let durable = acknowledged
                .iter()
                .rfind(|a| a.ops <= ops)
                .map_or(0, |a| a.durable);
            check(
                image.path(),
                &steps,
                durable,
                &format!("ops {ops} seed {seed}"),
            );
        }
    }
}

#[test]
fn every_crash_leaves_what_was_synced() {
    crash_everywhere(Preparation::OnDemand, 1);
}

#[test]
fn crashes_while_segments_are_prepared_in_the_background() {
    crash_everywhere(Preparation::ZeroFilled, 2);
}

#[test]
fn crashes_while_segments_are_reserved_in_the_background() {
    crash_everywhere(Preparation::Reserved, 3);
}

/// The second crash happens while the first one is being repaired, or right after.
#[test]
fn a_crash_during_repair_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(root.path()).unwrap();
    let dir = root.path().join("wal");
    let options = small(Preparation::OnDemand);
    let wal = Wal::create(Arc::new(fs.clone()), &dir, METADATA, options.clone()).unwrap();
    let mut driver = Driver::new(wal);
    driver
        .call(&Call::Save {
            back: 0,
            lens: vec![100; 5],
            new_term: false,
        })
        .unwrap();
    driver
        .call(&Call::Append {
            back: 0,
            lens: vec![3000; 2],
            new_term: false,
        })
        .unwrap();
    let before = fs.op_count();
    driver.call(&Call::Sync).unwrap();
    let steps = driver.steps.clone();
    drop(driver);
    let durable = 6; // five entries and a hard state
    for first_seed in 2..20 {
        let first = tempfile::tempdir().unwrap();
        // The write is there, its sync is not.
        fs.crash_image(before + 1, first_seed, first.path())
            .unwrap();
        let again = RecordingFs::new(first.path()).unwrap();
        let (wal, recovered) = Wal::open(
            Arc::new(again.clone()),
            &first.path().join("wal"),
            &WalSnapshot::default(),
            options.clone(),
        )
        .unwrap();
        let mut driver = Driver::resume(wal, &recovered);
        driver
            .call(&Call::Append {
                back: 0,
                lens: vec![2500],
                new_term: false,
            })
            .unwrap();
        driver.call(&Call::Sync).unwrap();
        let kept = recovered.entries.len();
        let mut all = steps[..durable].to_vec();
        all.extend(steps[durable..].iter().take(kept - 5).cloned());
        let later = driver.steps[kept + 1..].to_vec();
        drop(driver);
        for ops in 0..again.op_count() {
            for seed in 0..16 {
                let second = tempfile::tempdir().unwrap();
                again
                    .crash_image(
                        ops,
                        if seed < 2 {
                            seed
                        } else {
                            seed * 1000 + first_seed
                        },
                        second.path(),
                    )
                    .unwrap();
                let (_, found) = open(&second.path().join("wal")).unwrap();
                // What the first crash left may be kept or lost; what was synced before is there.
                assert!(found.entries.len() >= 5, "{first_seed} {ops} {seed}");
                let expected: Vec<_> = all
                    .iter()
                    .chain(&later)
                    .filter_map(|s| {
                        if let common::Step::Entry(e) = s {
                            Some(e.clone())
                        } else {
                            None
                        }
                    })
                    .collect();
                assert_eq!(found.entries, expected[..found.entries.len()]);
            }
        }
    }
}

/// What a torn write left behind the end must not mix with the next record when the machine crashes
/// again: half a record followed by old bytes looks damaged, not torn.
#[test]
fn leftovers_behind_the_end_never_reach_into_a_later_record() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wal");
    let options = small(Preparation::OnDemand);
    let wal = Wal::create(common::real(), &dir, METADATA, options.clone()).unwrap();
    let mut driver = Driver::new(wal);
    driver
        .call(&Call::Save {
            back: 0,
            lens: vec![100; 3],
            new_term: false,
        })
        .unwrap();
    let model = driver.model();
    driver.wal.close().unwrap();
    let path = dir.join(&common::segment_names(&dir)[0]);
    let file = RealFs.open(&path, OpenOptions::write()).unwrap();
    file.write_all_at(&[0x55; 4096], 1024).unwrap();

    let fs = RecordingFs::new(root.path()).unwrap();
    let start = WalSnapshot::default();
    let (wal, recovered) = Wal::open(Arc::new(fs.clone()), &dir, &start, options).unwrap();
    assert!(model.agrees(&recovered));
    let mut driver = Driver::resume(wal, &recovered);
    driver
        .call(&Call::Append {
            back: 0,
            lens: vec![2500],
            new_term: false,
        })
        .unwrap();
    let before = fs.op_count();
    driver.call(&Call::Sync).unwrap();
    for ops in 0..=before + 1 {
        for seed in 0..64 {
            let image = tempfile::tempdir().unwrap();
            fs.crash_image(ops, seed, image.path()).unwrap();
            let (_, found) = open(&image.path().join("wal"))
                .unwrap_or_else(|e| panic!("ops {ops} seed {seed}: {e}"));
            assert_eq!(found.entries[..3], model.entries);
        }
    }
}

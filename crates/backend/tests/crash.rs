//! What a crash or a failing disk leaves.

#![allow(clippy::disallowed_methods)] // Tests are at the edge.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backend::{Backend, Bucket, Config, Error, Observer, Op, Writer};
use bytes::Bytes;
use common::{Model, at, bytes, config, content};
use disk::Fs;
use disk::testing::{Fault, OpKind, RecordingFs};

/// Applies entry `index`: a revision appended, a record overwritten, one deleted now and then. All of it depends on
/// the index only, so the state after each entry is known.
fn apply(writer: &mut Writer, index: u64) {
    writer.put(
        Bucket::Key,
        common::revision(index),
        Bytes::from(vec![index as u8; 300]),
    );
    writer.put(
        Bucket::Lease,
        (index % 7).to_be_bytes(),
        bytes(&index.to_string()),
    );
    if index.is_multiple_of(5) {
        writer.delete(Bucket::Lease, (index % 3).to_be_bytes());
    }
    if index.is_multiple_of(11) {
        writer.set_conf_state(bytes(&format!("conf {index}")));
    }
    writer.end_entry(at(index));
}

fn model(index: u64) -> Model {
    let mut model = Model::new();
    for i in 1..=index {
        model.insert((Bucket::Key, common::revision(i)), vec![i as u8; 300]);
        model.insert(
            (Bucket::Lease, (i % 7).to_be_bytes().to_vec()),
            i.to_string().into_bytes(),
        );
        if i % 5 == 0 {
            model.remove(&(Bucket::Lease, (i % 3).to_be_bytes().to_vec()));
        }
    }
    model
}

/// The database holds exactly what some entry left, and says which; returns its index.
fn check(backend: &Backend) -> u64 {
    let index = backend.position().map_or(0, |position| position.index);
    assert_eq!(content(backend), model(index), "state at {index}");
    let conf = backend.get(Bucket::Meta, b"confState").unwrap();
    let expected = (index / 11 > 0).then(|| bytes(&format!("conf {}", index / 11 * 11)));
    assert_eq!(conf, expected);
    index
}

/// Runs `work` on a recorded file system and checks images of crashes all along. `work` returns, for acknowledged
/// entries, after how many operations they were acknowledged.
fn crash_everywhere(
    work: impl FnOnce(&Arc<Backend>, &mut Writer, &RecordingFs) -> Vec<(usize, u64)>,
) {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let (backend, mut writer) = backend::open(Arc::new(fs.clone()), config(dir.path())).unwrap();
    let acknowledged = work(&backend, &mut writer, &fs);
    drop((writer, backend));
    let total = fs.op_count();
    let stride = (total / 60).max(1);
    for n in (0..=total).step_by(stride) {
        for seed in [0, 1, n as u64 + 2] {
            let image = tempfile::tempdir().unwrap();
            fs.crash_image(n, seed, image.path()).unwrap();
            if !image.path().join("db").exists() {
                assert!(acknowledged.iter().all(|(ops, _)| *ops > n));
                continue;
            }
            let (backend, _writer) = common::open(image.path());
            let index = check(&backend);
            let promised = acknowledged
                .iter()
                .filter(|(ops, _)| *ops <= n)
                .map(|(_, index)| *index)
                .max()
                .unwrap_or(0);
            assert!(
                index >= promised,
                "operation {n}, seed {seed}: {index} < {promised}"
            );
            let leftovers = std::fs::read_dir(image.path()).unwrap().count();
            assert_eq!(leftovers, 1, "only the database is left");
        }
    }
}

/// Upstream issue 13766 (and 14370): after a crash the consistent index did not fit the data, so that entries were
/// applied twice or lost. Here every crash leaves the state of one entry with that entry's index, and no durable
/// entry is lost.
#[test]
fn issue_13766_data_and_consistent_index_agree_after_any_crash() {
    crash_everywhere(|backend, writer, fs| {
        let mut acknowledged = Vec::new();
        for index in 1..=120 {
            apply(writer, index);
            if index.is_multiple_of(7) {
                writer.commit().wait().unwrap();
                acknowledged.push((fs.op_count(), index));
            }
            if index.is_multiple_of(13) {
                // Deleting what is not there changes nothing, but commits without a position of its own.
                let key = Bytes::from_static(b"none");
                backend
                    .background(vec![Op::Delete {
                        bucket: Bucket::Cluster,
                        key,
                    }])
                    .wait()
                    .unwrap();
                acknowledged.push((fs.op_count(), index));
            }
        }
        acknowledged
    });
}

/// Upstream issue 14685: a crash during defragmentation damaged the database. Also checks that commits that happened
/// while the copy was made survive in the new file.
#[test]
fn issue_14685_a_crash_during_defragmentation_loses_nothing() {
    crash_everywhere(|backend, writer, fs| {
        let mut acknowledged = Vec::new();
        for round in 0..4 {
            let other = backend.clone();
            let rewriting = std::thread::spawn(move || other.defrag());
            for index in round * 40 + 1..=round * 40 + 40 {
                apply(writer, index);
                if index.is_multiple_of(3) {
                    writer.commit().wait().unwrap();
                    acknowledged.push((fs.op_count(), index));
                }
            }
            rewriting.join().unwrap().unwrap();
        }
        acknowledged
    });
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Observer for Count {
    fn fatal(&self, error: &Error) {
        assert!(matches!(error, Error::Poisoned(_)));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_failed_commit_stops_everything_and_blocks_nobody() {
    for kind in [OpKind::Sync, OpKind::Write] {
        let dir = tempfile::tempdir().unwrap();
        let fs = RecordingFs::new(dir.path()).unwrap();
        let observer = Arc::new(Count::default());
        let config = Config {
            observer: Some(observer.clone()),
            max_pending_bytes: 50_000,
            ..config(dir.path())
        };
        let (backend, mut writer) = backend::open(Arc::new(fs.clone()), config).unwrap();
        for index in 1..=10 {
            apply(&mut writer, index);
        }
        writer.commit().wait().unwrap();
        fs.fail(Fault {
            kind,
            skip: 0,
            errno: libc::EIO,
            forever: true,
        });
        apply(&mut writer, 11);
        assert!(matches!(writer.commit().wait(), Err(Error::Poisoned(_))));
        assert!(backend.failure().is_some());
        assert_eq!(observer.0.load(Ordering::SeqCst), 1);
        for index in 12..=1000 {
            apply(&mut writer, index);
        }
        assert!(backend.snapshot().is_err());
        assert!(backend.hash().is_err());
        assert_eq!(content(&backend), model(1000), "reads go on");
        drop((writer, backend));
        let (backend, _writer) = common::open(dir.path());
        assert!([10, 11].contains(&check(&backend)));
    }
}

#[test]
fn a_failing_rewrite_leaves_the_old_file_in_use() {
    for kind in [OpKind::Sync, OpKind::Write, OpKind::Open, OpKind::Rename] {
        let dir = tempfile::tempdir().unwrap();
        let fs = RecordingFs::new(dir.path()).unwrap();
        let (backend, mut writer) =
            backend::open(Arc::new(fs.clone()), config(dir.path())).unwrap();
        for index in 1..=50 {
            apply(&mut writer, index);
        }
        backend.flush().unwrap();
        fs.fail(Fault {
            kind,
            skip: 0,
            errno: libc::ENOSPC,
            forever: false,
        });
        backend.defrag().unwrap_err();
        fs.clear_faults();
        assert!(backend.failure().is_none(), "{kind:?}");
        for index in 51..=60 {
            apply(&mut writer, index);
        }
        backend.flush().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        backend.defrag().unwrap();
        drop((writer, backend));
        let (backend, _writer) = common::open(dir.path());
        assert_eq!(check(&backend), 60);
    }
}

#[test]
fn an_unknown_state_after_the_rename_is_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RecordingFs::new(dir.path()).unwrap();
    let (backend, mut writer) = backend::open(Arc::new(fs.clone()), config(dir.path())).unwrap();
    apply(&mut writer, 1);
    backend.flush().unwrap();
    let syncs = (0..fs.op_count())
        .filter(|n| fs.op_kind(*n) == Some(OpKind::SyncDir))
        .count();
    fs.fail(Fault {
        kind: OpKind::SyncDir,
        skip: 1,
        errno: libc::EIO,
        forever: true,
    });
    backend.defrag().unwrap_err();
    assert!(
        backend.failure().is_some(),
        "{syncs} directory syncs before"
    );
}

#[test]
fn a_file_system_that_fails_at_opening_gives_an_error() {
    for kind in [
        OpKind::Open,
        OpKind::Write,
        OpKind::Sync,
        OpKind::Map,
        OpKind::Lock,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fs = RecordingFs::new(dir.path()).unwrap();
        fs.fail(Fault {
            kind,
            skip: 0,
            errno: libc::EIO,
            forever: true,
        });
        let fs: Arc<dyn Fs> = Arc::new(fs);
        assert!(backend::open(fs, config(dir.path())).is_err(), "{kind:?}");
    }
}

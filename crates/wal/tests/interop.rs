//! Logs written by real etcd, and ours read by its tools.

mod common;

use std::path::{Path, PathBuf};

use api::etcdserverpb::InternalRaftRequest;
use api::raftpb::{ConfChange, Entry, EntryType, HardState};
use common::{real, small};
use disk::{Fs, RealFs};
use prost::Message;
use testkit::{Server, Version, interop, need};
use wal::snap::Snapshotter;
use wal::{Preparation, Wal, WalSnapshot};

/// Keys put before and after a disk snapshot.
const PUTS: usize = 30;

fn wal_dir(server: &Server) -> PathBuf {
    server.data_dir().join("member/wal")
}

fn put_many(server: &Server, etcdctl: &Path, from: usize) {
    let ctl = server.etcdctl(etcdctl);
    for i in from..from + PUTS {
        ctl.ok(&["put", &format!("key{i}"), &"v".repeat(i * 37)]);
    }
}

/// The puts in a row of entries: (key, length of the value).
fn puts(entries: &[Entry]) -> Vec<(String, usize)> {
    let normal = entries
        .iter()
        .filter(|e| e.r#type == EntryType::Normal as i32);
    normal
        // 3.5 writes requests of another kind for its members and versions: they do not decode, or
        // decode to nothing.
        .filter_map(|e| InternalRaftRequest::decode(e.data.clone()).ok()?.put)
        .map(|put| {
            (
                String::from_utf8_lossy(&put.key).into_owned(),
                put.value.len(),
            )
        })
        .collect()
}

fn expected_puts(from: usize, to: usize) -> Vec<(String, usize)> {
    (from..to).map(|i| (format!("key{i}"), i * 37)).collect()
}

fn check_order(entries: &[Entry], start: u64) {
    for (i, entry) in entries.iter().enumerate() {
        assert_eq!(entry.index, start + 1 + i as u64);
        assert!(entry.term > 0);
    }
}

/// A log of one release, after puts, a SIGKILL, a restart with snapshots and another SIGKILL.
fn reads_logs_of(version: Version) {
    let etcd = need!(interop::etcd(version));
    let etcdctl = need!(interop::etcdctl(version));
    let args = ["--snapshot-count=20", "--max-wals=0"];
    let mut server = Server::builder(&etcd).args(&args).start().unwrap();
    put_many(&server, &etcdctl, 0);
    server.kill();
    let dir = wal_dir(&server);

    // From the beginning: bootstrap, then the puts. Nothing that was acknowledged is missing.
    let start = WalSnapshot::default();
    let all = wal::read_only(&RealFs, &dir, &start).unwrap();
    check_order(&all.entries, 0);
    assert_eq!(puts(&all.entries), expected_puts(0, PUTS));
    assert_eq!(all.entries[0].r#type, EntryType::ConfChange as i32);
    let change = ConfChange::decode(all.entries[0].data.clone()).unwrap();
    let metadata = api::etcdserverpb::Metadata::decode(&all.metadata[..]).unwrap();
    assert_eq!(change.node_id, metadata.node_id);
    assert_ne!(metadata.cluster_id, 0);
    assert_eq!(all.hard_state.vote, metadata.node_id);

    // From the newest snapshot, as a start does.
    let snapshots = wal::valid_snapshots(&RealFs, &dir).unwrap();
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    let newest = snapshots.last().unwrap();
    assert_eq!(
        newest.conf_state.as_ref().unwrap().voters,
        [metadata.node_id]
    );
    let rest = wal::read_only(&RealFs, &dir, newest).unwrap();
    check_order(&rest.entries, newest.index);
    assert_eq!(rest.entries, all.entries[newest.index as usize..]);
    assert_eq!(wal::verify(&RealFs, &dir, newest).unwrap(), all.hard_state);

    // The file of that snapshot.
    let snap_dir = server.data_dir().join("member/snap");
    let snapper = Snapshotter::new(real(), &snap_dir, std::sync::Arc::new(wal::NoObserver));
    let snapshot = snapper.load_newest(&snapshots).unwrap();
    assert_eq!(snapshot.metadata.index, newest.index);
    assert_eq!(snapshot.metadata.term, newest.term);
    assert_eq!(snapshot.metadata.conf_state.voters, [metadata.node_id]);
    assert!(snapshot.data.starts_with(br#"{"Root":"#));

    continues_with_ours(&mut server, &dir, newest, &etcdctl, &all.entries);
}

/// Opens the log for writing, appends an empty entry (as a leader does) and hands it back.
fn continues_with_ours(
    server: &mut Server,
    dir: &Path,
    newest: &WalSnapshot,
    etcdctl: &Path,
    before: &[Entry],
) {
    let options = small(Preparation::ZeroFilled);
    let (mut wal, recovered) = Wal::open(real(), dir, newest, options).unwrap();
    let last = recovered.entries.last().map_or(newest.index, |e| e.index);
    assert_eq!(wal.last_index(), last);
    let term = recovered.hard_state.term + 1;
    let entry = Entry {
        r#type: 0,
        term,
        index: last + 1,
        data: bytes::Bytes::new(),
    };
    let state = HardState {
        term,
        vote: recovered.hard_state.vote,
        commit: last + 1,
    };
    assert!(wal.save(Some(&state), &[entry]).unwrap());
    wal.close().unwrap();

    server.restart().unwrap();
    put_many(server, etcdctl, PUTS);
    let listed = server.etcdctl(etcdctl).ok(&[
        "get",
        "key",
        "--prefix",
        "--count-only",
        "--write-out=fields",
    ]);
    assert!(
        listed.contains(&format!("\"Count\" : {}", 2 * PUTS)),
        "{listed}"
    );
    server.kill();
    let all = wal::read_only(&RealFs, dir, &WalSnapshot::default()).unwrap();
    check_order(&all.entries, 0);
    assert_eq!(puts(&all.entries), expected_puts(0, 2 * PUTS));
    assert_eq!(all.entries[..before.len()], *before);
}

#[test]
fn etcd_3_5() {
    reads_logs_of(Version::V35);
}

#[test]
fn etcd_3_6() {
    reads_logs_of(Version::V36);
}

#[test]
fn etcd_3_7() {
    reads_logs_of(Version::V37);
}

/// What etcd's tool restores has the log that ours would have written, but for fields that are zero.
#[test]
fn a_restored_member_has_the_log_we_would_write() {
    let etcdutl = need!(interop::etcdutl(Version::V37));
    let etcd = need!(interop::etcd(Version::V37));
    let etcdctl = need!(interop::etcdctl(Version::V37));
    let server = Server::fresh(&etcd);
    put_many(&server, &etcdctl, 0);
    let file = server.home().join("backup.db");
    server
        .etcdctl(&etcdctl)
        .ok(&["snapshot", "save", file.to_str().unwrap()]);
    let data = server.home().join("restored");
    let tool = testkit::Etcdctl::offline(&etcdutl);
    let dir_flag = format!("--data-dir={}", data.display());
    tool.ok(&["snapshot", "restore", file.to_str().unwrap(), &dir_flag]);

    let dir = data.join("member/wal");
    let theirs = wal::read_only(&RealFs, &dir, &WalSnapshot::default()).unwrap();
    let snapshots = wal::valid_snapshots(&RealFs, &dir).unwrap();
    assert_eq!(theirs.entries.len(), 1);
    assert_eq!(theirs.hard_state.commit, 1);
    assert_eq!(snapshots.len(), 2);

    // The same content, written by us, replaces it; etcd starts from it.
    let own = server.home().join("own");
    let mut wal = Wal::create(real(), &own, &theirs.metadata, wal::Options::for_tools()).unwrap();
    wal.save(Some(&theirs.hard_state), &theirs.entries).unwrap();
    wal.save_snapshot(&snapshots[1]).unwrap();
    wal.close().unwrap();
    let ours = wal::read_only(&RealFs, &own, &WalSnapshot::default()).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(wal::valid_snapshots(&RealFs, &own).unwrap(), snapshots);
    RealFs.remove_dir_all(&dir).unwrap();
    RealFs.rename(&own, &dir).unwrap();

    // Its .snap file as well.
    let snap_dir = data.join("member/snap");
    let snapper = Snapshotter::new(real(), &snap_dir, std::sync::Arc::new(wal::NoObserver));
    let theirs = snapper.load_newest(&snapshots).unwrap();
    let path = snap_dir.join(&snapper.names().unwrap()[0]);
    RealFs.remove_file(&path).unwrap();
    snapper.save(&theirs).unwrap();
    assert_eq!(snapper.load_newest(&snapshots).unwrap(), theirs);

    let started = Server::builder(&etcd)
        .data_dir(&data)
        .env("ETCD_VERIFY", "all")
        .arg("--name=default")
        .arg("--initial-cluster=default=http://localhost:2380")
        .arg("--initial-advertise-peer-urls=http://localhost:2380")
        .start()
        .unwrap();
    let listed = started.etcdctl(&etcdctl).ok(&[
        "get",
        "key",
        "--prefix",
        "--count-only",
        "--write-out=fields",
    ]);
    assert!(listed.contains(&format!("\"Count\" : {PUTS}")), "{listed}");
}

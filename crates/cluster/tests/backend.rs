//! Membership in a real database.

use std::path::Path;
use std::sync::Arc;

use backend::{Backend, Bucket, Position, Writer};
use cluster::{
    Change, Member, Membership, Persist, Settings, Version, detect_storage_version,
    plan_storage_migration,
};

const SETTINGS: Settings = Settings {
    local_id: 1,
    cluster_id: 0xc1,
    max_learners: 1,
    server_version: Version::new(3, 7, 3),
};

fn open(path: &Path) -> (Arc<Backend>, Writer) {
    backend::open(Arc::new(disk::RealFs), backend::Config::new(path)).unwrap()
}

#[test]
fn membership_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut membership = Membership::new(SETTINGS);
    let (backend, mut writer) = open(&path);
    for id in [1, 2] {
        let member = Member {
            id,
            peer_urls: vec![format!("http://m{id}:1")],
            ..Member::default()
        };
        let change = Change::Add {
            member,
            as_learner: false,
        };
        membership.apply(&change, Persist::Backend(&mut writer));
    }
    membership.apply(&Change::Remove(2), Persist::Backend(&mut writer));
    membership
        .set_version("3.7.0", Persist::Backend(&mut writer))
        .unwrap();
    membership
        .set_attributes(1, "m1", &[], Persist::Backend(&mut writer))
        .unwrap();
    writer.end_entry(Position { index: 7, term: 2 });
    writer.commit().wait().unwrap();
    drop(writer);
    backend.close().unwrap();
    drop(backend);

    let (backend, _writer) = open(&path);
    assert_eq!(
        Membership::load(SETTINGS, &*backend),
        Ok(membership.clone())
    );
    assert_eq!(Membership::load(SETTINGS, &backend.view()), Ok(membership));
    assert_eq!(
        backend.get(Bucket::Members, b"1").unwrap().unwrap(),
        r#"{"id":1,"peerURLs":["http://m1:1"],"name":"m1"}"#
    );
}

#[test]
fn storage_version_moves_step_by_step() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut writer) = open(&dir.path().join("db"));
    assert!(detect_storage_version(&*backend).is_err());
    writer.end_entry(Position { index: 1, term: 1 });
    assert_eq!(detect_storage_version(&*backend), Ok(Version::V3_5));
    let server = SETTINGS.server_version;
    for (from, to) in [
        (Version::V3_5, server),
        (server, Version::V3_6),
        (Version::V3_6, Version::V3_5),
    ] {
        for step in plan_storage_migration(from, to, server, None).unwrap() {
            let version = step.version;
            backend.background(vec![step.into()]).wait().unwrap();
            assert_eq!(detect_storage_version(&*backend), Ok(version));
        }
    }
}

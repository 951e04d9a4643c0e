//! Leases in a real database.

use std::sync::Arc;
use std::time::Duration;

use backend::{Bucket, Position};
use bytes::Bytes;
use lease::Lessor;

#[test]
fn leases_survive_a_restart_and_revoked_ones_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let config = backend::Config::new(dir.path().join("db"));
        backend::open(Arc::new(disk::RealFs), config).unwrap()
    };
    let mut lessor = Lessor::new(2);
    let (backend, mut writer) = open();
    for id in [1, 2, -3] {
        lessor.grant(&mut writer, id, 60, Duration::ZERO).unwrap();
    }
    lessor.checkpoint(&mut writer, 1, 30, true, Duration::ZERO);
    writer.end_entry(Position { index: 5, term: 1 });
    lessor.revoke(&mut writer, 2).unwrap();
    writer.end_entry(Position { index: 6, term: 1 });
    writer.commit().wait().unwrap();
    drop((writer, backend));

    let (backend, _writer) = open();
    assert_eq!(backend.range(Bucket::Lease, b"", None, 0).unwrap().len(), 2);
    let mut lessor = Lessor::new(2);
    lessor.recover(&backend).unwrap();
    lessor.attach(-3, Bytes::from_static(b"k")).unwrap();
    assert!(lessor.exists(1) && !lessor.exists(2) && lessor.exists(-3));
    lessor.promote(Duration::ZERO, Duration::from_secs(1));
    assert_eq!(lessor.time_to_live(1, Duration::ZERO).unwrap().ttl, 31);
    assert_eq!(lessor.leases().sorted(), [1, -3]);
}

//! Behaviour of the lessor, rule by rule.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lease::{Config, Error, Lessor, Records, Renewal, TimeToLive};

#[derive(Default)]
struct Bucket(BTreeMap<Bytes, Bytes>);

impl Records for Bucket {
    fn put_record(&mut self, key: Bytes, value: Bytes) {
        self.0.insert(key, value);
    }
    fn delete_record(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl Bucket {
    fn all(&self) -> Vec<(Bytes, Bytes)> {
        self.0
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// All expired leases at a time, however many calls that takes.
fn drain(lessor: &mut Lessor, now: Duration) -> Vec<i64> {
    let mut ids = Vec::new();
    loop {
        let round = lessor.expired(now, 500);
        let full = round.ids.len() == 500;
        ids.extend(round.ids);
        if !round.more && !full {
            ids.sort_unstable();
            return ids;
        }
    }
}

#[test]
fn grant_refuses_id_zero_too_large_times_and_ids_in_use_and_raises_short_times() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    assert_eq!(lessor.grant(&mut bucket, 0, 10, s(0)), Err(Error::NotFound));
    assert_eq!(
        lessor.grant(&mut bucket, 1, lease::MAX_TTL + 1, s(0)),
        Err(Error::TtlTooLarge)
    );
    assert_eq!(
        lessor.grant(&mut bucket, 1, lease::MAX_TTL, s(0)),
        Ok(lease::MAX_TTL)
    );
    assert_eq!(lessor.grant(&mut bucket, 1, 10, s(0)), Err(Error::Exists));
    // Too large comes before in use, in use does not matter for id 0.
    assert_eq!(
        lessor.grant(&mut bucket, 1, i64::MAX, s(0)),
        Err(Error::TtlTooLarge)
    );
    for (id, ttl) in [(2, 0), (3, -5), (-4, i64::MIN), (i64::MIN, 1)] {
        assert_eq!(lessor.grant(&mut bucket, id, ttl, s(0)), Ok(2));
    }
    assert_eq!(lessor.len(), 5);
    // The stored time is the raised one.
    assert_eq!(
        &bucket.0[&Bytes::copy_from_slice(&2i64.to_be_bytes())][..],
        [8, 2, 16, 2]
    );
}

#[test]
fn revoke_gives_the_keys_in_bytewise_order_and_removes_record_and_attachments() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 7, 10, s(0)).unwrap();
    for text in ["b", "a/2", "a", "\u{7f}", "a/10"] {
        lessor.attach(7, key(text)).unwrap();
    }
    let keys = lessor.keys_sorted(7).unwrap();
    assert_eq!(keys, ["a", "a/10", "a/2", "b", "\u{7f}"].map(key));
    for one in &keys[..3] {
        lessor.detach_key(one);
    }
    assert!(!lessor.revoke(&mut bucket, 7).unwrap().awaited);
    assert_eq!(lessor.lease_of(b"b"), None);
    assert!(bucket.0.is_empty() && lessor.is_empty());
    assert_eq!(lessor.keys_sorted(7), Err(Error::NotFound));
    assert_eq!(lessor.revoke(&mut bucket, 7), Err(Error::NotFound));
}

#[test]
fn a_put_moves_a_key_between_leases_and_lease_zero_detaches_it() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    lessor.grant(&mut bucket, 2, 10, s(0)).unwrap();
    lessor.reattach(key("k"), 0);
    assert_eq!(lessor.lease_of(b"k"), None);
    lessor.reattach(key("k"), 1);
    lessor.reattach(key("k"), 1);
    assert_eq!(lessor.lease_of(b"k"), Some(1));
    lessor.reattach(key("k"), 2);
    assert_eq!(lessor.keys(1).unwrap().count(), 0);
    assert_eq!(lessor.keys_sorted(2).unwrap(), [key("k")]);
    lessor.reattach(key("k"), 0);
    assert_eq!(lessor.lease_of(b"k"), None);
    assert_eq!(lessor.keys(2).unwrap().count(), 0);
    assert_eq!(lessor.attach(3, key("k")), Err(Error::NotFound));
    assert_eq!(lessor.attach(0, key("k")), Err(Error::NotFound));
}

#[test]
fn time_runs_only_on_the_primary() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    assert!(!lessor.is_primary());
    assert_eq!(lessor.renew(1, s(1)), Err(Error::NotPrimary));
    assert_eq!(lessor.time_to_live(1, s(1)), Err(Error::NotPrimary));
    assert_eq!(drain(&mut lessor, s(1_000_000)), []);
    lessor.promote(s(100), s(1));
    // Full time plus one election timeout.
    assert_eq!(
        lessor.time_to_live(1, s(100)),
        Ok(TimeToLive {
            ttl: 11,
            granted_ttl: 10
        })
    );
    assert_eq!(lessor.time_to_live(2, s(100)), Err(Error::NotFound));
    assert_eq!(drain(&mut lessor, s(110)), []);
    lessor.demote();
    assert_eq!(drain(&mut lessor, s(200)), []);
    lessor.promote(s(300), s(1));
    assert_eq!(drain(&mut lessor, s(310)), []);
    assert_eq!(drain(&mut lessor, s(311)), [1]);
}

#[test]
fn times_to_live_are_cut_to_whole_seconds_and_never_negative() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    let ttl = |lessor: &Lessor, ms| {
        lessor
            .time_to_live(1, Duration::from_millis(ms))
            .unwrap()
            .ttl
    };
    assert_eq!(ttl(&lessor, 0), 10);
    assert_eq!(ttl(&lessor, 1), 9);
    assert_eq!(ttl(&lessor, 9999), 0);
    assert_eq!(ttl(&lessor, 10_000), 0);
    assert_eq!(ttl(&lessor, 60_000), 0);
}

#[test]
fn renewal_starts_the_full_time_anew() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    for now in [5, 14, 23] {
        let renewed = Renewal::Renewed {
            ttl: 10,
            clear_checkpoint: false,
        };
        assert_eq!(lessor.renew(1, s(now)), Ok(renewed));
        assert_eq!(drain(&mut lessor, s(now + 9)), []);
    }
    assert_eq!(drain(&mut lessor, s(33)), [1]);
    assert_eq!(lessor.renew(9, s(0)), Err(Error::NotFound));
}

/// Right after an election a lease has its time plus the extension; a keep-alive then makes its
/// end come *earlier*, and the timer must follow.
#[test]
fn a_renewal_may_bring_the_end_forward() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    lessor.promote(s(0), s(100));
    assert_eq!(drain(&mut lessor, s(1)), []);
    lessor.renew(1, s(1)).unwrap();
    assert_eq!(drain(&mut lessor, s(10)), []);
    assert_eq!(drain(&mut lessor, s(11)), [1]);
}

#[test]
fn an_expired_lease_cannot_be_renewed_and_tells_the_revoker_that_somebody_waits() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.promote(s(0), s(1));
    for id in [1, 2] {
        lessor.grant(&mut bucket, id, 10, s(0)).unwrap();
    }
    assert_eq!(lessor.renew(1, s(10)), Ok(Renewal::Expired));
    assert_eq!(drain(&mut lessor, s(10)), [1, 2]);
    assert_eq!(lessor.renew(1, s(11)), Ok(Renewal::Expired));
    assert!(lessor.revoke(&mut bucket, 1).unwrap().awaited);
    assert!(!lessor.revoke(&mut bucket, 2).unwrap().awaited);
}

#[test]
fn unrevoked_expired_leases_are_reported_again_after_the_retry_interval() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 10, s(0)).unwrap();
    assert_eq!(drain(&mut lessor, s(10)), [1]);
    assert_eq!(drain(&mut lessor, s(16)), []);
    assert_eq!(drain(&mut lessor, s(17)), [1]);
    // What could not be proposed comes back at once, and still only once.
    lessor.not_proposed(&[1, 99], s(17));
    assert_eq!(drain(&mut lessor, s(17)), [1]);
    assert_eq!(drain(&mut lessor, s(23)), []);
    assert_eq!(drain(&mut lessor, s(24)), [1]);
    lessor.revoke(&mut bucket, 1).unwrap();
    assert_eq!(drain(&mut lessor, s(100)), []);
}

#[test]
fn a_round_reports_no_more_than_its_limit_and_the_next_one_goes_on() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.promote(s(0), s(1));
    for id in 1..=1200 {
        lessor.grant(&mut bucket, id, 10, s(0)).unwrap();
    }
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.push(lessor.expired(s(10), 500).ids.len());
    }
    assert_eq!(sizes, [500, 500, 200, 0]);
}

#[test]
fn an_election_with_many_leases_spreads_their_ends() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    for id in 1..=20_000 {
        lessor.grant(&mut bucket, id, 60, s(0)).unwrap();
    }
    lessor.promote(s(100), s(1));
    let mut seen = 0;
    for second in 100..200 {
        let ids = drain(&mut lessor, Duration::from_millis(second * 1000 + 999));
        assert!(ids.len() <= 750, "{} in second {second}", ids.len());
        assert!(second >= 161 || ids.is_empty());
        for id in ids {
            lessor.revoke(&mut bucket, id).unwrap();
            seen += 1;
        }
    }
    assert_eq!(seen, 20_000);
}

/// Few leases: nothing is moved, 999 may end together.
#[test]
fn an_election_with_few_leases_moves_nothing() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    for id in 1..=999 {
        lessor.grant(&mut bucket, id, 60, s(0)).unwrap();
    }
    lessor.promote(s(0), s(1));
    assert_eq!(drain(&mut lessor, s(60)).len(), 0);
    assert_eq!(drain(&mut lessor, s(61)).len(), 999);
}

/// The timers of leases that were there before the promotion are set in steps, by `expired`. A
/// lease whose turn has not come behaves as if it had.
#[test]
fn leases_without_a_timer_yet_can_be_renewed_asked_and_listed() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    for id in 1..=3 {
        lessor.grant(&mut bucket, id, 10 * id, s(0)).unwrap();
    }
    lessor.promote(s(100), s(1));
    assert_eq!(lessor.time_to_live(2, s(100)).unwrap().ttl, 21);
    assert_eq!(lessor.renew(1, s(115)), Ok(Renewal::Expired));
    lessor.renew(3, s(115)).unwrap();
    lessor.grant(&mut bucket, 4, 2, s(115)).unwrap();
    assert_eq!(lessor.leases().sorted(), [1, 4, 2, 3]);
    assert_eq!(drain(&mut lessor, s(145)), [1, 2, 3, 4]);
}

#[test]
fn leases_are_sorted_by_remaining_time_on_the_primary_and_by_id_elsewhere() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    for (id, ttl) in [(5, 10), (1, 30), (3, 20)] {
        lessor.grant(&mut bucket, id, ttl, s(0)).unwrap();
    }
    assert_eq!(lessor.leases().sorted(), [1, 3, 5]);
    lessor.promote(s(0), s(1));
    assert_eq!(lessor.leases().sorted(), [5, 3, 1]);
}

#[test]
fn recovery_brings_back_records_raises_short_times_in_memory_and_attaches_known_leases() {
    let (mut old, mut bucket) = (Lessor::new(2), Bucket::default());
    old.grant(&mut bucket, 1, 3, s(0)).unwrap();
    old.grant(&mut bucket, -2, 100, s(0)).unwrap();
    old.checkpoint(&mut bucket, -2, 40, true, s(0));
    let before = bucket.all();

    let mut lessor = Lessor::new(5);
    lessor.promote(s(0), s(0));
    lessor.recover_records(bucket.all()).unwrap();
    assert!(!lessor.is_primary());
    assert_eq!(lessor.granted_ttl(1), Ok(5));
    lessor.attach(-2, key("c")).unwrap();
    assert_eq!(lessor.attach(9, key("b")), Err(Error::NotFound));
    assert_eq!(lessor.lease_of(b"c"), Some(-2));
    assert_eq!(bucket.all(), before);

    lessor.promote(s(0), s(1));
    assert_eq!(drain(&mut lessor, s(6)), [1]);
    assert_eq!(drain(&mut lessor, s(12)), []);
    assert_eq!(drain(&mut lessor, s(13)), [1]);
    // The checkpoint counts: 40 + 1 seconds, not 100 + 1.
    assert_eq!(drain(&mut lessor, s(40)), [1]);
    assert_eq!(drain(&mut lessor, s(41)), [-2]);
}

#[test]
fn recovery_of_broken_records_is_an_error_and_changes_nothing() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 1, 3, s(0)).unwrap();
    let broken = [(Bytes::from_static(b"12345678"), Bytes::from_static(&[0xff]))];
    let error = lessor.recover_records(broken).unwrap_err();
    assert_eq!(error.to_string(), "corrupt lease record b\"12345678\"");
    assert!(lessor.exists(1));
}

fn with_checkpoints() -> Lessor {
    let mut config = Config::new(2);
    config.checkpoint_interval = Some(s(300));
    Lessor::with_config(config)
}

#[test]
fn checkpoints_come_every_interval_for_leases_that_outlive_it() {
    let (mut lessor, mut bucket) = (with_checkpoints(), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 1000, s(0)).unwrap();
    lessor.grant(&mut bucket, 2, 300, s(0)).unwrap();
    assert_eq!(lessor.due_checkpoints(s(299), 1000), []);
    assert_eq!(lessor.due_checkpoints(s(300), 1000), [(1, 700)]);
    lessor.checkpoint(&mut bucket, 1, 700, false, s(300));
    assert_eq!(lessor.due_checkpoints(s(599), 1000), []);
    assert_eq!(lessor.due_checkpoints(s(600), 1000), [(1, 400)]);
    // Even when that one got lost on its way, the next comes.
    assert_eq!(lessor.due_checkpoints(s(900), 1000), [(1, 100)]);
    assert_eq!(lessor.due_checkpoints(s(5000), 1000), []);
}

#[test]
fn a_checkpoint_that_says_nothing_new_is_left_out() {
    let (mut lessor, mut bucket) = (with_checkpoints(), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 1000, s(0)).unwrap();
    lessor.renew(1, s(300)).unwrap();
    assert_eq!(lessor.due_checkpoints(s(300), 1000), []);
    assert_eq!(lessor.due_checkpoints(s(600), 1000), [(1, 700)]);
}

#[test]
fn a_renewal_after_a_checkpoint_asks_to_clear_it() {
    let (mut lessor, mut bucket) = (with_checkpoints(), Bucket::default());
    lessor.promote(s(0), s(1));
    lessor.grant(&mut bucket, 1, 1000, s(0)).unwrap();
    lessor.checkpoint(&mut bucket, 1, 700, true, s(300));
    lessor.checkpoint(&mut bucket, 99, 700, true, s(300));
    let stored = [8, 1, 16, 0xe8, 7, 24, 0xbc, 5];
    assert_eq!(
        bucket.all(),
        [(key("\0\0\0\0\0\0\0\u{1}"), Bytes::copy_from_slice(&stored))]
    );
    let clear = |clear_checkpoint| {
        Ok(Renewal::Renewed {
            ttl: 1000,
            clear_checkpoint,
        })
    };
    assert_eq!(lessor.renew(1, s(301)), clear(true));
    // The running time is the full one already.
    assert_eq!(lessor.time_to_live(1, s(301)).unwrap().ttl, 1000);
    lessor.checkpoint(&mut bucket, 1, 0, true, s(301));
    assert_eq!(lessor.renew(1, s(302)), clear(false));
    assert_eq!(&bucket.all()[0].1[..], [8, 1, 16, 0xe8, 7]);
}

#[test]
fn a_new_leader_goes_on_from_the_checkpoint() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    lessor.grant(&mut bucket, 1, 1000, s(0)).unwrap();
    lessor.checkpoint(&mut bucket, 1, 50, false, s(0));
    lessor.promote(s(0), s(1));
    assert_eq!(
        lessor.time_to_live(1, s(0)).unwrap(),
        TimeToLive {
            ttl: 51,
            granted_ttl: 1000
        }
    );
    lessor.renew(1, s(1)).unwrap();
    assert_eq!(lessor.time_to_live(1, s(1)).unwrap().ttl, 1000);
}

#[test]
fn the_longest_times_do_not_overflow() {
    let (mut lessor, mut bucket) = (Lessor::new(2), Bucket::default());
    bucket.put_record(
        Bytes::copy_from_slice(&1i64.to_be_bytes()),
        // TTL and remaining TTL of i64::MAX, as a broken or hostile file may have it.
        Bytes::from_static(&[
            8, 1, 16, 255, 255, 255, 255, 255, 255, 255, 255, 127, 24, 255, 255, 255, 255, 255,
            255, 255, 255, 127,
        ]),
    );
    lessor.recover_records(bucket.all()).unwrap();
    lessor.promote(Duration::MAX, Duration::MAX);
    assert_eq!(drain(&mut lessor, s(1)), []);
    assert!(lessor.time_to_live(1, s(0)).unwrap().ttl > 0);
    lessor.promote(s(5), s(1));
    lessor.renew(1, s(5)).unwrap();
    assert_eq!(drain(&mut lessor, s(10_000_000_000)), []);
}

/// A million leases: every call does a bounded amount of work, counted in calls.
#[test]
fn a_million_leases_need_a_bounded_number_of_calls() {
    struct Nothing;
    impl Records for Nothing {
        fn put_record(&mut self, _: Bytes, _: Bytes) {}
        fn delete_record(&mut self, _: &[u8]) {}
    }
    let mut lessor = Lessor::new(2);
    for id in 1..=1_000_000 {
        lessor.grant(&mut Nothing, id, 5000, s(0)).unwrap();
    }
    lessor.promote(s(0), s(1));
    let mut calls = 0;
    while lessor.expired(s(1), 500).more {
        calls += 1;
    }
    assert!(calls <= 1_000_000 / (4 * 1024) + 1, "{calls}");
    for id in 1..=1_000_000 {
        lessor.renew(id, s(1)).unwrap();
    }
    assert_eq!(drain(&mut lessor, s(5000)), []);
    assert_eq!(lessor.expired(s(5001), 500).ids.len(), 500);
}

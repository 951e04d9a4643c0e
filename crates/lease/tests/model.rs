//! Random operations against a model that is a plain map.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lease::{Error, Lessor, Records, Renewal};
use proptest::prelude::*;

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

#[derive(Debug, Clone, Copy)]
enum Op {
    Grant(i64, i64),
    Revoke(i64),
    Reattach(u8, i64),
    Detach(u8),
    Renew(i64),
    Checkpoint(i64, i64),
    Promote,
    Demote,
    Restart,
    Wait(u64),
    Expired(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..6i64;
    prop_oneof![
        3 => (id.clone(), -1..30i64).prop_map(|(id, ttl)| Op::Grant(id, ttl)),
        1 => id.clone().prop_map(Op::Revoke),
        3 => (0..5u8, id.clone()).prop_map(|(key, id)| Op::Reattach(key, id)),
        1 => (0..5u8).prop_map(Op::Detach),
        3 => id.clone().prop_map(Op::Renew),
        1 => (id, 0..20i64).prop_map(|(id, left)| Op::Checkpoint(id, left)),
        1 => Just(Op::Promote),
        1 => Just(Op::Demote),
        1 => Just(Op::Restart),
        3 => (0..9000u64).prop_map(Op::Wait),
        4 => (1..4usize).prop_map(Op::Expired),
    ]
}

struct ModelLease {
    ttl: i64,
    remaining: i64,
    /// Times in milliseconds; `None` unless primary.
    expiry: Option<u64>,
    quiet_until: u64,
}

#[derive(Default)]
struct Model {
    leases: BTreeMap<i64, ModelLease>,
    keys: BTreeMap<u8, i64>,
    primary: bool,
    now: u64,
}

const MIN: i64 = 3;
const EXTEND: u64 = 1000;

struct Pair {
    model: Model,
    lessor: Lessor,
    bucket: Bucket,
}

impl Pair {
    fn now(&self) -> Duration {
        Duration::from_millis(self.model.now)
    }

    fn step(&mut self, op: Op) {
        let now = self.now();
        let (model, lessor, bucket) = (&mut self.model, &mut self.lessor, &mut self.bucket);
        match op {
            Op::Grant(id, ttl) => {
                let wanted = match id {
                    0 => Err(Error::NotFound),
                    _ if model.leases.contains_key(&id) => Err(Error::Exists),
                    _ => Ok(ttl.max(MIN)),
                };
                assert_eq!(lessor.grant(bucket, id, ttl, now), wanted);
                if let Ok(ttl) = wanted {
                    let expiry = model.primary.then_some(model.now + ttl as u64 * 1000);
                    let lease = ModelLease {
                        ttl,
                        remaining: 0,
                        expiry,
                        quiet_until: 0,
                    };
                    model.leases.insert(id, lease);
                }
            }
            Op::Revoke(id) => {
                let existed = model.leases.remove(&id).is_some();
                assert_eq!(lessor.keys_sorted(id).is_ok(), existed);
                assert_eq!(lessor.revoke(bucket, id).is_ok(), existed);
                model.keys.retain(|_, lease| *lease != id);
            }
            Op::Reattach(key, id) => {
                lessor.reattach(Bytes::copy_from_slice(&[key]), id);
                model.keys.remove(&key);
                if model.leases.contains_key(&id) {
                    model.keys.insert(key, id);
                }
            }
            Op::Detach(key) => {
                lessor.detach_key(&[key]);
                model.keys.remove(&key);
            }
            Op::Renew(id) => Self::renew(model, lessor, id),
            Op::Checkpoint(id, left) => {
                lessor.checkpoint(bucket, id, left, true, now);
                if let Some(lease) = model.leases.get_mut(&id) {
                    lease.remaining = left;
                }
            }
            Op::Promote => {
                lessor.promote(now, Duration::from_millis(EXTEND));
                model.primary = true;
                for lease in model.leases.values_mut() {
                    let left = if lease.remaining > 0 {
                        lease.remaining
                    } else {
                        lease.ttl
                    };
                    lease.expiry = Some(model.now + EXTEND + left as u64 * 1000);
                    lease.quiet_until = 0;
                }
            }
            Op::Demote => {
                lessor.demote();
                model.primary = false;
                model
                    .leases
                    .values_mut()
                    .for_each(|lease| lease.expiry = None);
            }
            Op::Restart => {
                lessor.recover_records(bucket.0.clone()).unwrap();
                for (key, id) in &model.keys {
                    lessor.attach(*id, Bytes::copy_from_slice(&[*key])).unwrap();
                }
                model.primary = false;
                model
                    .leases
                    .values_mut()
                    .for_each(|lease| lease.expiry = None);
            }
            Op::Wait(ms) => model.now += ms,
            Op::Expired(limit) => Self::expired(model, lessor, limit),
        }
    }

    fn renew(model: &mut Model, lessor: &mut Lessor, id: i64) {
        let got = lessor.renew(id, Duration::from_millis(model.now));
        if !model.primary {
            assert_eq!(got, Err(Error::NotPrimary));
            return;
        }
        let Some(lease) = model.leases.get_mut(&id) else {
            assert_eq!(got, Err(Error::NotFound));
            return;
        };
        if lease.expiry.unwrap() <= model.now {
            assert_eq!(got, Ok(Renewal::Expired));
            return;
        }
        lease.expiry = Some(model.now + lease.ttl as u64 * 1000);
        let clear_checkpoint = lease.remaining > 0;
        assert_eq!(
            got,
            Ok(Renewal::Renewed {
                ttl: lease.ttl,
                clear_checkpoint
            })
        );
    }

    /// Only expired ones are reported, none twice within the retry interval, and none is left
    /// out once it is 100 ms late.
    fn expired(model: &mut Model, lessor: &mut Lessor, limit: usize) {
        let got = lessor.expired(Duration::from_millis(model.now), limit);
        assert!(!got.more && got.ids.len() <= limit);
        for id in &got.ids {
            let lease = model.leases.get_mut(id).unwrap();
            assert!(lease.expiry.is_some_and(|expiry| expiry <= model.now));
            assert!(lease.quiet_until <= model.now);
            lease.quiet_until = model.now + 7000;
        }
        if got.ids.len() < limit {
            for lease in model.leases.values() {
                let due = lease
                    .expiry
                    .map(|expiry| expiry.max(lease.quiet_until) + 100);
                assert!(due.is_none_or(|due| due > model.now));
            }
        }
    }

    fn check(&self) {
        let now = self.now();
        assert_eq!(self.lessor.len(), self.model.leases.len());
        assert_eq!(self.bucket.0.len(), self.model.leases.len());
        for key in 0..5u8 {
            assert_eq!(
                self.lessor.lease_of(&[key]),
                self.model.keys.get(&key).copied()
            );
        }
        for (id, lease) in &self.model.leases {
            let mut keys = self.model.keys.iter().filter(|(_, at)| *at == id);
            let got = self.lessor.keys_sorted(*id).unwrap();
            assert!(
                got.iter()
                    .all(|key| keys.next().is_some_and(|(want, _)| key[..] == [*want]))
            );
            assert_eq!(keys.next(), None);
            match (lease.expiry, self.lessor.time_to_live(*id, now)) {
                (None, got) => assert_eq!(got, Err(Error::NotPrimary)),
                (Some(expiry), got) => {
                    let left = expiry.saturating_sub(self.model.now) / 1000;
                    assert_eq!(got.unwrap().ttl, left as i64);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_lessor_does_what_a_plain_map_would(ops in prop::collection::vec(op(), 1..120)) {
        let mut pair = Pair {
            model: Model::default(),
            lessor: Lessor::new(MIN),
            bucket: Bucket::default(),
        };
        for op in ops {
            pair.step(op);
            pair.check();
        }
    }
}

//! Random requests, most of them meaningful, some wrong in every way a client can be.

use api::etcdserverpb as pb;
use api::etcdserverpb::compare::TargetUnion;
use api::etcdserverpb::request_op::Request as Op;
use bytes::Bytes;

use super::request::Request;
use crate::rng::Rng;

/// The first `count` requests of a seed. A shorter list of the same seed is a prefix of a longer one.
pub fn generate(seed: u64, count: usize) -> Vec<Request> {
    let mut generator = Generator {
        rng: Rng::new(seed),
        revision: 1,
        compacted: 0,
        watches: 0,
        open_deletes: false,
    };
    (0..count).map(|_| generator.request()).collect()
}

struct Generator {
    rng: Rng,
    /// A guess at the present revision; it need not be right.
    revision: i64,
    compacted: i64,
    watches: i64,
    /// Whether deletes of the present transaction may have an open end; see [`Generator::op`].
    open_deletes: bool,
}

impl Generator {
    fn request(&mut self) -> Request {
        match self.rng.below(100) {
            0..25 => Request::Range(self.range()),
            25..28 => Request::RangeStream(self.range_stream()),
            28..48 => {
                self.revision += 1;
                Request::Put(self.put())
            }
            48..55 => {
                self.revision += 1;
                Request::Delete(self.delete())
            }
            55..73 => {
                self.revision += 1;
                self.open_deletes = self.rng.chance(50);
                Request::Txn(self.txn(2))
            }
            73..76 => Request::Compact(self.compact()),
            76..79 => Request::Grant(self.grant()),
            79..81 => Request::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            81..83 => Request::TimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.rng.chance(60),
            }),
            83 => Request::Leases,
            84 => Request::KeepAlive((0..self.rng.below(4)).map(|_| self.lease()).collect()),
            85..88 => Request::HashKv(self.old_revision()),
            88 => Request::Status,
            89 => Request::Alarms(self.rng.pick(&[0, 1, 2, 7])),
            90 => Request::Members(self.rng.chance(50)),
            91..97 => {
                self.watches += 1;
                Request::WatchCreate(self.watch())
            }
            97..99 => Request::WatchCancel(self.rng.between(0, self.watches + 1)),
            _ => Request::WatchProgress,
        }
    }

    /// One of few keys, so that requests meet each other.
    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 14] = [
            b"a",
            b"a0",
            b"ab",
            b"b",
            b"b/1",
            b"b/2",
            b"b/3",
            b"c",
            b"k\x00",
            b"k\x00\x00",
            b"k\xff",
            b"\xff",
            b"\xff\xff",
            b"z",
        ];
        if self.rng.chance(2) {
            return Bytes::new();
        }
        Bytes::from_static(self.rng.pick(&KEYS))
    }

    /// The end of an interval that begins at `key`.
    fn end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.below(10) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\x00"),
            5 | 6 => prefix_end(key),
            7 => [key, &b"\x00"[..]].concat().into(),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.below(12) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![b'x'; 3000]),
            _ => Bytes::from(format!("v{}", self.rng.below(5))),
        }
    }

    /// Small ids, so that leases meet; 0 never, the server would choose one.
    fn lease(&mut self) -> i64 {
        self.rng.pick(&[1, 2, 3, 4, 5, 77, -7, i64::MAX])
    }

    /// 0, now, the past, the compacted past, the future.
    fn old_revision(&mut self) -> i64 {
        match self.rng.below(10) {
            0..5 => 0,
            5 => self.revision,
            6 => self.revision + self.rng.between(1, 500),
            7 => self.compacted + self.rng.between(-2, 2),
            8 => self.rng.between(-2, 3),
            _ => self
                .rng
                .between(self.compacted.max(1), self.revision.max(2)),
        }
    }

    fn limit(&mut self) -> i64 {
        self.rng.pick(&[0, 0, 0, 1, 2, 3, 5, 100, -1])
    }

    fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        let mut request = pb::RangeRequest {
            range_end: self.end(&key),
            key,
            limit: self.limit(),
            revision: self.old_revision(),
            serializable: self.rng.chance(30),
            keys_only: self.rng.chance(15),
            count_only: self.rng.chance(10),
            ..Default::default()
        };
        if self.rng.chance(35) {
            request.sort_order = self.rng.pick(&[0, 1, 2, 2, 1]);
            request.sort_target = self.rng.pick(&[0, 1, 2, 3, 4]);
        }
        if self.rng.chance(3) {
            request.sort_order = self.rng.pick(&[3, -1, 77]);
        }
        if self.rng.chance(3) {
            request.sort_target = self.rng.pick(&[5, -1, 77]);
        }
        if self.rng.chance(20) {
            let bound = self.rng.between(-1, self.revision + 1);
            match self.rng.below(4) {
                0 => request.min_mod_revision = bound,
                1 => request.max_mod_revision = bound,
                2 => request.min_create_revision = bound,
                _ => {
                    request.max_create_revision = bound;
                    request.min_mod_revision = bound / 2;
                }
            }
        }
        request
    }

    /// Only what every server takes alike: upstream pages wrongly with a sort target.
    fn range_stream(&mut self) -> pb::RangeRequest {
        let mut request = self.range();
        if self.rng.chance(80) {
            request.sort_order = 0;
            request.min_mod_revision = 0;
            request.max_mod_revision = 0;
            request.min_create_revision = 0;
            request.max_create_revision = 0;
        }
        if request.sort_order == 0 {
            request.sort_target = 0;
        }
        request
    }

    fn put(&mut self) -> pb::PutRequest {
        let mut request = pb::PutRequest {
            key: self.key(),
            value: self.value(),
            lease: if self.rng.chance(20) { self.lease() } else { 0 },
            prev_kv: self.rng.chance(40),
            ignore_value: false,
            ignore_lease: false,
        };
        if self.rng.chance(12) {
            request.ignore_value = true;
            if self.rng.chance(80) {
                request.value = Bytes::new();
            }
        }
        if self.rng.chance(12) {
            request.ignore_lease = true;
            if self.rng.chance(80) {
                request.lease = 0;
            }
        }
        // Above the limit of a request of 1.5 MiB, below that of gRPC.
        if self.rng.chance(1) {
            request.value = Bytes::from(vec![b'l'; 1_600_000]);
        }
        request
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        // The whole store is not emptied every few requests.
        let range_end = if self.rng.chance(60) {
            Bytes::new()
        } else {
            self.end(&key)
        };
        pb::DeleteRangeRequest {
            range_end,
            key,
            prev_kv: self.rng.chance(50),
        }
    }

    /// Never at revision 0: real etcd accepts that once, and then answers `HashKV` of "now" with the hash of
    /// nothing for ever.
    fn compact(&mut self) -> pb::CompactionRequest {
        let revision = match self.rng.below(8) {
            0 => self.revision + 1000,
            1 => self.compacted,
            2 => self.rng.between(-1, 1),
            _ => self
                .rng
                .between(self.compacted, self.compacted.max(self.revision - 8)),
        };
        let revision = if revision == 0 { 1 } else { revision };
        self.compacted = self.compacted.max(revision.min(self.revision));
        pb::CompactionRequest {
            revision,
            physical: self.rng.chance(50),
        }
    }

    /// Long enough not to expire within a test; one in ten is refused.
    fn grant(&mut self) -> pb::LeaseGrantRequest {
        pb::LeaseGrantRequest {
            id: self.lease(),
            ttl: if self.rng.chance(10) {
                9_000_000_001
            } else {
                self.rng.between(1000, 5000)
            },
        }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        // 129 operations are one too many.
        if depth == 2 && self.rng.chance(3) {
            let puts = (0..self.rng.between(127, 129)).map(|number| pb::RequestOp {
                request: Some(Op::RequestPut(pb::PutRequest {
                    key: format!("many/{number}").into(),
                    ..Default::default()
                })),
            });
            return pb::TxnRequest {
                success: puts.collect(),
                ..Default::default()
            };
        }
        let compares = self.rng.below(4);
        let success = self.rng.below(5);
        let failure = self.rng.below(4);
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..success).map(|_| self.op(depth)).collect(),
            failure: (0..failure).map(|_| self.op(depth)).collect(),
        }
    }

    /// A delete with an open end and a put that keeps a value of the same keys are never in one transaction:
    /// real etcd accepts that, and dies of it when it is executed; ours refuses it.
    fn op(&mut self, depth: usize) -> pb::RequestOp {
        let request = match self.rng.below(100) {
            0..45 => {
                let mut range = self.range();
                // A read of the past makes the whole transaction fail most of the time.
                if self.rng.chance(80) {
                    range.revision = 0;
                }
                Some(Op::RequestRange(range))
            }
            45..75 => {
                let mut put = self.put();
                if self.rng.chance(70) {
                    // A lease that may be missing does the same.
                    put.lease = 0;
                }
                if self.open_deletes {
                    put.ignore_value = false;
                    put.ignore_lease = false;
                }
                Some(Op::RequestPut(put))
            }
            75..88 => {
                let mut delete = self.delete();
                if !self.open_deletes && delete.range_end == b"\x00"[..] {
                    delete.range_end = Bytes::from_static(b"\xff\xff\xff");
                }
                Some(Op::RequestDeleteRange(delete))
            }
            88..99 if depth > 0 => Some(Op::RequestTxn(self.txn(depth - 1))),
            99 => None,
            _ => Some(Op::RequestRange(self.range())),
        };
        pb::RequestOp { request }
    }

    fn compare(&mut self) -> pb::Compare {
        let key = self.key();
        let range_end = if self.rng.chance(25) {
            self.end(&key)
        } else {
            Bytes::new()
        };
        let mut target = self.rng.pick(&[0, 1, 2, 3, 4]);
        let number = if self.rng.chance(40) {
            self.rng.between(0, 3)
        } else {
            self.rng.between(0, self.revision)
        };
        let union = match target {
            0 => TargetUnion::Version(self.rng.between(0, 3)),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(self.rng.pick(&[0, 1, 2, 3])),
        };
        // A right-hand side of another kind, or none, or an unknown target.
        let union = if self.rng.chance(5) {
            self.rng.pick(&[
                None,
                Some(TargetUnion::Version(1)),
                Some(TargetUnion::Value("v1".into())),
            ])
        } else {
            Some(union)
        };
        if self.rng.chance(2) {
            target = 9;
        }
        pb::Compare {
            result: if self.rng.chance(3) {
                8
            } else {
                self.rng.pick(&[0, 1, 2, 3])
            },
            target,
            key,
            range_end,
            target_union: union,
        }
    }

    fn watch(&mut self) -> pb::WatchCreateRequest {
        let key = self.key();
        let filters = match self.rng.below(8) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![0, 1],
            3 => vec![9],
            _ => Vec::new(),
        };
        pb::WatchCreateRequest {
            range_end: self.end(&key),
            key,
            start_revision: self.old_revision(),
            progress_notify: false,
            filters,
            prev_kv: self.rng.chance(50),
            watch_id: if self.rng.chance(20) {
                self.rng.between(-1, 6)
            } else {
                0
            },
            fragment: self.rng.chance(30),
        }
    }
}

/// The end of the interval of all keys with this prefix.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\x00")
}

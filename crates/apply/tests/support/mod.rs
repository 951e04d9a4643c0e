//! A state machine on a real database, and short ways to write requests.
#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::disallowed_methods)] // Tests are at the edge.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use api::etcdserverpb as pb;
use api::raftpb::ConfChange;
use apply::{
    AlarmView, Applied, ConfChangeVerdict, Effect, Fatal, Op, Parts, Quota, Request, Response,
    StateMachine,
};
use auth::{AuthOp, AuthStore, AuthView, Cost, TokenConfig, TokenProvider};
use backend::{Backend, Bucket, Position};
use bytes::Bytes;
use cluster::{Change, Member, Membership, Settings, Version};
use lease::Lessor;
use pb::request_op::Request as RequestOp;

pub const LOCAL: u64 = 1;
pub const NOW: Duration = Duration::from_secs(100);

pub struct Host {
    pub machine: StateMachine,
    pub backend: Arc<Backend>,
    pub store: Arc<mvcc::Store>,
    pub lessor: Arc<Mutex<Lessor>>,
    pub membership: Arc<RwLock<Membership>>,
    pub alarms: Arc<AlarmView>,
    pub auth: Arc<AuthView>,
    pub index: u64,
}

impl Host {
    /// Opens the database in `dir` in the order a member does.
    pub fn open(dir: &Path, quota: i64) -> Self {
        let config = backend::Config::new(dir.join("db"));
        let (backend, mut db) = backend::open(Arc::new(disk::RealFs), config).unwrap();
        let config = mvcc::Config {
            compaction_sleep: Duration::ZERO,
            ..mvcc::Config::default()
        };
        let restored = mvcc::open(Arc::clone(&backend), config).unwrap();
        let mut lessor = Lessor::new(2);
        lessor.recover(&backend).unwrap();
        for (id, key) in restored.leases {
            lessor.attach(id, key).unwrap();
        }
        let settings = Settings {
            local_id: LOCAL,
            cluster_id: 9,
            max_learners: 1,
            server_version: Version::new(3, 7, 3),
        };
        let membership = Membership::load(settings, backend.as_ref()).unwrap();
        let (lessor, membership) = (
            Arc::new(Mutex::new(lessor)),
            Arc::new(RwLock::new(membership)),
        );
        let alarms = Arc::new(AlarmView::default());
        let tokens = TokenConfig::parse("simple", Duration::from_mins(5)).unwrap();
        let tokens = TokenProvider::new(tokens, |_| unreachable!("no key files")).unwrap();
        let view = AuthView::new(tokens);
        let cost = Cost::new(4);
        let auth = AuthStore::open(backend.as_ref(), &mut db, Arc::clone(&view), cost).unwrap();
        let machine = StateMachine::new(Parts {
            member_id: LOCAL,
            db,
            backend: Arc::clone(&backend),
            kv: restored.writer,
            lessor: Arc::clone(&lessor),
            membership: Arc::clone(&membership),
            quota: Quota::new(quota),
            alarm_view: Arc::clone(&alarms),
            auth,
        })
        .unwrap();
        Self {
            machine,
            backend,
            store: restored.store,
            lessor,
            membership,
            alarms,
            auth: view,
            index: 0,
        }
    }

    pub fn next(&mut self) -> Position {
        self.index += 1;
        Position {
            index: self.index,
            term: 2,
        }
    }

    /// Applies the next entry for somebody who waits.
    pub fn applied(&mut self, op: Op) -> Applied {
        let at = self.next();
        self.try_apply(at, op, true).unwrap()
    }

    pub fn try_apply(&mut self, at: Position, op: Op, waited: bool) -> Result<Applied, Fatal> {
        let request = request_of(at.index, "", 0, op);
        self.machine.apply(at, request, waited, NOW)
    }

    /// Applies the next entry on behalf of a user, who was known at this auth revision.
    pub fn run_as(
        &mut self,
        username: &str,
        auth_revision: u64,
        op: Op,
    ) -> Result<Response, api::Error> {
        let at = self.next();
        let request = request_of(at.index, username, auth_revision, op);
        let applied = self.machine.apply(at, request, true, NOW).unwrap();
        applied.result.expect("a new entry has a result")
    }

    /// Users `root` and `u`, who has a role with READWRITE on [a, b), and authentication on.
    pub fn enable_auth(&mut self) {
        let user = |name: &str| {
            AuthOp::UserAdd(pb::AuthUserAddRequest {
                name: name.into(),
                options: Some(api::authpb::UserAddOptions { no_password: true }),
                ..Default::default()
            })
        };
        let role = |user: &str, role: &str| {
            AuthOp::UserGrantRole(pb::AuthUserGrantRoleRequest {
                user: user.into(),
                role: role.into(),
            })
        };
        let permission = api::authpb::Permission {
            perm_type: api::authpb::permission::Type::Readwrite as i32,
            key: bytes("a"),
            range_end: bytes("b"),
        };
        for op in [
            user("root"),
            role("root", "root"),
            user("u"),
            AuthOp::RoleAdd(pb::AuthRoleAddRequest { name: "r".into() }),
            AuthOp::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: "r".into(),
                perm: Some(permission),
            }),
            role("u", "r"),
            AuthOp::Enable(pb::AuthEnableRequest {}),
        ] {
            self.run(Op::Auth(op)).unwrap();
        }
    }

    pub fn run(&mut self, op: Op) -> Result<Response, api::Error> {
        self.applied(op).result.expect("a new entry has a result")
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        match self.run(Op::Put(put(key, value))) {
            Ok(Response::Put(answer)) => answer.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    pub fn txn(&mut self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, api::Error> {
        match self.run(Op::Txn(txn)) {
            Ok(Response::Txn(answer)) => Ok(answer),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(&mut self, key: &str) {
        self.run(Op::DeleteRange(delete(key, ""))).unwrap();
    }

    pub fn grant(&mut self, id: i64) {
        let request = pb::LeaseGrantRequest { id, ttl: 60 };
        self.run(Op::LeaseGrant(request)).unwrap();
    }

    pub fn alarm(&mut self, action: i32, member_id: u64, alarm: i32) -> Vec<pb::AlarmMember> {
        let request = pb::AlarmRequest {
            action,
            member_id,
            alarm,
        };
        match self.run(Op::Alarm(request)) {
            Ok(Response::Alarm(answer)) => answer.alarms,
            other => panic!("{other:?}"),
        }
    }

    /// Judges and takes over a configuration change, with the members as raft would answer.
    pub fn conf_change(&mut self, at: Position, change: &ConfChange) -> ConfChangeVerdict {
        let verdict = self.machine.apply_conf_change(at, change).unwrap();
        if verdict.for_raft.is_some() {
            let state = self.membership.read().unwrap().conf_state();
            let json = cluster::conf_state_json(&state);
            self.machine.end_conf_change(at, Some(json.into()));
        }
        verdict
    }

    pub fn change(&mut self, change: &Change) -> ConfChangeVerdict {
        let at = self.next();
        self.conf_change(at, &change.encode(at.index))
    }

    pub fn value(&self, key: &str) -> Option<String> {
        let result = self
            .store
            .range(key.as_bytes(), b"", &mvcc::RangeOptions::default());
        let kv = result.unwrap().kvs.pop()?;
        Some(String::from_utf8(kv.value().to_vec()).unwrap())
    }

    pub fn revision(&self) -> i64 {
        self.store.current_revision()
    }

    /// The database as it is at this moment, under another directory.
    pub fn copy_to(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        let image = self.backend.snapshot().unwrap();
        let mut file = std::fs::File::create(dir.join("db")).unwrap();
        image.write_to(&mut file).unwrap();
    }

    /// Everything that members given the same log must agree on.
    pub fn state(&self) -> State {
        // As long as no key is left, the hash counts what a compaction has not deleted yet, as in etcd.
        let compacted = self.store.compact_revision();
        if compacted >= 0 {
            self.store.wait_compaction(compacted).unwrap();
        }
        let mut buckets = BTreeMap::new();
        for bucket in [
            Bucket::Alarm,
            Bucket::Auth,
            Bucket::AuthRoles,
            Bucket::AuthUsers,
            Bucket::Cluster,
            Bucket::Lease,
            Bucket::Members,
            Bucket::MembersRemoved,
        ] {
            buckets.insert(
                bucket.name().to_owned(),
                self.backend.range(bucket, b"", None, 0).unwrap(),
            );
        }
        let lessor = self.lessor.lock().unwrap();
        let leases = lessor.leases().sorted();
        let mut attached: Vec<_> = leases
            .iter()
            .map(|id| (*id, lessor.keys_sorted(*id).unwrap()))
            .collect();
        attached.sort();
        State {
            revision: self.revision(),
            compacted,
            hash: self.store.hash_kv(0).unwrap().hash,
            attached,
            alarms: self.alarms.list(),
            membership: self.membership.read().unwrap().clone(),
            buckets: format!("{buckets:?}"),
            position: self.machine.position(),
            voters: self.backend.get(Bucket::Meta, b"confState").unwrap(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub revision: i64,
    pub compacted: i64,
    pub hash: u32,
    pub attached: Vec<(i64, Vec<Bytes>)>,
    pub alarms: Vec<pb::AlarmMember>,
    pub membership: Membership,
    pub buckets: String,
    pub position: Position,
    pub voters: Option<Bytes>,
}

pub fn request_of(id: u64, username: &str, auth_revision: u64, op: Op) -> Request {
    Request {
        id,
        username: username.to_owned(),
        auth_revision,
        op,
    }
}

pub fn is_no_space_wish(applied: &Applied) -> bool {
    matches!(applied.effect, Some(Effect::RaiseNoSpace))
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn member(id: u64, learner: bool) -> Member {
    Member {
        id,
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        is_learner: learner,
        ..Member::default()
    }
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: true,
    }
}

pub fn range(key: &str, end: &str, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        revision,
        ..Default::default()
    }
}

pub fn op(request: RequestOp) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

pub fn put_op(key: &str, value: &str) -> pb::RequestOp {
    op(RequestOp::RequestPut(put(key, value)))
}

pub fn range_op(key: &str, end: &str, revision: i64) -> pb::RequestOp {
    op(RequestOp::RequestRange(range(key, end, revision)))
}

pub fn delete_op(key: &str, end: &str) -> pb::RequestOp {
    op(RequestOp::RequestDeleteRange(delete(key, end)))
}

pub fn txn_op(txn: pb::TxnRequest) -> pb::RequestOp {
    op(RequestOp::RequestTxn(txn))
}

pub fn success(ops: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success: ops,
        ..Default::default()
    }
}

//! The same random operations on real etcd 3.7.3 and on our store: every answer is compared while they go on, and at
//! the end the bytes both have stored. Requests come from many users, some of whom do not exist or know an old
//! auth revision; the tokens that say so are signed by us and so accepted by etcd.
//!
//! For the stored bytes, etcd's own log is applied by a second store of ours: it has the password hashes.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::authpb::permission::Type;
use api::etcdserverpb as pb;
use auth::{
    AuthInfo, AuthOp, AuthResponse, Caller, Entry, Permissions, TokenConfig, TokenProvider,
};
use backend::Bucket;
use bytes::Bytes;
use pb::request_op::Request as RequestOp;
use prost::Message as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use support::*;
use testkit::grpc::Clients;
use testkit::{Server, Version, interop, need};
use tonic::{Code, Request};

const USERS: [&str; 5] = ["root", "u1", "u2", "u3", "\u{fc}ser \"4\""];
const ROLES: [&str; 4] = ["root", "r1", "r2", "r3"];
const KEYS: [&str; 7] = ["a", "aa", "b", "c", "d", "e", "f"];
const ENDS: [&str; 8] = ["", "\0", "b", "bb", "c", "d", "e", "zz"];

/// Keys of values, as their leases; enough of a key-value store for the checks.
#[derive(Default)]
struct Values(BTreeMap<Bytes, i64>);

impl Values {
    fn put(&mut self, put: &pb::PutRequest) {
        self.0.insert(put.key.clone(), put.lease);
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) {
        let (start, end) = (&request.key, &request.range_end);
        self.0.retain(|key, _| match end.as_ref() {
            b"" => key != start,
            b"\0" => key < start,
            _ => key < start || key >= end,
        });
    }

    fn txn(&mut self, txn: &pb::TxnRequest) {
        for op in &txn.success {
            match &op.request {
                Some(RequestOp::RequestPut(put)) => self.put(put),
                Some(RequestOp::RequestDeleteRange(delete)) => self.delete(delete),
                Some(RequestOp::RequestTxn(nested)) => self.txn(nested),
                _ => {}
            }
        }
    }

    fn keys(&self, lease: i64) -> Vec<Bytes> {
        self.0
            .iter()
            .filter(|(_, of)| **of == lease)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

#[derive(Debug)]
enum Step {
    Auth(AuthOp),
    Login {
        name: &'static str,
        password: &'static str,
    },
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Range(pb::RangeRequest),
    TimeToLive(i64),
    Leases,
}

struct Generator(SmallRng);

impl Generator {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.0).unwrap()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.one(&KEYS).as_bytes())
    }

    fn end(&mut self) -> Bytes {
        if self.chance(50) {
            Bytes::new()
        } else {
            Bytes::from_static(self.one(&ENDS).as_bytes())
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key(),
            lease: if self.chance(20) {
                self.0.random_range(1..3)
            } else {
                0
            },
            prev_kv: self.chance(30),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range();
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.chance(30),
        }
    }

    /// Not one without keys: see `docs/auth.md`.
    fn range(&mut self) -> (Bytes, Bytes) {
        let (key, end) = (self.key(), self.end());
        if end.len() == 1 && end[0] == 0 || end > key {
            (key, end)
        } else {
            (key, Bytes::new())
        }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let op = match self.0.random_range(0..if depth == 0 { 4 } else { 3 }) {
            0 => RequestOp::RequestPut(self.put()),
            1 => RequestOp::RequestDeleteRange(self.delete()),
            2 => {
                let (key, range_end) = self.range();
                RequestOp::RequestRange(pb::RangeRequest {
                    key,
                    range_end,
                    ..Default::default()
                })
            }
            _ => RequestOp::RequestTxn(self.txn(depth + 1)),
        };
        let mut txn = pb::TxnRequest::default();
        let op = pb::RequestOp { request: Some(op) };
        // An operation of the branch not taken counts as well, the rest needs nothing.
        if self.chance(70) {
            txn.success.push(op);
        } else {
            txn.failure.push(op);
        }
        txn
    }

    fn auth(&mut self) -> AuthOp {
        let (user, role) = (self.one(&USERS), self.one(&ROLES));
        match self.0.random_range(0..100) {
            0..12 => AuthOp::UserAdd(pb::AuthUserAddRequest {
                name: user.into(),
                password: self.one(&["", "pw", "other"]).into(),
                options: self.chance(30).then(|| api::authpb::UserAddOptions {
                    no_password: self.chance(50),
                }),
                hashed_password: String::new(),
            }),
            12..14 => user_delete(user),
            14..18 => AuthOp::UserChangePassword(pb::AuthUserChangePasswordRequest {
                name: user.into(),
                password: self.one(&["", "pw", "other"]).into(),
                hashed_password: String::new(),
            }),
            18..30 => grant_role(user, role),
            30..33 => revoke_role(user, role),
            33..40 => role_add(role),
            40..41 => role_delete(role),
            41..75 => {
                let kind = self.one(&[Type::Read, Type::Write, Type::Readwrite]);
                grant(role, kind, self.one(&KEYS), self.one(&ENDS))
            }
            75..80 => revoke(role, self.one(&KEYS), self.one(&ENDS)),
            80..84 => role_get(role),
            84..88 => user_get(user),
            88..90 => user_list(),
            90..92 => role_list(),
            92..94 => status(),
            94..99 => enable(),
            _ => disable(),
        }
    }

    fn step(&mut self) -> Step {
        match self.0.random_range(0..10) {
            0..6 => Step::Auth(self.auth()),
            6 => Step::Put(self.put()),
            7 if self.chance(30) => Step::Login {
                name: self.one(&USERS),
                password: self.one(&["pw", "pw", "other", ""]),
            },
            7 => Step::Delete(self.delete()),
            8 if self.chance(20) => Step::TimeToLive(self.0.random_range(1..4)),
            8 if self.chance(20) => Step::Leases,
            8 => Step::Txn(self.txn(0)),
            _ => {
                let (key, range_end) = self.range();
                Step::Range(pb::RangeRequest {
                    key,
                    range_end,
                    ..Default::default()
                })
            }
        }
    }

    /// Mostly root where root is needed, else anybody; now and then with a wrong revision.
    fn who(&mut self, step: &Step, revision: u64) -> Option<AuthInfo> {
        let user = match step {
            Step::Auth(_) if self.chance(85) => "root",
            _ => self.one(&["root", "u1", "u1", "u2", "u2", "u3", "u3", "ghost"]),
        };
        let revision = match self.0.random_range(0..40) {
            0 => revision - 1,
            1 => revision + 1,
            2 => 0,
            3 => return None,
            _ => revision,
        };
        Some(info(user, revision))
    }
}

/// Both sides.
struct Pair {
    clients: Clients,
    ours: Member,
    values: Values,
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// What is compared of an answer: the message without its header, or the error.
type Answer = Result<String, (Code, String)>;

#[allow(clippy::needless_pass_by_value)] // given to `map_err`
fn error(error: api::Error) -> (Code, String) {
    (error.code(), error.to_string())
}

impl Pair {
    async fn play(&mut self, step: Step, who: Option<AuthInfo>) {
        let text = format!("{step:?} as {who:?} at {}", self.ours.revision());
        let token = who.as_ref().map(|who| {
            let view = self.ours.view();
            view.provider().jwt().unwrap().sign(who, now()).unwrap()
        });
        let who = who.filter(|_| self.ours.view().enabled());
        let permissions = self.ours.view().permissions_owned();
        let caller = Caller::from(&who);
        let (ours, theirs) = match step {
            Step::Auth(op) => {
                let theirs = auth(&mut self.clients, op.clone(), token).await;
                (self.auth(op, caller), theirs)
            }
            Step::Login { name, password } => {
                let request = pb::AuthenticateRequest {
                    name: name.into(),
                    password: password.into(),
                };
                let theirs = self.clients.auth.authenticate(request).await;
                let theirs = theirs.map(|answer| {
                    let jwt = self.ours.view().provider().jwt().unwrap();
                    format!(
                        "{:?}",
                        jwt.verify(&answer.into_inner().token, now()).unwrap()
                    )
                });
                (
                    self.login(name, password),
                    theirs.map_err(|status| (status.code(), status.message().into())),
                )
            }
            Step::Put(put) => {
                let theirs = self.clients.kv.put(with(put.clone(), token)).await;
                let check = permissions.check_put(caller, &put, &|lease| self.values.keys(lease));
                if check.is_ok() {
                    self.values.put(&put);
                }
                (allowed(check), allowed_there(theirs))
            }
            Step::Delete(delete) => {
                let theirs = self
                    .clients
                    .kv
                    .delete_range(with(delete.clone(), token))
                    .await;
                let check = permissions.check_delete_range(caller, &delete);
                if check.is_ok() {
                    self.values.delete(&delete);
                }
                (allowed(check), allowed_there(theirs))
            }
            Step::Txn(txn) => {
                let theirs = self.clients.kv.txn(with(txn.clone(), token)).await;
                let mut check =
                    permissions.check_txn(caller, &txn, &|lease| self.values.keys(lease));
                if only_ranges(&txn) {
                    check = check.and_then(|()| self.ours.view().still_current(who.as_ref()));
                }
                if check.is_ok() {
                    self.values.txn(&txn);
                }
                (allowed(check), allowed_there(theirs))
            }
            Step::TimeToLive(id) => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                let theirs = self
                    .clients
                    .lease
                    .lease_time_to_live(with(request, token))
                    .await;
                (
                    allowed(self.leases(&permissions, who.as_ref(), &[id])),
                    allowed_there(theirs),
                )
            }
            Step::Leases => {
                let request = with(pb::LeaseLeasesRequest {}, token);
                let theirs = self.clients.lease.lease_leases(request).await;
                (
                    allowed(self.leases(&permissions, who.as_ref(), &[1, 2])),
                    allowed_there(theirs),
                )
            }
            Step::Range(range) => {
                let theirs = self.clients.kv.range(with(range.clone(), token)).await;
                let check = self.read(&permissions, who.as_ref(), &range);
                (allowed(check), allowed_there(theirs))
            }
        };
        assert_eq!(ours, theirs, "{text}");
    }

    fn read(
        &self,
        permissions: &Permissions,
        who: Option<&AuthInfo>,
        range: &pb::RangeRequest,
    ) -> Result<(), api::Error> {
        permissions.check_range(who.into(), range)?;
        self.ours.view().still_current(who)
    }

    fn leases(
        &self,
        permissions: &Permissions,
        who: Option<&AuthInfo>,
        ids: &[i64],
    ) -> Result<(), api::Error> {
        permissions.is_identified(who.is_some())?;
        let keys = |lease| self.values.keys(lease);
        ids.iter()
            .try_for_each(|id| permissions.check_lease_read(who.into(), *id, &keys))
    }

    fn auth(&mut self, mut op: AuthOp, caller: Caller<'_>) -> Answer {
        if let Some(password) = op.take_password() {
            op.set_hash(&auth::hash(&password, cheap(), [3; 16]).unwrap());
        }
        self.ours
            .apply_as(caller, op)
            .map(|response| shown(&response))
            .map_err(error)
    }

    fn login(&mut self, name: &str, password: &str) -> Answer {
        let check = self.ours.view().permissions().login(name).map_err(error)?;
        if !auth::verify(password, &check.hash) {
            return Err(error(api::Error::AuthFailed));
        }
        match self.ours.apply(login(name, "")).map_err(error)? {
            AuthResponse::Authenticate(login) => Ok(format!("{:?}", info(name, login.revision))),
            other => panic!("{other:?}"),
        }
    }
}

fn with<T>(message: T, token: Option<String>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("token", token.parse().unwrap());
    }
    request
}

fn only_ranges(txn: &pb::TxnRequest) -> bool {
    let is_range = |op: &pb::RequestOp| matches!(op.request, Some(RequestOp::RequestRange(_)));
    txn.success.iter().chain(&txn.failure).all(is_range)
}

fn allowed(check: Result<(), api::Error>) -> Answer {
    check.map(|()| String::new()).map_err(error)
}

fn allowed_there<T>(answer: Result<T, tonic::Status>) -> Answer {
    answer
        .map(|_| String::new())
        .map_err(|status| (status.code(), status.message().into()))
}

/// An answer's content, without the header.
fn shown(response: &AuthResponse) -> String {
    match response {
        AuthResponse::Status(r) => format!("{} {}", r.enabled, r.auth_revision),
        AuthResponse::UserGet(r) => format!("{:?}", r.roles),
        AuthResponse::UserList(r) => format!("{:?}", r.users),
        AuthResponse::RoleList(r) => format!("{:?}", r.roles),
        AuthResponse::RoleGet(r) => format!("{:?}", r.perm),
        _ => String::new(),
    }
}

/// Asks etcd.
async fn auth(clients: &mut Clients, op: AuthOp, token: Option<String>) -> Answer {
    macro_rules! ask {
        ($($variant:ident = $method:ident,)*) => {
            match op {
                $(AuthOp::$variant(message) => {
                    let answer = clients.auth.$method(with(message, token)).await;
                    answer.map(|answer| AuthResponse::$variant(answer.into_inner()))
                })*
                AuthOp::Authenticate(_) => unreachable!("logins are another step"),
            }
        };
    }
    let answer = ask! {
        Enable = auth_enable,
        Disable = auth_disable,
        Status = auth_status,
        UserAdd = user_add,
        UserDelete = user_delete,
        UserChangePassword = user_change_password,
        UserGrantRole = user_grant_role,
        UserGet = user_get,
        UserRevokeRole = user_revoke_role,
        RoleAdd = role_add,
        RoleGrantPermission = role_grant_permission,
        RoleGet = role_get,
        RoleRevokePermission = role_revoke_permission,
        RoleDelete = role_delete,
        UserList = user_list,
        RoleList = role_list,
    };
    answer
        .map(|response| shown(&response))
        .map_err(|status| (status.code(), status.message().into()))
}

fn hmac_tokens() -> TokenProvider {
    let config = TokenConfig::parse("jwt,sign-method=HS256,priv-key=k", Duration::ZERO).unwrap();
    TokenProvider::new(config, |_| Ok(b"the key of both".to_vec())).unwrap()
}

/// The three buckets of auth in a database file.
fn stored(data_dir: &Path) -> Database {
    let options = bbolt::Options {
        read_only: true,
        ..Default::default()
    };
    let file = data_dir.join("member/snap/db");
    let db = bbolt::Db::open(Arc::new(disk::RealFs), &file, options).unwrap();
    let tx = db.read().unwrap();
    let mut database = Database::default();
    for bucket in [Bucket::Auth, Bucket::AuthUsers, Bucket::AuthRoles] {
        let mut cursor = tx
            .bucket(bucket.name().as_bytes())
            .unwrap()
            .unwrap()
            .cursor();
        let mut next = cursor.first().unwrap();
        while let Some((key, value)) = next {
            let value = Bytes::copy_from_slice(value.unwrap());
            database.0.insert((bucket, key.to_vec()), value);
            next = cursor.next().unwrap();
        }
    }
    database
}

/// What our store makes of the log etcd wrote, and how many permissions a role had at most.
fn replayed(data_dir: &Path) -> (Database, usize) {
    let log = data_dir.join("member/wal");
    let recovered = wal::read_only(&disk::RealFs, &log, &wal::WalSnapshot::default()).unwrap();
    let mut member = Member::with(hmac_tokens());
    let mut most = 0;
    for entry in recovered.entries {
        if entry.r#type != 0 || entry.data.is_empty() {
            continue;
        }
        let mut request = pb::InternalRaftRequest::decode(entry.data).unwrap();
        let header = request.header.take().unwrap_or_default();
        if let Some(op) = AuthOp::take(&mut request) {
            let caller = caller(&header.username, header.auth_revision);
            let at = Entry {
                caller,
                previous_index: entry.index - 1,
                now: Duration::ZERO,
            };
            // Refused ones are in the log as well.
            let _ = member.store.apply(&mut member.database, op, &at);
            for role in ROLES {
                let record = member.database.record(Bucket::AuthRoles, role);
                let role = record.map(|record| api::authpb::Role::decode(record).unwrap());
                most = most.max(role.map_or(0, |role| role.key_permission.len()));
            }
        }
    }
    (member.database, most)
}

#[test]
fn random_operations_have_the_same_outcome_and_leave_the_same_bytes() {
    let program = need!(interop::etcd(Version::V37));
    let steps = if std::env::var_os("STELE_LONG").is_some() {
        30_000
    } else {
        1500
    };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&key)
            .unwrap(),
        b"the key of both",
    )
    .unwrap();
    let mut server = Server::builder(program)
        .arg(format!(
            "--auth-token=jwt,sign-method=HS256,priv-key={}",
            key.display()
        ))
        .args(&[
            "--bcrypt-cost=4",
            "--snapshot-count=1000000",
            "--max-txn-ops=10",
        ])
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ours = runtime.block_on(async {
        let mut pair = Pair {
            clients: Clients::new(&server.url()),
            ours: Member::with(hmac_tokens()),
            values: Values::default(),
        };
        for id in 1..3 {
            let grant = pb::LeaseGrantRequest { id, ttl: 10_000 };
            pair.clients.lease.lease_grant(grant).await.unwrap();
        }
        let mut generator = Generator(SmallRng::seed_from_u64(20));
        for op in [
            AuthOp::UserAdd(pb::AuthUserAddRequest {
                name: "root".into(),
                password: "pw".into(),
                ..Default::default()
            }),
            grant_role("root", "root"),
        ] {
            pair.play(Step::Auth(op), None).await;
        }
        for _ in 0..steps {
            let step = generator.step();
            let who = generator.who(&step, pair.ours.revision());
            pair.play(step, who).await;
        }
        pair.ours
    });
    // Open connections would hold up the end of the server.
    drop(runtime);
    server.stop();
    let theirs = stored(server.data_dir());
    let (replayed, most) = replayed(server.data_dir());
    assert_eq!(replayed, theirs);
    // The store that knew other password hashes differs in nothing else.
    let without_passwords = |database: &Database| -> Vec<_> {
        let records = database
            .0
            .iter()
            .filter(|((bucket, _), _)| *bucket != Bucket::AuthUsers);
        records
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    assert_eq!(
        without_passwords(&ours.database),
        without_passwords(&theirs)
    );
    assert!(
        most > 20,
        "no role had so many permissions that their order matters: {most}"
    );
    // And etcd's database is one we can go on from.
    let again = Member::on(theirs, hmac_tokens());
    assert_eq!(again.revision(), ours.revision());
}

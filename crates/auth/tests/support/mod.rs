//! A store on records in memory, and short names for requests.

#![allow(dead_code)] // each test program uses a part

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use auth::{
    AuthInfo, AuthOp, AuthResponse, AuthStore, AuthView, Caller, Clock, Cost, Entry, Records,
    Source, SourceError, TokenConfig, TokenProvider,
};
use backend::Bucket;
use bytes::Bytes;

/// A database made of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database(pub BTreeMap<(Bucket, Vec<u8>), Bytes>);

impl Records for Database {
    fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        self.0.insert((bucket, key.to_vec()), value);
    }

    fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.0.remove(&(bucket, key.to_vec()));
    }
}

impl Source for Database {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.get(&(bucket, key.to_vec())).cloned())
    }

    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError> {
        for ((_, key), value) in self.0.iter().filter(|((b, _), _)| *b == bucket) {
            visit(key, value);
        }
        Ok(())
    }
}

impl Database {
    /// The record of a user or role, or of bucket `auth`.
    pub fn record(&self, bucket: Bucket, key: &str) -> Option<&[u8]> {
        self.0
            .get(&(bucket, key.as_bytes().to_vec()))
            .map(Bytes::as_ref)
    }
}

/// A clock that stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    pub start: Duration,
    pub unix: Duration,
}

impl At {
    pub fn secs(seconds: u64) -> Self {
        Self {
            start: Duration::from_secs(seconds),
            unix: Duration::from_secs(seconds),
        }
    }
}

impl Clock for At {
    fn since_start(&self) -> Duration {
        self.start
    }

    fn since_1970(&self) -> Duration {
        self.unix
    }
}

/// A member's auth.
pub struct Member {
    pub database: Database,
    pub store: AuthStore,
    pub index: u64,
    pub now: Duration,
}

pub fn simple() -> TokenProvider {
    let config = TokenConfig::parse("simple", Duration::from_mins(5)).unwrap();
    TokenProvider::new(config, |_| unreachable!("no files")).unwrap()
}

pub fn cheap() -> Cost {
    Cost::new(4)
}

impl Default for Member {
    fn default() -> Self {
        Self::with(simple())
    }
}

impl Member {
    pub fn with(provider: TokenProvider) -> Self {
        Self::on(Database::default(), provider)
    }

    pub fn on(mut database: Database, provider: TokenProvider) -> Self {
        let source = database.clone();
        let store =
            AuthStore::open(&source, &mut database, AuthView::new(provider), cheap()).unwrap();
        Self {
            database,
            store,
            index: 100,
            now: Duration::ZERO,
        }
    }

    /// Root with its role, `ann` with the role `r`, auth on.
    pub fn enabled() -> Self {
        let mut member = Self::default();
        for op in [
            user_add("root"),
            user_add("ann"),
            role_add("root"),
            role_add("r"),
            grant_role("root", "root"),
            grant_role("ann", "r"),
            enable(),
        ] {
            member.ok(op);
        }
        member
    }

    pub fn view(&self) -> &Arc<AuthView> {
        self.store.view()
    }

    pub fn apply_as(&mut self, caller: Caller<'_>, op: AuthOp) -> Result<AuthResponse, api::Error> {
        self.index += 1;
        let entry = Entry {
            caller,
            previous_index: self.index - 1,
            now: self.now,
        };
        self.store.apply(&mut self.database, op, &entry)
    }

    /// Applies as root.
    pub fn apply(&mut self, op: AuthOp) -> Result<AuthResponse, api::Error> {
        let caller = Caller {
            username: "root",
            revision: self.store.view().revision(),
        };
        self.apply_as(caller, op)
    }

    pub fn ok(&mut self, op: AuthOp) -> AuthResponse {
        let text = format!("{op:?}");
        self.apply(op)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    pub fn revision(&self) -> u64 {
        self.store.view().revision()
    }
}

pub fn caller(username: &str, revision: u64) -> Caller<'_> {
    Caller { username, revision }
}

pub fn info(username: &str, revision: u64) -> AuthInfo {
    AuthInfo {
        username: username.into(),
        revision,
    }
}

pub fn enable() -> AuthOp {
    AuthOp::Enable(pb::AuthEnableRequest {})
}

pub fn disable() -> AuthOp {
    AuthOp::Disable(pb::AuthDisableRequest {})
}

/// A user with the password `pw`.
pub fn user_add(name: &str) -> AuthOp {
    user_add_with(name, "pw")
}

pub fn user_add_with(name: &str, password: &str) -> AuthOp {
    AuthOp::UserAdd(pb::AuthUserAddRequest {
        name: name.into(),
        hashed_password: hashed(password),
        ..Default::default()
    })
}

/// Request form of a password's hash; made once.
pub fn hashed(password: &str) -> String {
    static MADE: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    made.entry(password.to_owned())
        .or_insert_with(|| auth::wrap_hash(&auth::hash(password, cheap(), [3; 16]).unwrap()))
        .clone()
}

pub fn user_delete(name: &str) -> AuthOp {
    AuthOp::UserDelete(pb::AuthUserDeleteRequest { name: name.into() })
}

pub fn change_password(name: &str, hashed_password: String) -> AuthOp {
    AuthOp::UserChangePassword(pb::AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password,
        ..Default::default()
    })
}

pub fn user_get(name: &str) -> AuthOp {
    AuthOp::UserGet(pb::AuthUserGetRequest { name: name.into() })
}

pub fn user_list() -> AuthOp {
    AuthOp::UserList(pb::AuthUserListRequest {})
}

pub fn grant_role(user: &str, role: &str) -> AuthOp {
    AuthOp::UserGrantRole(pb::AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

pub fn revoke_role(user: &str, role: &str) -> AuthOp {
    AuthOp::UserRevokeRole(pb::AuthUserRevokeRoleRequest {
        name: user.into(),
        role: role.into(),
    })
}

pub fn role_add(name: &str) -> AuthOp {
    AuthOp::RoleAdd(pb::AuthRoleAddRequest { name: name.into() })
}

pub fn role_delete(role: &str) -> AuthOp {
    AuthOp::RoleDelete(pb::AuthRoleDeleteRequest { role: role.into() })
}

pub fn role_get(role: &str) -> AuthOp {
    AuthOp::RoleGet(pb::AuthRoleGetRequest { role: role.into() })
}

pub fn role_list() -> AuthOp {
    AuthOp::RoleList(pb::AuthRoleListRequest {})
}

pub fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
    Permission {
        perm_type: kind as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}

pub fn grant(role: &str, kind: Type, key: &str, range_end: &str) -> AuthOp {
    let perm = Some(permission(kind, key, range_end));
    AuthOp::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm,
    })
}

pub fn revoke(role: &str, key: &str, range_end: &str) -> AuthOp {
    AuthOp::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    })
}

pub fn status() -> AuthOp {
    AuthOp::Status(pb::AuthStatusRequest {})
}

pub fn login(name: &str, prefix: &str) -> AuthOp {
    AuthOp::Authenticate(pb::InternalAuthenticateRequest {
        name: name.into(),
        password: String::new(),
        simple_token: prefix.into(),
    })
}

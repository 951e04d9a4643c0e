use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::authpb::{Role, User as UserRecord};
use api::etcdserverpb as pb;
use backend::Bucket;
use bytes::Bytes;
use prost::Message;

use crate::identity::Caller;
use crate::password::{self, Cost};
use crate::permissions::{Grants, Permissions, ROOT, User};
use crate::records::{Records, RecoverError, Source};
use crate::response::{AuthResponse, Login};
use crate::view::AuthView;
use crate::{AuthOp, user_map::UserMap};

const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// Longest key of the database file's format; a longer name would stop a Go member for good.
const MAX_NAME: usize = 32768;

/// The log entry an operation came in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// User and auth revision of the entry's header.
    pub caller: Caller<'a>,
    /// Index of the entry before this one, that is the consistent index when this one is applied. It becomes part of
    /// simple tokens.
    pub previous_index: u64,
    /// The time this member's tokens count from; an [`AuthView`] must be given the same.
    pub now: Duration,
}

/// Users, roles, and whether authentication is on: the replicated part. See `docs/auth.md`.
///
/// The thread that applies the log owns it; others see it through its [`AuthView`].
#[derive(Debug)]
pub struct AuthStore {
    enabled: bool,
    pub(crate) revision: u64,
    pub(crate) users: BTreeMap<Bytes, UserRecord>,
    pub(crate) roles: BTreeMap<Bytes, Role>,
    /// `users` and `roles` in the form checks need.
    compiled: UserMap,
    permissions: Arc<Permissions>,
    view: Arc<AuthView>,
    cost: Cost,
}

/// `enabled`, `revision`, users and roles as a database holds them.
type Loaded = (
    bool,
    u64,
    BTreeMap<Bytes, UserRecord>,
    BTreeMap<Bytes, Role>,
);

impl AuthStore {
    /// Reads what a database holds. A database without an auth revision gets its first, 1. `cost` is what old
    /// entries with a plain password are hashed with.
    pub fn open(
        source: &impl Source,
        records: &mut impl Records,
        view: Arc<AuthView>,
        cost: Cost,
    ) -> Result<Self, RecoverError> {
        let mut store = Self {
            enabled: false,
            revision: 0,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            compiled: UserMap::default(),
            permissions: Arc::default(),
            view,
            cost,
        };
        store.recover(source)?;
        if store.revision == 0 {
            store.bump(records);
            store.publish();
        }
        Ok(store)
    }

    /// Starts over with the content of another database, after a snapshot from the leader. On an error everything
    /// stays as it was.
    ///
    /// Tokens of users that are gone or have another password now end, all of them if authentication is off now.
    pub fn recover(&mut self, source: &impl Source) -> Result<(), RecoverError> {
        let (enabled, revision, users, roles) = load(source)?;
        let old = std::mem::replace(&mut self.users, users);
        (self.enabled, self.revision, self.roles) = (enabled, revision, roles);
        for (name, user) in &old {
            if self
                .users
                .get(name)
                .is_none_or(|now| now.password != user.password)
            {
                self.view
                    .provider()
                    .drop_user(&String::from_utf8_lossy(name));
            }
        }
        if !enabled {
            self.view.provider().drop_all();
        }
        self.compiled = UserMap::default();
        let names: Vec<Bytes> = self.users.keys().cloned().collect();
        self.compile(names);
        self.publish();
        Ok(())
    }

    /// What others see of this store.
    pub fn view(&self) -> &Arc<AuthView> {
        &self.view
    }

    /// The present permissions, for the checks of the entry that is being applied.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Applies an operation: who may ask first, then the operation's own checks, then its effect. An error changes
    /// nothing. The same entries give the same records, answers and errors on all members.
    pub fn apply(
        &mut self,
        records: &mut impl Records,
        op: AuthOp,
        entry: &Entry<'_>,
    ) -> Result<AuthResponse, api::Error> {
        if op.needs_root() {
            self.permissions.is_admin(entry.caller)?;
        }
        let before = self.revision;
        let response = match op {
            AuthOp::Authenticate(r) => self.authenticate(&r, entry).map(AuthResponse::Authenticate),
            AuthOp::Enable(_) => self.enable(records).map(AuthResponse::Enable),
            AuthOp::Disable(_) => Ok(AuthResponse::Disable(self.disable(records))),
            AuthOp::Status(_) => Ok(AuthResponse::Status(self.status())),
            AuthOp::UserAdd(r) => self.user_add(records, r, entry).map(AuthResponse::UserAdd),
            AuthOp::UserDelete(r) => self.user_delete(records, &r).map(AuthResponse::UserDelete),
            AuthOp::UserChangePassword(r) => self
                .user_change_password(records, &r, entry)
                .map(AuthResponse::UserChangePassword),
            AuthOp::UserGrantRole(r) => self
                .user_grant_role(records, &r)
                .map(AuthResponse::UserGrantRole),
            AuthOp::UserGet(r) => self.user_get(&r, entry.caller).map(AuthResponse::UserGet),
            AuthOp::UserRevokeRole(r) => self
                .user_revoke_role(records, &r)
                .map(AuthResponse::UserRevokeRole),
            AuthOp::RoleAdd(r) => self.role_add(records, r).map(AuthResponse::RoleAdd),
            AuthOp::RoleGrantPermission(r) => self
                .role_grant(records, r)
                .map(AuthResponse::RoleGrantPermission),
            AuthOp::RoleGet(r) => self.role_get(&r, entry.caller).map(AuthResponse::RoleGet),
            AuthOp::RoleRevokePermission(r) => self
                .role_revoke(records, &r)
                .map(AuthResponse::RoleRevokePermission),
            AuthOp::RoleDelete(r) => self.role_delete(records, &r).map(AuthResponse::RoleDelete),
            AuthOp::UserList(_) => Ok(AuthResponse::UserList(self.user_list())),
            AuthOp::RoleList(_) => Ok(AuthResponse::RoleList(self.role_list())),
        };
        if self.revision != before || self.enabled != self.permissions.enabled {
            self.publish();
        }
        response
    }

    fn authenticate(
        &mut self,
        request: &pb::InternalAuthenticateRequest,
        entry: &Entry<'_>,
    ) -> Result<Login, api::Error> {
        if !self.enabled {
            return Err(api::Error::AuthNotEnabled);
        }
        let user = self
            .users
            .get(request.name.as_bytes())
            .ok_or(api::Error::AuthFailed)?;
        if no_password(user) {
            return Err(api::Error::AuthFailed);
        }
        let username: Arc<str> = request.name.as_str().into();
        let token = self.view.provider().assign(
            &request.simple_token,
            entry.previous_index,
            &username,
            entry.now,
        );
        Ok(Login {
            username,
            revision: self.revision,
            token,
        })
    }

    /// Does not change the revision, unlike everything else that changes something.
    fn enable(&mut self, records: &mut impl Records) -> Result<pb::AuthEnableResponse, api::Error> {
        if self.enabled {
            tracing::info!("authentication is already enabled; ignored auth enable request");
            return Ok(pb::AuthEnableResponse::default());
        }
        let root = self
            .users
            .get(ROOT.as_bytes())
            .ok_or(api::Error::RootUserNotExist)?;
        if !has_role(root, ROOT) {
            return Err(api::Error::RootRoleNotExist);
        }
        self.enabled = true;
        records.put(Bucket::Auth, ENABLED, Bytes::from_static(&[1]));
        tracing::info!("enabled authentication");
        Ok(pb::AuthEnableResponse::default())
    }

    fn disable(&mut self, records: &mut impl Records) -> pb::AuthDisableResponse {
        if self.enabled {
            self.enabled = false;
            records.put(Bucket::Auth, ENABLED, Bytes::from_static(&[0]));
            self.bump(records);
            self.view.provider().drop_all();
            tracing::info!("disabled authentication");
        }
        pb::AuthDisableResponse::default()
    }

    fn status(&self) -> pb::AuthStatusResponse {
        pb::AuthStatusResponse {
            header: None,
            enabled: self.enabled,
            auth_revision: self.revision,
        }
    }

    /// Whether authentication is on, which protects root from being locked out.
    pub(crate) fn protects_root(&self) -> bool {
        self.enabled
    }

    /// One more change of users, roles or permissions.
    pub(crate) fn bump(&mut self, records: &mut impl Records) {
        self.revision += 1;
        let value = Bytes::copy_from_slice(&self.revision.to_be_bytes());
        records.put(Bucket::Auth, REVISION, value);
    }

    /// The password hash of a request: what it carries, or made here from a plain password, which only entries from
    /// before 3.5 have. The salt is then made from the entry, so that all our members store the same.
    pub(crate) fn stored_password(
        &self,
        plain: &str,
        hashed: &str,
        salt_from: (&str, &Entry<'_>),
    ) -> Result<Bytes, api::Error> {
        if plain.is_empty() || !hashed.is_empty() {
            return password::unwrap_hash(hashed).ok_or(api::Error::NoPasswordUser);
        }
        let salt = password::derived_salt(salt_from.0, salt_from.1.previous_index);
        password::hash(plain, self.cost, salt)
            .map(Bytes::from)
            .map_err(|_| api::Error::NoPasswordUser)
    }

    /// Stores a user and what its checks need.
    pub(crate) fn put_user(&mut self, records: &mut impl Records, user: UserRecord) {
        let name = user.name.clone();
        records.put(Bucket::AuthUsers, &name, user.encode_to_vec().into());
        self.users.insert(name.clone(), user);
        self.compile([name]);
    }

    /// Deletes a user.
    pub(crate) fn remove_user(&mut self, records: &mut impl Records, name: &str) {
        records.delete(Bucket::AuthUsers, name.as_bytes());
        self.users.remove(name.as_bytes());
        self.compiled.remove(name.as_bytes());
        self.view.provider().drop_user(name);
    }

    /// Stores a role; users that have it are compiled anew.
    pub(crate) fn put_role(&mut self, records: &mut impl Records, role: Role) {
        let name = role.name.clone();
        records.put(Bucket::AuthRoles, &name, role.encode_to_vec().into());
        self.roles.insert(name.clone(), role);
        let concerned: Vec<Bytes> = self
            .users
            .values()
            .filter(|user| user.roles.iter().any(|role| role.as_bytes() == name))
            .map(|user| user.name.clone())
            .collect();
        self.compile(concerned);
    }

    /// Brings the compiled form of these users up to date.
    fn compile(&mut self, names: impl IntoIterator<Item = Bytes>) {
        let mut by_roles: HashMap<&[String], Arc<Grants>> = HashMap::new();
        for name in names {
            let Some(user) = self.users.get(&name) else {
                continue;
            };
            let grants = by_roles.entry(&user.roles).or_insert_with(|| {
                let roles = user
                    .roles
                    .iter()
                    .filter_map(|role| self.roles.get(role.as_bytes()));
                let permissions: Vec<_> = roles.flat_map(|role| &role.key_permission).collect();
                Arc::new(Grants::union(permissions.iter().copied()))
            });
            let compiled = User {
                password: user.password.clone(),
                no_password: no_password(user),
                root: has_role(user, ROOT),
                grants: Arc::clone(grants),
            };
            self.compiled.insert(name, compiled);
        }
    }

    fn publish(&mut self) {
        self.permissions = Arc::new(Permissions {
            enabled: self.enabled,
            revision: self.revision,
            users: self.compiled.clone(),
        });
        self.view.publish(Arc::clone(&self.permissions));
    }
}

pub(crate) fn has_role(user: &UserRecord, role: &str) -> bool {
    user.roles.iter().any(|one| one == role)
}

pub(crate) fn no_password(user: &UserRecord) -> bool {
    user.options.is_some_and(|options| options.no_password)
}

/// Whether a name can be stored.
pub(crate) fn fits(name: &str) -> Result<(), api::Error> {
    if name.len() > MAX_NAME {
        Err(api::Error::InvalidAuthMgmt)
    } else {
        Ok(())
    }
}

fn load(source: &impl Source) -> Result<Loaded, RecoverError> {
    let enabled = source
        .get(Bucket::Auth, ENABLED)?
        .is_some_and(|value| value.as_ref() == [1]);
    let revision = match source.get(Bucket::Auth, REVISION)? {
        Some(value) => {
            let bytes = <[u8; 8]>::try_from(value.as_ref())
                .map_err(|_| RecoverError::corrupt(Bucket::Auth, REVISION))?;
            u64::from_be_bytes(bytes)
        }
        None => 0,
    };
    let users = load_all(source, Bucket::AuthUsers, |user: &UserRecord| &user.name)?;
    let roles = load_all(source, Bucket::AuthRoles, |role: &Role| &role.name)?;
    Ok((enabled, revision, users, roles))
}

fn load_all<M: Message + Default>(
    source: &impl Source,
    bucket: Bucket,
    name: impl Fn(&M) -> &Bytes,
) -> Result<BTreeMap<Bytes, M>, RecoverError> {
    let mut all = BTreeMap::new();
    let mut corrupt = None;
    source.for_each(bucket, &mut |key, value| match M::decode(value) {
        Ok(message) if name(&message) == key => {
            all.insert(Bytes::copy_from_slice(key), message);
        }
        _ => corrupt = Some(RecoverError::corrupt(bucket, key)),
    })?;
    match corrupt {
        Some(error) => Err(error),
        None => Ok(all),
    }
}

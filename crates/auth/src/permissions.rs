use std::sync::Arc;

use api::authpb::{Permission, permission::Type};
use api::etcdserverpb as pb;
use bytes::Bytes;
use pb::request_op::Request as RequestOp;

use crate::identity::Caller;
use crate::intervals::IntervalSet;
use crate::user_map::UserMap;

/// The user and the role that may do everything.
pub(crate) const ROOT: &str = "root";

/// What a user wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// What the roles of a user add up to; users with the same roles share it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    read: IntervalSet,
    write: IntervalSet,
}

impl Grants {
    /// The union of permissions; one of a kind that etcd does not know grants nothing.
    pub(crate) fn union<'a>(
        permissions: impl IntoIterator<Item = &'a Permission, IntoIter: Clone>,
    ) -> Self {
        let permissions = permissions.into_iter();
        let of = |kind: Type| {
            let wanted = [kind as i32, Type::Readwrite as i32];
            IntervalSet::union(
                permissions
                    .clone()
                    .filter(|permission| wanted.contains(&permission.perm_type))
                    .map(|permission| (&permission.key, &permission.range_end)),
            )
        };
        Self {
            read: of(Type::Read),
            write: of(Type::Write),
        }
    }
}

/// A user as the checks need it.
#[derive(Debug)]
pub(crate) struct User {
    /// Text of the bcrypt hash.
    pub(crate) password: Bytes,
    pub(crate) no_password: bool,
    pub(crate) root: bool,
    pub(crate) grants: Arc<Grants>,
}

/// Everything permission checks depend on, as of one auth revision. Immutable; a change makes a new one, which
/// shares with the old what did not change.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) users: UserMap,
}

/// The password hash a login must match, and as of when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordCheck {
    /// The user.
    pub username: Arc<str>,
    /// Text of the bcrypt hash.
    pub hash: Bytes,
    /// The auth revision the hash is from. If it is not that of the applied [`Login`](crate::Login), the password may
    /// have changed in between: start over.
    pub revision: u64,
}

impl Permissions {
    /// Whether authentication is on. While it is off, every check passes.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision: it grows with every change of users, roles and permissions.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether somebody may read `key`, or the range up to `range_end` in etcd's notation: empty for the key alone,
    /// one zero byte for everything from `key` on.
    pub fn is_range_permitted(
        &self,
        caller: Caller<'_>,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), api::Error> {
        self.check(caller, Access::Read, key, range_end)
    }

    /// Whether somebody may write a key.
    pub fn is_put_permitted(&self, caller: Caller<'_>, key: &[u8]) -> Result<(), api::Error> {
        self.check(caller, Access::Write, key, &[])
    }

    /// Whether somebody may delete a range.
    pub fn is_delete_range_permitted(
        &self,
        caller: Caller<'_>,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), api::Error> {
        self.check(caller, Access::Write, key, range_end)
    }

    /// Whether somebody has the role root. Unlike checks of keys, it takes no notice of the revision.
    pub fn is_admin(&self, caller: Caller<'_>) -> Result<(), api::Error> {
        if !self.enabled {
            return Ok(());
        }
        if caller.username.is_empty() {
            return Err(api::Error::UserEmpty);
        }
        match self.users.get(caller.username.as_bytes()) {
            Some(user) if user.root => Ok(()),
            Some(_) => Err(api::Error::PermissionDenied),
            None => Err(api::Error::UserNotFound),
        }
    }

    /// What needs a user, whoever it is: member list, status, list of alarms, leases without their keys. That the
    /// user exists and the revision is current does not matter.
    pub fn is_identified(&self, has_info: bool) -> Result<(), api::Error> {
        if self.enabled && !has_info {
            Err(api::Error::UserEmpty)
        } else {
            Ok(())
        }
    }

    fn check(
        &self,
        caller: Caller<'_>,
        access: Access,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), api::Error> {
        if !self.enabled {
            return Ok(());
        }
        if caller.revision == 0 {
            return Err(api::Error::UserEmpty);
        }
        if caller.revision < self.revision {
            return Err(api::Error::AuthOldRevision);
        }
        let user = self
            .users
            .get(caller.username.as_bytes())
            .ok_or(api::Error::PermissionDenied)?;
        let set = match access {
            Access::Read => &user.grants.read,
            Access::Write => &user.grants.write,
        };
        if user.root || set.covers(key, range_end) {
            Ok(())
        } else {
            Err(api::Error::PermissionDenied)
        }
    }

    /// A login before its password is checked.
    pub fn login(&self, username: &str) -> Result<PasswordCheck, api::Error> {
        if !self.enabled {
            return Err(api::Error::AuthNotEnabled);
        }
        let user = self
            .users
            .get(username.as_bytes())
            .ok_or(api::Error::AuthFailed)?;
        if user.no_password {
            return Err(api::Error::NoPasswordUser);
        }
        Ok(PasswordCheck {
            username: username.into(),
            hash: user.password.clone(),
            revision: self.revision,
        })
    }
}

/// Where the keys attached to a lease come from.
pub trait LeaseKeys {
    /// Gives `visit` each key attached to a lease, until it fails; an unknown lease has none.
    fn visit(
        &self,
        lease: i64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), api::Error>,
    ) -> Result<(), api::Error>;
}

impl<F, I> LeaseKeys for F
where
    F: Fn(i64) -> I,
    I: IntoIterator<Item: AsRef<[u8]>>,
{
    fn visit(
        &self,
        lease: i64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), api::Error>,
    ) -> Result<(), api::Error> {
        self(lease)
            .into_iter()
            .try_for_each(|key| visit(key.as_ref()))
    }
}

/// Whole requests.
impl Permissions {
    /// Range: READ.
    pub fn check_range(
        &self,
        caller: Caller<'_>,
        request: &pb::RangeRequest,
    ) -> Result<(), api::Error> {
        self.is_range_permitted(caller, &request.key, &request.range_end)
    }

    /// Put: WRITE on the key; READ too if the previous value is asked for; WRITE on everything that hangs on the
    /// given lease, since attaching the key ties their fate together.
    pub fn check_put(
        &self,
        caller: Caller<'_>,
        request: &pb::PutRequest,
        leases: &impl LeaseKeys,
    ) -> Result<(), api::Error> {
        if !self.enabled {
            return Ok(());
        }
        self.is_put_permitted(caller, &request.key)?;
        if request.lease != 0 {
            self.check_lease_write(caller, request.lease, leases)?;
        }
        if request.prev_kv {
            self.is_range_permitted(caller, &request.key, &[])?;
        }
        Ok(())
    }

    /// DeleteRange: WRITE on the range; READ too if the previous values are asked for.
    pub fn check_delete_range(
        &self,
        caller: Caller<'_>,
        request: &pb::DeleteRangeRequest,
    ) -> Result<(), api::Error> {
        let (key, range_end) = (&request.key, &request.range_end);
        self.is_delete_range_permitted(caller, key, range_end)?;
        if request.prev_kv {
            self.is_range_permitted(caller, key, range_end)?;
        }
        Ok(())
    }

    /// Txn: READ on what is compared, and whatever the operations of both branches need, nested ones included. A
    /// transaction without any needs nothing, not even a user.
    pub fn check_txn(
        &self,
        caller: Caller<'_>,
        request: &pb::TxnRequest,
        leases: &impl LeaseKeys,
    ) -> Result<(), api::Error> {
        if !self.enabled {
            return Ok(());
        }
        for compare in &request.compare {
            self.is_range_permitted(caller, &compare.key, &compare.range_end)?;
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(RequestOp::RequestRange(range)) => self.check_range(caller, range)?,
                Some(RequestOp::RequestPut(put)) => self.check_put(caller, put, leases)?,
                Some(RequestOp::RequestDeleteRange(delete)) => {
                    self.check_delete_range(caller, delete)?;
                }
                Some(RequestOp::RequestTxn(nested)) => self.check_txn(caller, nested, leases)?,
                None => {}
            }
        }
        Ok(())
    }

    /// LeaseRevoke and LeaseKeepAlive: WRITE on every attached key. Root may, whatever the revision.
    pub fn check_lease_write(
        &self,
        caller: Caller<'_>,
        lease: i64,
        leases: &impl LeaseKeys,
    ) -> Result<(), api::Error> {
        if self.is_admin(caller).is_ok() {
            return Ok(());
        }
        leases.visit(lease, &mut |key| self.is_put_permitted(caller, key))
    }

    /// LeaseTimeToLive with keys, and each lease of LeaseLeases: READ on every attached key. Root may, whatever the
    /// revision.
    pub fn check_lease_read(
        &self,
        caller: Caller<'_>,
        lease: i64,
        leases: &impl LeaseKeys,
    ) -> Result<(), api::Error> {
        if self.is_admin(caller).is_ok() {
            return Ok(());
        }
        leases.visit(lease, &mut |key| self.is_range_permitted(caller, key, &[]))
    }

    /// Watch: READ on the range, once, at its creation. An empty key stands for the first possible one, as in the
    /// request.
    pub fn check_watch(
        &self,
        caller: Caller<'_>,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), api::Error> {
        let key = if key.is_empty() { &[0] } else { key };
        self.is_range_permitted(caller, key, range_end)
    }
}

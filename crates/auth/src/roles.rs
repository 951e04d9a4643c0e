//! Operations on roles.

use api::authpb::{Permission, Role, permission::Type};
use api::etcdserverpb as pb;
use backend::Bucket;
use bytes::Bytes;

use crate::gosort;
use crate::identity::Caller;
use crate::intervals::is_open;
use crate::permissions::ROOT;
use crate::records::Records;
use crate::store::{AuthStore, fits, has_role};
use crate::users::names;

impl AuthStore {
    pub(crate) fn role_add(
        &mut self,
        records: &mut impl Records,
        request: pb::AuthRoleAddRequest,
    ) -> Result<pb::AuthRoleAddResponse, api::Error> {
        if request.name.is_empty() {
            return Err(api::Error::RoleEmpty);
        }
        fits(&request.name)?;
        if self.roles.contains_key(request.name.as_bytes()) {
            return Err(api::Error::RoleAlreadyExist);
        }
        tracing::info!("role-name" = request.name, "created a role");
        let role = Role {
            name: request.name.into(),
            key_permission: Vec::new(),
        };
        self.put_role(records, role);
        self.bump(records);
        Ok(pb::AuthRoleAddResponse::default())
    }

    pub(crate) fn role_delete(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthRoleDeleteRequest,
    ) -> Result<pb::AuthRoleDeleteResponse, api::Error> {
        if self.protects_root() && request.role == ROOT {
            return Err(api::Error::InvalidAuthMgmt);
        }
        if self.roles.remove(request.role.as_bytes()).is_none() {
            return Err(api::Error::RoleNotFound);
        }
        records.delete(Bucket::AuthRoles, request.role.as_bytes());
        let holders = self
            .users
            .values()
            .filter(|user| has_role(user, &request.role));
        let without: Vec<_> = holders
            .map(|user| {
                let mut user = user.clone();
                user.roles.retain(|role| *role != request.role);
                user
            })
            .collect();
        for user in without {
            self.put_user(records, user);
        }
        tracing::info!("role-name" = request.role, "deleted a role");
        self.bump(records);
        Ok(pb::AuthRoleDeleteResponse::default())
    }

    pub(crate) fn role_grant(
        &mut self,
        records: &mut impl Records,
        request: pb::AuthRoleGrantPermissionRequest,
    ) -> Result<pb::AuthRoleGrantPermissionResponse, api::Error> {
        let permission = request.perm.ok_or(api::Error::PermissionNotGiven)?;
        if !is_range(&permission.key, &permission.range_end) {
            return Err(api::Error::InvalidAuthMgmt);
        }
        let role = self
            .roles
            .get(request.name.as_bytes())
            .ok_or(api::Error::RoleNotFound)?;
        let mut role = role.clone();
        tracing::info!(
            "user-name" = request.name,
            "permission-name" =
                Type::try_from(permission.perm_type).map_or("", |kind| kind.as_str_name()),
            key = %permission.key.escape_ascii(),
            "range-end" = %permission.range_end.escape_ascii(),
            "granted/updated a permission to a user"
        );
        place(&mut role.key_permission, permission);
        self.put_role(records, role);
        self.bump(records);
        Ok(pb::AuthRoleGrantPermissionResponse::default())
    }

    pub(crate) fn role_revoke(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthRoleRevokePermissionRequest,
    ) -> Result<pb::AuthRoleRevokePermissionResponse, api::Error> {
        let role = self
            .roles
            .get(request.role.as_bytes())
            .ok_or(api::Error::RoleNotFound)?;
        let mut changed = role.clone();
        changed
            .key_permission
            .retain(|one| one.key != request.key || one.range_end != request.range_end);
        if changed.key_permission.len() == role.key_permission.len() {
            return Err(api::Error::PermissionNotGranted);
        }
        tracing::info!(
            "role-name" = request.role,
            key = %request.key.escape_ascii(),
            "range-end" = %request.range_end.escape_ascii(),
            "revoked a permission on range"
        );
        self.put_role(records, changed);
        self.bump(records);
        Ok(pb::AuthRoleRevokePermissionResponse::default())
    }

    /// For root, and for everybody about roles they have. What the role root holds is not asked: it may do anything.
    pub(crate) fn role_get(
        &self,
        request: &pb::AuthRoleGetRequest,
        caller: Caller<'_>,
    ) -> Result<pb::AuthRoleGetResponse, api::Error> {
        if let Err(error) = self.permissions().is_admin(caller) {
            let user = self.users.get(caller.username.as_bytes());
            if !user.is_some_and(|user| has_role(user, &request.role)) {
                return Err(error);
            }
        }
        let role = self
            .roles
            .get(request.role.as_bytes())
            .ok_or(api::Error::RoleNotFound)?;
        let perm = if request.role == ROOT {
            vec![Permission {
                perm_type: Type::Readwrite as i32,
                key: Bytes::new(),
                range_end: Bytes::from_static(&[0]),
            }]
        } else {
            role.key_permission.clone()
        };
        Ok(pb::AuthRoleGetResponse { header: None, perm })
    }

    pub(crate) fn role_list(&self) -> pb::AuthRoleListResponse {
        pb::AuthRoleListResponse {
            header: None,
            roles: names(self.roles.keys()),
        }
    }
}

/// Whether a permission names a key or a range of keys.
fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || is_open(range_end) || key < range_end)
}

/// Puts a granted permission into a role's list, where etcd would: the first one with the same or a greater key is
/// replaced if it is for the same range; else the new one is added and the list sorted by key. So a permission whose
/// like is not the first of its key is there twice afterwards.
fn place(permissions: &mut Vec<Permission>, new: Permission) {
    let at = lower_bound(permissions, &new.key);
    if let Some(same) = permissions.get_mut(at)
        && same.key == new.key
        && same.range_end == new.range_end
    {
        same.perm_type = new.perm_type;
        return;
    }
    permissions.push(new);
    gosort::sort(permissions, |a, b| a.key < b.key);
}

/// The first permission whose key is not less, found by halving from the middle: which one that is matters where a
/// list of an old release is not in order.
fn lower_bound(permissions: &[Permission], key: &[u8]) -> usize {
    let (mut low, mut high) = (0, permissions.len());
    while low < high {
        let middle = low.midpoint(high);
        if permissions[middle].key.as_ref() < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

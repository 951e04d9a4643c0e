//! Operations on users.

use api::authpb::{User as UserRecord, UserAddOptions};
use api::etcdserverpb as pb;

use crate::identity::Caller;
use crate::permissions::ROOT;
use crate::records::Records;
use crate::store::{AuthStore, Entry, fits, has_role, no_password};

impl AuthStore {
    pub(crate) fn user_add(
        &mut self,
        records: &mut impl Records,
        request: pb::AuthUserAddRequest,
        entry: &Entry<'_>,
    ) -> Result<pb::AuthUserAddResponse, api::Error> {
        if request.name.is_empty() {
            return Err(api::Error::UserEmpty);
        }
        fits(&request.name)?;
        if self.users.contains_key(request.name.as_bytes()) {
            return Err(api::Error::UserAlreadyExist);
        }
        // Stored even when empty, as Go does it: the record tells "no options" from options of an old release.
        let options = request
            .options
            .unwrap_or(UserAddOptions { no_password: false });
        let mut user = UserRecord {
            options: Some(options),
            ..Default::default()
        };
        if !options.no_password {
            let (plain, hashed) = (&request.password, &request.hashed_password);
            user.password = self.stored_password(plain, hashed, (&request.name, entry))?;
        }
        tracing::info!("user-name" = request.name, "added a user");
        user.name = request.name.into();
        self.put_user(records, user);
        self.bump(records);
        Ok(pb::AuthUserAddResponse::default())
    }

    pub(crate) fn user_delete(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthUserDeleteRequest,
    ) -> Result<pb::AuthUserDeleteResponse, api::Error> {
        if self.protects_root() && request.name == ROOT {
            return Err(api::Error::InvalidAuthMgmt);
        }
        let user = self
            .users
            .get(request.name.as_bytes())
            .ok_or(api::Error::UserNotFound)?;
        tracing::info!("user-name" = request.name, "user-roles" = ?user.roles, "deleted a user");
        self.remove_user(records, &request.name);
        self.bump(records);
        Ok(pb::AuthUserDeleteResponse::default())
    }

    /// The password of a user that logs in without one stays empty, whatever is given.
    pub(crate) fn user_change_password(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthUserChangePasswordRequest,
        entry: &Entry<'_>,
    ) -> Result<pb::AuthUserChangePasswordResponse, api::Error> {
        let user = self
            .users
            .get(request.name.as_bytes())
            .ok_or(api::Error::UserNotFound)?;
        let mut user = UserRecord {
            password: bytes::Bytes::new(),
            ..user.clone()
        };
        if !no_password(&user) {
            let (plain, hashed) = (&request.password, &request.hashed_password);
            user.password = self.stored_password(plain, hashed, (&request.name, entry))?;
        }
        tracing::info!(
            "user-name" = request.name,
            "user-roles" = ?user.roles,
            "changed a password of a user"
        );
        self.put_user(records, user);
        self.bump(records);
        self.view().provider().drop_user(&request.name);
        Ok(pb::AuthUserChangePasswordResponse::default())
    }

    /// The role root needs no record.
    pub(crate) fn user_grant_role(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthUserGrantRoleRequest,
    ) -> Result<pb::AuthUserGrantRoleResponse, api::Error> {
        let user = self
            .users
            .get(request.user.as_bytes())
            .ok_or(api::Error::UserNotFound)?;
        if request.role != ROOT && !self.roles.contains_key(request.role.as_bytes()) {
            return Err(api::Error::RoleNotFound);
        }
        if has_role(user, &request.role) {
            tracing::warn!(
                "user-name" = request.user,
                "user-roles" = ?user.roles,
                "duplicate-role-name" = request.role,
                "ignored grant role request to a user"
            );
            return Ok(pb::AuthUserGrantRoleResponse::default());
        }
        let mut user = user.clone();
        user.roles.push(request.role.clone());
        user.roles.sort_unstable();
        tracing::info!(
            "user-name" = request.user,
            "user-roles" = ?user.roles,
            "added-role-name" = request.role,
            "granted a role to a user"
        );
        self.put_user(records, user);
        self.bump(records);
        Ok(pb::AuthUserGrantRoleResponse::default())
    }

    pub(crate) fn user_revoke_role(
        &mut self,
        records: &mut impl Records,
        request: &pb::AuthUserRevokeRoleRequest,
    ) -> Result<pb::AuthUserRevokeRoleResponse, api::Error> {
        if self.protects_root() && request.name == ROOT && request.role == ROOT {
            return Err(api::Error::InvalidAuthMgmt);
        }
        let user = self
            .users
            .get(request.name.as_bytes())
            .ok_or(api::Error::UserNotFound)?;
        if !has_role(user, &request.role) {
            return Err(api::Error::RoleNotGranted);
        }
        let mut changed = user.clone();
        changed.roles.retain(|role| *role != request.role);
        tracing::info!(
            "user-name" = request.name,
            "old-user-roles" = ?user.roles,
            "new-user-roles" = ?changed.roles,
            "revoked-role-name" = request.role,
            "revoked a role from a user"
        );
        self.put_user(records, changed);
        self.bump(records);
        Ok(pb::AuthUserRevokeRoleResponse::default())
    }

    /// For root, and for everybody about themselves.
    pub(crate) fn user_get(
        &self,
        request: &pb::AuthUserGetRequest,
        caller: Caller<'_>,
    ) -> Result<pb::AuthUserGetResponse, api::Error> {
        if request.name != caller.username {
            self.permissions().is_admin(caller)?;
        }
        let user = self
            .users
            .get(request.name.as_bytes())
            .ok_or(api::Error::UserNotFound)?;
        Ok(pb::AuthUserGetResponse {
            header: None,
            roles: user.roles.clone(),
        })
    }

    pub(crate) fn user_list(&self) -> pb::AuthUserListResponse {
        pb::AuthUserListResponse {
            header: None,
            users: names(self.users.keys()),
        }
    }
}

pub(crate) fn names<'a>(keys: impl Iterator<Item = &'a bytes::Bytes>) -> Vec<String> {
    keys.map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

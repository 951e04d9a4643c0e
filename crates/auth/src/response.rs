use std::sync::Arc;

use api::etcdserverpb as pb;

/// What an applied [`AuthOp`](crate::AuthOp) answers. The headers are empty; whoever answers the client fills them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the variants are the operations' own names
pub enum AuthResponse {
    Authenticate(Login),
    Enable(pb::AuthEnableResponse),
    Disable(pb::AuthDisableResponse),
    Status(pb::AuthStatusResponse),
    UserAdd(pb::AuthUserAddResponse),
    UserDelete(pb::AuthUserDeleteResponse),
    UserChangePassword(pb::AuthUserChangePasswordResponse),
    UserGrantRole(pb::AuthUserGrantRoleResponse),
    UserGet(pb::AuthUserGetResponse),
    UserRevokeRole(pb::AuthUserRevokeRoleResponse),
    RoleAdd(pb::AuthRoleAddResponse),
    RoleGrantPermission(pb::AuthRoleGrantPermissionResponse),
    RoleGet(pb::AuthRoleGetResponse),
    RoleRevokePermission(pb::AuthRoleRevokePermissionResponse),
    RoleDelete(pb::AuthRoleDeleteResponse),
    UserList(pb::AuthUserListResponse),
    RoleList(pb::AuthRoleListResponse),
}

/// An applied login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who logged in.
    pub username: Arc<str>,
    /// The auth revision of the moment. If it is not the one the password was checked at, the client has no token
    /// yet: check again and propose anew.
    pub revision: u64,
    /// The simple token, the same on all members. Empty with signed tokens:
    /// [`AuthView::finish_login`](crate::AuthView::finish_login) signs one off the apply thread.
    pub token: String,
}

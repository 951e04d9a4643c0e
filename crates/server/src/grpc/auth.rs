//! The Auth service.

use api::etcdserverpb as pb;
use auth::{AuthOp, AuthResponse};
use tonic::Status;

use super::call::Call;
use super::services::Services;
use crate::frontend::Frontend;
use crate::metrics::Tally;

/// Methods that are an operation of the log each.
macro_rules! operations {
    ($($method:ident: $op:ident($request:ident) -> $response:ident;)*) => {
        impl<F: Frontend> Services<F> {
            $(pub(super) async fn $method(
                &self,
                call: &mut Call,
                tally: &Tally,
            ) -> Result<pb::$response, Status> {
                let request: pb::$request = self.receive(call, tally).await?;
                match self.member.auth(&call.caller(), AuthOp::$op(request)).await? {
                    AuthResponse::$op(mut response) => {
                        response.header = Some(self.member.header());
                        Ok(response)
                    }
                    other => unreachable!("a {} was answered by {other:?}", stringify!($op)),
                }
            })*
        }
    };
}

operations! {
    auth_enable: Enable(AuthEnableRequest) -> AuthEnableResponse;
    auth_disable: Disable(AuthDisableRequest) -> AuthDisableResponse;
    auth_status: Status(AuthStatusRequest) -> AuthStatusResponse;
    user_add: UserAdd(AuthUserAddRequest) -> AuthUserAddResponse;
    user_get: UserGet(AuthUserGetRequest) -> AuthUserGetResponse;
    user_list: UserList(AuthUserListRequest) -> AuthUserListResponse;
    user_delete: UserDelete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    user_change_password: UserChangePassword(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    user_grant_role: UserGrantRole(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    user_revoke_role: UserRevokeRole(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    role_add: RoleAdd(AuthRoleAddRequest) -> AuthRoleAddResponse;
    role_get: RoleGet(AuthRoleGetRequest) -> AuthRoleGetResponse;
    role_list: RoleList(AuthRoleListRequest) -> AuthRoleListResponse;
    role_delete: RoleDelete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    role_grant_permission: RoleGrantPermission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    role_revoke_permission: RoleRevokePermission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}

impl<F: Frontend> Services<F> {
    /// The credentials of the call itself are not looked at.
    pub(super) async fn authenticate(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::AuthenticateResponse, Status> {
        let request = self.receive(call, tally).await?;
        let token = self.member.authenticate(request).await?;
        Ok(pb::AuthenticateResponse {
            header: Some(self.member.header()),
            token,
        })
    }
}

use api::etcdserverpb as pb;
use bytes::BufMut;
use prost::encoding::message;

/// Declares the operations once: variant, field number in `InternalRaftRequest`, its field, its message.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $tag:literal $field:ident: $message:ident,)*) => {
        /// A request about users, roles and tokens, as it travels in the log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AuthOp {
            $($(#[$doc])* $variant(pb::$message),)*
        }

        impl AuthOp {
            /// Takes the operation out of a decoded log entry. Where several are set, which no member writes, the
            /// first in etcd's order of dispatch counts.
            pub fn take(request: &mut pb::InternalRaftRequest) -> Option<Self> {
                $(if let Some(message) = request.$field.take() {
                    return Some(Self::$variant(message));
                })*
                None
            }

            /// Number of the field of `InternalRaftRequest` that carries it; above that of `header`.
            pub fn tag(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $tag,)*
                }
            }

            /// Length of [`AuthOp::encode_field`].
            pub fn field_len(&self) -> usize {
                match self {
                    $(Self::$variant(message) => message::encoded_len($tag, message),)*
                }
            }

            /// Appends the operation as a field of `InternalRaftRequest`: tag, length, message.
            pub fn encode_field(&self, buffer: &mut impl BufMut) {
                match self {
                    $(Self::$variant(message) => message::encode($tag, message, buffer),)*
                }
            }
        }
    };
}

operations! {
    /// Trades a checked password for a token.
    Authenticate = 1012 authenticate: InternalAuthenticateRequest,
    /// Turns authentication on.
    Enable = 1000 auth_enable: AuthEnableRequest,
    /// Turns authentication off.
    Disable = 1011 auth_disable: AuthDisableRequest,
    /// Asks whether it is on.
    Status = 1013 auth_status: AuthStatusRequest,
    /// Creates a user.
    UserAdd = 1100 auth_user_add: AuthUserAddRequest,
    /// Deletes a user.
    UserDelete = 1101 auth_user_delete: AuthUserDeleteRequest,
    /// Replaces a password.
    UserChangePassword = 1103 auth_user_change_password: AuthUserChangePasswordRequest,
    /// Gives a user a role.
    UserGrantRole = 1104 auth_user_grant_role: AuthUserGrantRoleRequest,
    /// Asks for a user's roles.
    UserGet = 1102 auth_user_get: AuthUserGetRequest,
    /// Takes a role from a user.
    UserRevokeRole = 1105 auth_user_revoke_role: AuthUserRevokeRoleRequest,
    /// Creates a role.
    RoleAdd = 1200 auth_role_add: AuthRoleAddRequest,
    /// Gives a role a permission.
    RoleGrantPermission = 1203 auth_role_grant_permission: AuthRoleGrantPermissionRequest,
    /// Asks for a role's permissions.
    RoleGet = 1202 auth_role_get: AuthRoleGetRequest,
    /// Takes a permission from a role.
    RoleRevokePermission = 1204 auth_role_revoke_permission: AuthRoleRevokePermissionRequest,
    /// Deletes a role and takes it from all users.
    RoleDelete = 1201 auth_role_delete: AuthRoleDeleteRequest,
    /// Asks for the names of all users.
    UserList = 1106 auth_user_list: AuthUserListRequest,
    /// Asks for the names of all roles.
    RoleList = 1107 auth_role_list: AuthRoleListRequest,
}

impl AuthOp {
    /// The name etcd's metrics know the operation by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authenticate(_) => "Authenticate",
            Self::Enable(_) => "AuthEnable",
            Self::Disable(_) => "AuthDisable",
            Self::Status(_) => "AuthStatus",
            Self::UserAdd(_) => "AuthUserAdd",
            Self::UserDelete(_) => "AuthUserDelete",
            Self::UserChangePassword(_) => "AuthUserChangePassword",
            Self::UserGrantRole(_) => "AuthUserGrantRole",
            Self::UserGet(_) => "AuthUserGet",
            Self::UserRevokeRole(_) => "AuthUserRevokeRole",
            Self::RoleAdd(_) => "AuthRoleAdd",
            Self::RoleGrantPermission(_) => "AuthRoleGrantPermission",
            Self::RoleGet(_) => "AuthRoleGet",
            Self::RoleRevokePermission(_) => "AuthRoleRevokePermission",
            Self::RoleDelete(_) => "AuthRoleDelete",
            Self::UserList(_) => "AuthUserList",
            Self::RoleList(_) => "AuthRoleList",
        }
    }

    /// Whether it changes nothing, so that a member where nobody waits may leave it out.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::UserGet(_)
                | Self::UserList(_)
                | Self::RoleGet(_)
                | Self::RoleList(_)
        )
    }

    /// Whether only root may ask for it. Of the others, `Status` and `Authenticate` are for anybody, `UserGet` and
    /// `RoleGet` also for those they concern.
    pub fn needs_root(&self) -> bool {
        !matches!(
            self,
            Self::Status(_) | Self::Authenticate(_) | Self::UserGet(_) | Self::RoleGet(_)
        )
    }

    /// Takes the plain password out of a request, which must not reach the log. When there is one to be hashed, the
    /// hash goes back with [`AuthOp::set_hash`]. A new user has a password, if only the empty one, unless it is one
    /// without; where a password is changed to the empty one, there is none afterwards.
    pub fn take_password(&mut self) -> Option<String> {
        match self {
            Self::UserAdd(request) => {
                let password = std::mem::take(&mut request.password);
                let none = request.options.is_some_and(|options| options.no_password);
                (!none).then_some(password)
            }
            Self::UserChangePassword(request) => {
                Some(std::mem::take(&mut request.password)).filter(|password| !password.is_empty())
            }
            _ => None,
        }
    }

    /// Puts the hash (see [`PasswordPool::hash`](crate::PasswordPool::hash)) of a taken password into the request,
    /// in place of whatever a client may have written there.
    pub fn set_hash(&mut self, hash: &str) {
        match self {
            Self::UserAdd(request) => request.hashed_password = crate::wrap_hash(hash),
            Self::UserChangePassword(request) => request.hashed_password = crate::wrap_hash(hash),
            _ => {}
        }
    }
}

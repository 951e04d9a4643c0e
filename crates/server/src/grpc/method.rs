//! The methods clients can call, and how a path names one.

/// Who sends how many messages, with the names that metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, a stream of answers.
    ServerStream,
    /// Streams both ways.
    BidiStream,
}

impl Kind {
    /// Value of the label `grpc_type`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// What there is to know about a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Service with its package.
    pub service: &'static str,
    /// Method within the service.
    pub name: &'static str,
    /// Unary or streaming.
    pub kind: Kind,
}

macro_rules! methods {
    ($($variant:ident = $service:literal / $name:literal $kind:ident;)*) => {
        /// A method that is served here.
        #[allow(missing_docs)] // the methods of the API under their own names
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method { $($variant,)* }

        impl Method {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Service, name, kind.
            pub const fn info(self) -> Info {
                match self {
                    $(Self::$variant => Info { service: $service, name: $name, kind: Kind::$kind },)*
                }
            }

            /// The method a request path names.
            pub fn of(path: &str) -> Option<Self> {
                match path {
                    $(concat!("/", $service, "/", $name) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    Range = "etcdserverpb.KV" / "Range" Unary;
    RangeStream = "etcdserverpb.KV" / "RangeStream" ServerStream;
    Put = "etcdserverpb.KV" / "Put" Unary;
    DeleteRange = "etcdserverpb.KV" / "DeleteRange" Unary;
    Txn = "etcdserverpb.KV" / "Txn" Unary;
    Compact = "etcdserverpb.KV" / "Compact" Unary;
    Watch = "etcdserverpb.Watch" / "Watch" BidiStream;
    LeaseGrant = "etcdserverpb.Lease" / "LeaseGrant" Unary;
    LeaseRevoke = "etcdserverpb.Lease" / "LeaseRevoke" Unary;
    LeaseKeepAlive = "etcdserverpb.Lease" / "LeaseKeepAlive" BidiStream;
    LeaseTimeToLive = "etcdserverpb.Lease" / "LeaseTimeToLive" Unary;
    LeaseLeases = "etcdserverpb.Lease" / "LeaseLeases" Unary;
    MemberAdd = "etcdserverpb.Cluster" / "MemberAdd" Unary;
    MemberRemove = "etcdserverpb.Cluster" / "MemberRemove" Unary;
    MemberUpdate = "etcdserverpb.Cluster" / "MemberUpdate" Unary;
    MemberPromote = "etcdserverpb.Cluster" / "MemberPromote" Unary;
    MemberList = "etcdserverpb.Cluster" / "MemberList" Unary;
    Alarm = "etcdserverpb.Maintenance" / "Alarm" Unary;
    Status = "etcdserverpb.Maintenance" / "Status" Unary;
    Defragment = "etcdserverpb.Maintenance" / "Defragment" Unary;
    Hash = "etcdserverpb.Maintenance" / "Hash" Unary;
    HashKv = "etcdserverpb.Maintenance" / "HashKV" Unary;
    Snapshot = "etcdserverpb.Maintenance" / "Snapshot" ServerStream;
    MoveLeader = "etcdserverpb.Maintenance" / "MoveLeader" Unary;
    Authenticate = "etcdserverpb.Auth" / "Authenticate" Unary;
    AuthEnable = "etcdserverpb.Auth" / "AuthEnable" Unary;
    AuthDisable = "etcdserverpb.Auth" / "AuthDisable" Unary;
    AuthStatus = "etcdserverpb.Auth" / "AuthStatus" Unary;
    UserAdd = "etcdserverpb.Auth" / "UserAdd" Unary;
    UserGet = "etcdserverpb.Auth" / "UserGet" Unary;
    UserList = "etcdserverpb.Auth" / "UserList" Unary;
    UserDelete = "etcdserverpb.Auth" / "UserDelete" Unary;
    UserChangePassword = "etcdserverpb.Auth" / "UserChangePassword" Unary;
    UserGrantRole = "etcdserverpb.Auth" / "UserGrantRole" Unary;
    UserRevokeRole = "etcdserverpb.Auth" / "UserRevokeRole" Unary;
    RoleAdd = "etcdserverpb.Auth" / "RoleAdd" Unary;
    RoleGet = "etcdserverpb.Auth" / "RoleGet" Unary;
    RoleList = "etcdserverpb.Auth" / "RoleList" Unary;
    RoleDelete = "etcdserverpb.Auth" / "RoleDelete" Unary;
    RoleGrantPermission = "etcdserverpb.Auth" / "RoleGrantPermission" Unary;
    RoleRevokePermission = "etcdserverpb.Auth" / "RoleRevokePermission" Unary;
    Lock = "v3lockpb.Lock" / "Lock" Unary;
    Unlock = "v3lockpb.Lock" / "Unlock" Unary;
    Campaign = "v3electionpb.Election" / "Campaign" Unary;
    Proclaim = "v3electionpb.Election" / "Proclaim" Unary;
    Leader = "v3electionpb.Election" / "Leader" Unary;
    Observe = "v3electionpb.Election" / "Observe" ServerStream;
    Resign = "v3electionpb.Election" / "Resign" Unary;
    HealthCheck = "grpc.health.v1.Health" / "Check" Unary;
    HealthList = "grpc.health.v1.Health" / "List" Unary;
    HealthWatch = "grpc.health.v1.Health" / "Watch" ServerStream;
}

/// What a client is told about a path that no method has.
pub fn unknown(path: &str) -> String {
    let Some((service, method)) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
    else {
        return format!("malformed method name: {}", gotext::quote(path));
    };
    if Method::ALL
        .iter()
        .any(|known| known.info().service == service)
    {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_methods() {
        for method in Method::ALL {
            let Info { service, name, .. } = method.info();
            assert_eq!(Method::of(&format!("/{service}/{name}")), Some(*method));
        }
        assert_eq!(Method::of("/etcdserverpb.KV/range"), None);
        assert_eq!(
            Method::ALL[Method::HealthWatch as usize],
            Method::HealthWatch
        );
    }

    #[test]
    fn unknown_paths_are_told_apart() {
        assert_eq!(
            unknown("/etcdserverpb.KV/Nope"),
            "unknown method Nope for service etcdserverpb.KV"
        );
        assert_eq!(
            unknown("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            "unknown service grpc.reflection.v1.ServerReflection"
        );
        assert_eq!(unknown("/nothing"), "malformed method name: \"/nothing\"");
    }
}

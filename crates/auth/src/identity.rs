use std::sync::Arc;

/// Who sends a request and what the auth revision was when that was established. `None` of it means that the client
/// gave neither token nor certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthInfo {
    /// The user's name; nothing says yet that there is such a user.
    pub username: Arc<str>,
    /// With a signed token, the revision it was made at; else the current one.
    pub revision: u64,
}

/// An [`AuthInfo`] for a check; the default stands for nobody. Entries of the log carry it in their header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The user's name.
    pub username: &'a str,
    /// The auth revision the name was established at; 0 without a user.
    pub revision: u64,
}

impl AuthInfo {
    /// For a check.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            username: &self.username,
            revision: self.revision,
        }
    }
}

impl<'a> From<&'a Option<AuthInfo>> for Caller<'a> {
    fn from(info: &'a Option<AuthInfo>) -> Self {
        info.as_ref().map_or_else(Self::default, AuthInfo::caller)
    }
}

impl<'a> From<Option<&'a AuthInfo>> for Caller<'a> {
    fn from(info: Option<&'a AuthInfo>) -> Self {
        info.map_or_else(Self::default, AuthInfo::caller)
    }
}

impl<'a> From<&'a AuthInfo> for Caller<'a> {
    fn from(info: &'a AuthInfo) -> Self {
        info.caller()
    }
}

/// What a client shows to say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// Nothing.
    None,
    /// A token.
    Token(&'a str),
    /// A verified certificate, by its common name.
    CommonName(&'a str),
}

/// Metadata of gRPC clients.
const TOKEN: &str = "token";
/// Metadata and HTTP header of everybody else.
const AUTHORIZATION: &str = "authorization";
/// The gateway sets it; the certificate of its connection says nothing about its client.
const GATEWAY: &str = "grpcgateway-accept";

/// Finds a request's credentials by etcd's rules: metadata `token`, else `authorization`, of which a prefix `Bearer `
/// is cut off once and in this spelling only; without either the certificate, unless the gateway relayed the request.
///
/// `header` gives the first value of a metadata key, `common_name` is the subject of a verified client certificate;
/// `None` unless `--client-cert-auth` is on.
pub fn credentials<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    common_name: Option<&'a str>,
) -> Credentials<'a> {
    if let Some(value) = header(TOKEN).or_else(|| header(AUTHORIZATION)) {
        return Credentials::Token(value.strip_prefix("Bearer ").unwrap_or(value));
    }
    let Some(name) = common_name else {
        return Credentials::None;
    };
    if header(GATEWAY).is_some() {
        tracing::warn!(
            "common-name" = name,
            "ignoring common name in gRPC-gateway proxy request"
        );
        return Credentials::None;
    }
    Credentials::CommonName(name)
}

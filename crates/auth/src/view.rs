use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;

use crate::identity::{AuthInfo, Credentials};
use crate::permissions::Permissions;
use crate::response::Login;
use crate::token::{TokenProvider, simple_token_index};

/// The times tokens depend on.
pub trait Clock {
    /// Time of the member; the same as in [`Entry::now`](crate::Entry).
    fn since_start(&self) -> Duration;
    /// Time since 1970, for signed tokens.
    fn since_1970(&self) -> Duration;
}

/// What is known about who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This user, or nobody.
    Known(Option<AuthInfo>),
    /// The token may come from an entry this member has not applied: ask again when it has applied this index. The
    /// index comes from the client, so the wait must end with the request.
    AfterIndex(u64),
}

/// Users, permissions and tokens as all threads of a member see them. Reading takes no lock.
#[derive(Debug)]
pub struct AuthView {
    permissions: ArcSwap<Permissions>,
    provider: TokenProvider,
}

impl AuthView {
    /// Nobody knows anybody, until an [`AuthStore`](crate::AuthStore) is opened with it.
    pub fn new(provider: TokenProvider) -> Arc<Self> {
        Arc::new(Self {
            permissions: ArcSwap::default(),
            provider,
        })
    }

    pub(crate) fn publish(&self, permissions: Arc<Permissions>) {
        self.permissions.store(permissions);
    }

    /// The permissions of this moment. For the length of one check; use [`AuthView::permissions_owned`] to keep them.
    pub fn permissions(&self) -> Guard<Arc<Permissions>> {
        self.permissions.load()
    }

    /// The permissions of this moment, to keep.
    pub fn permissions_owned(&self) -> Arc<Permissions> {
        self.permissions.load_full()
    }

    /// Whether authentication is on.
    pub fn enabled(&self) -> bool {
        self.permissions.load().enabled()
    }

    /// The auth revision.
    pub fn revision(&self) -> u64 {
        self.permissions.load().revision()
    }

    /// The kind of tokens.
    pub fn provider(&self) -> &TokenProvider {
        &self.provider
    }

    /// Finds out who sends a request. `applied` is the index of the last entry applied here. Without authentication
    /// tokens are not looked at; a common name still is, as in etcd.
    pub fn identify(
        &self,
        credentials: &Credentials<'_>,
        applied: u64,
        clock: &impl Clock,
    ) -> Result<Identity, api::Error> {
        let known = match *credentials {
            Credentials::None => None,
            Credentials::CommonName(name) => Some(AuthInfo {
                username: name.into(),
                revision: self.revision(),
            }),
            Credentials::Token(_) if !self.enabled() => None,
            Credentials::Token(token) => {
                if matches!(self.provider, TokenProvider::Simple(_))
                    && let Some(index) = simple_token_index(token)
                    && index > applied
                {
                    return Ok(Identity::AfterIndex(index));
                }
                Some(self.holder(token, clock).ok_or_else(|| invalid(token))?)
            }
        };
        Ok(Identity::Known(known))
    }

    /// Holders of simple tokens are up to date by definition; signed ones say themselves as of when they are.
    fn holder(&self, token: &str, clock: &impl Clock) -> Option<AuthInfo> {
        match &self.provider {
            TokenProvider::Disabled => None,
            TokenProvider::Jwt(jwt) => jwt.verify(token, clock.since_1970()),
            TokenProvider::Simple(tokens) => {
                // The revision first: a token that a later change ends must not be taken for one of after it.
                let revision = self.revision();
                let username = tokens.lookup(token, clock.since_start())?;
                Some(AuthInfo { username, revision })
            }
        }
    }

    /// The token for the client whose login was applied: the one all members know, or one signed here.
    pub fn finish_login(&self, login: Login, clock: &impl Clock) -> Result<String, api::Error> {
        match &self.provider {
            TokenProvider::Jwt(jwt) => {
                let info = AuthInfo {
                    username: login.username,
                    revision: login.revision,
                };
                jwt.sign(&info, clock.since_1970())
            }
            TokenProvider::Simple(_) | TokenProvider::Disabled => Ok(login.token),
        }
    }

    /// After a read that was checked before: whether what the check was based on still holds.
    pub fn still_current(&self, info: Option<&AuthInfo>) -> Result<(), api::Error> {
        match info {
            Some(info) if info.revision != 0 && info.revision != self.revision() => {
                Err(api::Error::AuthOldRevision)
            }
            _ => Ok(()),
        }
    }
}

/// The log must not help anybody to the token.
fn invalid(token: &str) -> api::Error {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let mut fingerprint = String::new();
    for byte in &hash.as_ref()[..6] {
        let _ = write!(fingerprint, "{byte:02x}");
    }
    tracing::warn!("token-fingerprint" = fingerprint, "invalid auth token");
    api::Error::InvalidAuthToken
}

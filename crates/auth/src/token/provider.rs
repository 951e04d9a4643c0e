use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::jwt::Jwt;
use super::options::{OptionsError, TokenConfig};
use super::simple::{self, SimpleTokens};

/// The kind of tokens a member uses; must be the same on all members.
#[derive(Debug)]
pub enum TokenProvider {
    /// None: logins give an empty token and no token is good.
    Disabled,
    /// Tokens the members remember.
    Simple(Box<SimpleTokens>),
    /// Signed tokens.
    Jwt(Jwt),
}

impl TokenProvider {
    /// Key files are read with `read_file`.
    pub fn new(
        config: TokenConfig,
        read_file: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, OptionsError> {
        Ok(match config {
            TokenConfig::Disabled => Self::Disabled,
            TokenConfig::Simple { ttl } => {
                tracing::warn!("simple token is not cryptographically signed");
                Self::Simple(Box::new(SimpleTokens::new(ttl)))
            }
            TokenConfig::Jwt(options) => Self::Jwt(Jwt::new(options, read_file)?),
        })
    }

    /// What a login proposes as `simple_token`: sixteen random letters, or nothing where tokens are signed. `random`
    /// fills a buffer with random bytes that cannot be foreseen.
    pub fn token_prefix(&self, random: impl FnMut(&mut [u8])) -> String {
        match self {
            Self::Simple(_) => simple::prefix(random),
            Self::Disabled | Self::Jwt(_) => String::new(),
        }
    }

    /// The signed tokens, to reload their keys.
    pub fn jwt(&self) -> Option<&Jwt> {
        match self {
            Self::Jwt(jwt) => Some(jwt),
            _ => None,
        }
    }

    /// Frees what tokens that ended take; about once a second. `now` is the time [`Entry::now`](crate::Entry) has.
    pub fn sweep(&self, now: Duration) {
        if let Self::Simple(tokens) = self {
            tokens.sweep(now);
        }
    }

    pub(crate) fn assign(
        &self,
        prefix: &str,
        index: u64,
        username: &Arc<str>,
        now: Duration,
    ) -> String {
        match self {
            Self::Simple(tokens) => tokens.assign(prefix, index, username, now),
            Self::Disabled | Self::Jwt(_) => String::new(),
        }
    }

    pub(crate) fn drop_user(&self, username: &str) {
        if let Self::Simple(tokens) = self {
            tokens.drop_user(username);
        }
    }

    pub(crate) fn drop_all(&self) {
        if let Self::Simple(tokens) = self {
            tokens.drop_all();
        }
    }
}

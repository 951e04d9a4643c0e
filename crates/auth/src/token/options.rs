use std::collections::HashMap;
use std::io;
use std::time::Duration;

use super::keys::KeyError;
use super::method::Method;

/// How long a signed token lives unless the options say otherwise.
const JWT_TTL: Duration = Duration::from_mins(5);

/// An `--auth-token` that cannot be used; the texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not of the form `type,key=value,…`, an unknown type, or a value that makes no sense. The log tells which.
    #[error("auth: invalid auth options")]
    Invalid,
    /// Tokens without signature.
    #[error("unsupported signing method: *jwt.signingMethodNone")]
    UnsupportedMethod,
    /// The keys are no good.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A parsed `--auth-token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// No tokens at all: the value is empty.
    Disabled,
    /// `simple`: remembered by the members.
    Simple {
        /// How long an unused token lives.
        ttl: Duration,
    },
    /// `jwt,…`: signed.
    Jwt(JwtOptions),
}

/// What follows `jwt,`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// `sign-method`.
    pub(crate) method: &'static str,
    /// `ttl` in nanoseconds; not positive makes tokens that have expired when they are made.
    pub(crate) ttl: i64,
    /// `pub-key`.
    pub(crate) public_file: Option<String>,
    /// `priv-key`.
    pub(crate) private_file: Option<String>,
}

/// Contents of the public and the private key file; empty where there is none.
pub(crate) type KeyFiles = (Vec<u8>, Vec<u8>);

impl TokenConfig {
    /// Parses `--auth-token`; `simple_ttl` is `--auth-token-ttl`. Reads no files.
    pub fn parse(text: &str, simple_ttl: Duration) -> Result<Self, OptionsError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options = HashMap::new();
        for part in parts {
            let Some((key, value)) = part
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
            else {
                tracing::error!(option = text, "invalid token option");
                return Err(OptionsError::Invalid);
            };
            if options.insert(key, value).is_some() {
                tracing::error!(
                    option = text,
                    "duplicate-parameter" = key,
                    "invalid token option"
                );
                return Err(OptionsError::Invalid);
            }
        }
        match kind {
            "" => Ok(Self::Disabled),
            "simple" => Ok(Self::Simple { ttl: simple_ttl }),
            "jwt" => JwtOptions::from_options(&options).map(Self::Jwt),
            other => {
                let error = OptionsError::Invalid;
                tracing::warn!(r#type = other, %error, "unknown token type");
                Err(error)
            }
        }
    }
}

impl JwtOptions {
    fn from_options(options: &HashMap<&str, &str>) -> Result<Self, OptionsError> {
        let option = |name: &str| options.get(name).copied().filter(|value| !value.is_empty());
        let ttl = match option("ttl").map(gotext::parse_duration) {
            None => i64::try_from(JWT_TTL.as_nanos()).unwrap_or(i64::MAX),
            Some(Ok(ttl)) => ttl,
            Some(Err(error)) => return Err(problem(&error)),
        };
        let method = match option("sign-method") {
            Some("none") => return Err(OptionsError::UnsupportedMethod),
            name => name
                .and_then(Method::named)
                .ok_or_else(|| problem(&"auth: invalid auth signature method"))?,
        };
        const KNOWN: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];
        let mut unknown: Vec<_> = options
            .keys()
            .copied()
            .filter(|name| !KNOWN.contains(name))
            .collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            tracing::warn!(keys = ?unknown, "unknown JWT options");
        }
        Ok(Self {
            method: method.name,
            ttl,
            public_file: option("pub-key").map(str::to_owned),
            private_file: option("priv-key").map(str::to_owned),
        })
    }

    /// Reads the key files, if there are any.
    pub(crate) fn read(
        &self,
        read_file: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<KeyFiles, OptionsError> {
        let read = |file: &Option<String>| match file {
            None => Ok(Vec::new()),
            Some(path) => read_file(path)
                .map_err(|error| problem(&format!("open {path}: {}", gotext::os_error(&error)))),
        };
        Ok((read(&self.public_file)?, read(&self.private_file)?))
    }
}

fn problem(error: &impl std::fmt::Display) -> OptionsError {
    tracing::error!(%error, "problem loading JWT options");
    OptionsError::Invalid
}

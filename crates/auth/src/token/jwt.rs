use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::Keys;
use super::method::Method;
use super::options::{JwtOptions, KeyFiles, OptionsError};
use crate::identity::AuthInfo;

/// Verified tokens a member remembers, so that the same one is not verified for each request.
const REMEMBERED: usize = 1024;
/// Longer tokens are verified each time.
const REMEMBERED_LENGTH: usize = 4096;

/// Signed tokens: JSON Web Tokens with the claims `username`, `revision` (of auth) and `exp`.
///
/// Which members accept a token depends on their keys and clocks alone; nothing of it is in the log.
pub struct Jwt {
    options: JwtOptions,
    method: &'static Method,
    current: ArcSwap<Current>,
}

/// The keys in use, and what was verified with them.
struct Current {
    files: KeyFiles,
    keys: Keys,
    verified: RwLock<HashMap<Box<str>, Claims>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Claims {
    info: AuthInfo,
    /// Seconds since 1970.
    expires: Option<f64>,
    not_before: Option<f64>,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys with `read_file`.
    pub fn new(
        options: JwtOptions,
        read_file: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, OptionsError> {
        let method = Method::named(options.method).ok_or(OptionsError::Invalid)?;
        let current = Current::load(method, options.read(read_file)?)?;
        Ok(Self {
            options,
            method,
            current: ArcSwap::from_pointee(current),
        })
    }

    /// Reads the key files again and uses what they hold now; whether that is something else. With keys that are no
    /// good the old ones stay in use. Tokens signed by the old keys are worthless after a change.
    pub fn reload(
        &self,
        read_file: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<bool, OptionsError> {
        let files = self.options.read(read_file)?;
        if self.current.load().files == files {
            return Ok(false);
        }
        self.current
            .store(Arc::new(Current::load(self.method, files)?));
        Ok(true)
    }

    /// The files the keys come from.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        [&self.options.public_file, &self.options.private_file]
            .into_iter()
            .filter_map(|file| file.as_deref())
    }

    /// Signs a token for a user; takes up to some milliseconds with RSA. `now` counts from 1970.
    pub fn sign(&self, info: &AuthInfo, now: Duration) -> Result<String, api::Error> {
        let current = self.current.load();
        if !current.keys.can_sign() {
            return Err(api::Error::other(
                api::Code::Unknown,
                "auth: token signing attempted with verify-only key",
            ));
        }
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let expires = (now + i128::from(self.options.ttl)).div_euclid(1_000_000_000) as i64;
        let claims = serde_json::json!({
            "exp": expires,
            "revision": info.revision,
            "username": &*info.username,
        });
        let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, self.method.name);
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = current
            .keys
            .sign(token.as_bytes())
            .ok_or_else(|| api::Error::other(api::Code::Unknown, "cannot sign a token"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Who a token is for, if it is good. `now` counts from 1970.
    pub fn verify(&self, token: &str, now: Duration) -> Option<AuthInfo> {
        let current = self.current.load();
        let known = {
            let verified = current
                .verified
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            verified.get(token).cloned()
        };
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = self.read(&current.keys, token)?;
                current.remember(token, &claims);
                claims
            }
        };
        claims.are_valid_at(now).then_some(claims.info)
    }

    fn read(&self, keys: &Keys, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message
            .split_once('.')
            .filter(|(_, rest)| !rest.contains('.'))?;
        let header = object(header)?;
        if header.get("alg").and_then(Value::as_str) != Some(self.method.name) {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !keys.verify(message.as_bytes(), &signature) {
            return None;
        }
        Claims::read(&object(claims)?)
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Current {
    fn load(method: &Method, files: KeyFiles) -> Result<Self, OptionsError> {
        let keys = Keys::load(method, &files.0, &files.1)?;
        Ok(Self {
            files,
            keys,
            verified: RwLock::default(),
        })
    }

    fn remember(&self, token: &str, claims: &Claims) {
        if token.len() > REMEMBERED_LENGTH {
            return;
        }
        let mut verified = self
            .verified
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(token.into(), claims.clone());
    }
}

impl Claims {
    fn read(claims: &Map<String, Value>) -> Option<Self> {
        let username = claims.get("username")?.as_str()?.into();
        // All numbers are floating-point numbers to Go; a negative one counts as no revision.
        let revision = claims.get("revision")?.as_f64()? as u64;
        Some(Self {
            info: AuthInfo { username, revision },
            expires: time(claims, "exp")?,
            not_before: time(claims, "nbf")?,
        })
    }

    fn are_valid_at(&self, now: Duration) -> bool {
        let now = now.as_secs_f64();
        self.expires.is_none_or(|expires| now < expires)
            && self.not_before.is_none_or(|not_before| now >= not_before)
    }
}

/// A time in whole seconds. `Some(None)` if it is not given, which 0 means too; `None` if it is not a number.
#[allow(clippy::option_option)] // the three cases are just these
fn time(claims: &Map<String, Value>, name: &str) -> Option<Option<f64>> {
    match claims.get(name) {
        None => Some(None),
        Some(value) => value
            .as_f64()
            .map(|time| Some(time.trunc()).filter(|_| time != 0.0)),
    }
}

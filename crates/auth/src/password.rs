//! Passwords as etcd keeps them: texts of bcrypt hashes.

mod cache;
mod hash;
mod pool;

pub use hash::{Cost, HashError, PASSWORD_MAX, hash, verify, wrap_hash};
pub(crate) use hash::{derived_salt, unwrap_hash};
pub use pool::{PasswordPool, PoolConfig};

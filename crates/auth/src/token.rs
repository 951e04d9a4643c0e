//! Tokens: what a login gives and later requests show.

mod jwt;
mod keys;
mod method;
mod options;
mod pem;
mod provider;
mod simple;

pub use jwt::Jwt;
pub use keys::KeyError;
pub use options::{JwtOptions, OptionsError, TokenConfig};
pub use provider::TokenProvider;
pub use simple::{SimpleTokens, simple_token_index};

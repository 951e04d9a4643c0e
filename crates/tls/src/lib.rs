//! TLS as etcd does it: for the ports of a member, for its connections to other members and for clients.
//!
//! [`ServerTls`] accepts connections, [`ClientTls`] makes them. Both are built from [`TlsFiles`] (paths and rules, as
//! flags give them) and a [`Protocol`] (versions and cipher suites). Files are looked at again at every handshake;
//! a bad new version is reported and the good old one stays in use. What is checked, in which words it is refused,
//! and where this differs from etcd is in `docs/tls.md`.
//!
//! Errors are texts in Go's words, because operators and their scripts look for those.

// TLS lives at the edge: certificates are valid in real time, and handshakes end after a while.
#![allow(clippy::disallowed_methods)]

mod allowed;
mod auto;
mod certificate;
mod client;
mod client_verifier;
mod crl;
mod der;
mod error;
mod files;
mod go;
mod hello;
mod identity;
mod lenient;
mod observer;
mod pair;
mod pem;
mod protocol;
mod refusal;
mod rejection;
mod remote;
mod resolver;
mod server;
mod server_verifier;
mod sniff;
mod suites;
mod trust;
mod watched;

pub use auto::{AutoTls, self_signed};
pub use client::{ClientOptions, ClientTls, HandshakeError};
pub use error::Error;
pub use files::TlsFiles;
pub use identity::Identity;
pub use observer::{Material, NoObserver, Observer};
pub use protocol::Protocol;
pub use rejection::Rejection;
pub use resolver::{LookupFuture, Resolver, SystemResolver};
pub use server::{Accepted, Endpoint, Ends, ServerOptions, ServerTls};
pub use sniff::{looks_like_tls, speaks_tls};

/// A TLS connection that was accepted.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;
/// A TLS connection that was made.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;

/// How long a handshake may take, on both sides. etcd's limit.
pub const HANDSHAKE_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

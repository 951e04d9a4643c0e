//! The wire between members: etcd's peer protocol, both sides.
//!
//! * [`Transport`] knows the other members and carries raft's messages to them: by streams the other side opened, by
//!   single `POST`s where there is none. It opens streams to them and hands what arrives to a [`Sink`].
//! * [`PeerServer`] answers the peer port: raft's paths by itself, what members ask each other through [`PeerApi`].
//! * [`PeerClient`] asks other members such things.
//! * [`Dialer`] and [`Acceptor`] make and take connections; TLS is put in there.
//! * [`codec`] has the bytes.
//!
//! `docs/peer-protocol.md` describes the protocol and how it is used here.
//!
//! Architecture invariant: what entries and databases contain is not known here. Nothing waits for another member on
//! the caller's thread; every queue has a bound; bytes from the network cannot panic and are not trusted in length.

// Edge of the member: connections have deadlines and clocks are compared here. Nothing of it reaches the state machine.
#![allow(clippy::disallowed_methods)]

pub mod codec;

mod activity;
mod body;
mod client;
mod config;
mod headers;
mod io;
mod kind;
mod link;
mod outbox;
mod peer;
mod peer_api;
mod picker;
mod pipeline;
mod probe;
mod reader;
mod runtime;
mod server;
mod shared;
mod sink;
mod snapshot;
mod text;
mod transport;
mod url;
mod writer;

pub use body::Body;
pub use client::{ClientError, ForwardError, PeerClient, RemoteCluster};
pub use config::Config;
pub use io::{Accepted, Acceptor, BoxFuture, BoxIo, Dialer, Io, PlainAcceptor, PlainDialer};
pub use peer_api::{HashKv, HashKvError, LeaseError, PeerApi, PromoteError, Versions};
pub use runtime::PeerRuntime;
pub use server::{Listener, Listening, PeerServer, Reply};
pub use sink::{BoxError, NoObserver, Observer, Sink, SnapshotFile};
pub use snapshot::SnapshotToSend;
pub use transport::Transport;
pub use url::{PeerUrl, Place};

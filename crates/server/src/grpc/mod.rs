//! The client API over gRPC.
//!
//! A request goes through here in etcd's order: size and decoding, refusals that concern any request (`services`),
//! the quota, the fields ([`validate`]), the member behind [`crate::frontend::Frontend`]. `docs/api.md` has the
//! order and the texts.
//!
//! The framing is our own and thin (`frame`, `body`): requests are decoded from the transport's buffers without
//! a copy, lists leave piece by piece, and refusals have grpc-go's words, which clients know. HTTP/2 below it is
//! hyper's.

mod auth;
mod body;
mod call;
mod cluster;
mod election;
mod frame;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
pub mod method;
mod pieces;
mod range_stream;
mod recipe;
mod services;
mod status;
mod stream;
pub mod validate;
mod watch;

pub use body::ResponseBody;
pub use services::{Services, Settings};

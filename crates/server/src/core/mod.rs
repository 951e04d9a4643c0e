//! One member: its shared state, the threads that change it, and what frontends can ask of it.
//!
//! [`Member`] is what all frontends share. The apply thread ([`applier`]) is the only writer of the
//! replicated state; [`background`] does what a member does unasked.

pub mod applier;
mod auth_ops;
pub mod background;
mod bulk;
mod cluster_ops;
mod compactor;
mod front;
mod ids;
mod kv_ops;
mod lease_ops;
mod maintenance;
mod member;
mod peer_api;
mod peers;
mod pending;
mod reads;
pub mod snapshots;
mod waiter;

pub use bulk::Bulk;
pub use ids::IdGenerator;
pub use member::{Limits, Member, MemberParts};
pub(crate) use peer_api::ForPeers;
pub(crate) use peers::FromPeers;
pub use peers::Peers;
pub use pending::{Outcome, Pending};
pub use reads::Reads;
pub use waiter::{Slot, Wait, Wakes};

//! Everything that crosses a process boundary in protobuf: messages, gRPC clients and servers, and the table of
//! errors clients recognise by their text.
//!
//! The messages of the client API come from our own `.proto` files; those of raft, WAL and snapshot files are
//! written by hand in [`raftpb`], [`walpb`] and [`snappb`], because the releases of etcd differ in which zero
//! fields they write and protobuf's own rules cannot say that.
//!
//! Three things differ from a plain `prost` tree:
//!
//! * a key-value pair inside a message is a [`RawKv`]: the encoded record, shared and never parsed on its way from
//!   the store to a client. [`mvccpb::KeyValue`] is the parsed form.
//! * all `bytes` fields are [`bytes::Bytes`].
//! * the fields `peerURLs` and `clientURLs` are called `peer_urls` and `client_urls` in Rust.
//!
//! **Architecture invariant:** this crate knows no other crate of ours.

mod error;
mod kv;
mod raft;
mod raw_kv;
mod request_id;
mod wal;

pub use error::Error;
pub use raw_kv::RawKv;
pub use request_id::raft_request_id;
pub use tonic::{Code, Status};

/// Generated code of one package.
macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $file:literal $(, $($more:tt)*)?) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::pedantic, clippy::all)]
        pub mod $module {
            $($($more)*)?
            include!(concat!(env!("OUT_DIR"), "/", $file));
        }
    };
}

package!(
    /// The client API: KV, Watch, Lease, Cluster, Maintenance, Auth; and what travels in the raft log.
    etcdserverpb, "etcdserverpb.rs", pub use crate::wal::Metadata;
);
package!(
    /// Key-value pairs and events.
    mvccpb, "mvccpb.rs", pub use crate::kv::KeyValue;
);
package!(
    /// Records of users and roles.
    authpb, "authpb.rs"
);
package!(
    /// Membership as it travels in the raft log since 3.5.
    membershippb, "membershippb.rs"
);
package!(
    /// Records of leases, and how members ask each other about them.
    leasepb, "leasepb.rs"
);
package!(
    /// The Lock service.
    v3lockpb, "v3lockpb.rs"
);
package!(
    /// The Election service.
    v3electionpb, "v3electionpb.rs"
);
package!(
    /// The standard gRPC health service, `grpc.health.v1`.
    health, "grpc.health.v1.rs"
);

/// Raft's log entries and messages, with Go's field numbers and enum values.
pub mod raftpb {
    pub use crate::raft::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
        ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Records of WAL segments.
pub mod walpb {
    pub use crate::wal::{Record, Snapshot};
}

/// Contents of `.snap` files.
pub mod snappb {
    pub use crate::wal::SnapFile as Snapshot;
}

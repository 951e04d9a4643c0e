//! What the member around the transport provides.

use std::error::Error;
use std::time::Duration;

use api::raftpb::Message;
use consensus::StepError;

/// Takes what comes from other members. Called on the threads of the transport and of the peer listener: nothing here
/// may block, except the methods of [`SnapshotFile`].
pub trait Sink: Send + Sync + 'static {
    /// A message for raft; it is for this member and not from a removed one.
    fn step(&self, message: Message) -> Result<(), StepError>;
    /// Messages to this member get lost.
    fn report_unreachable(&self, id: u64);
    /// How the snapshot sent to this member ended.
    fn report_snapshot(&self, id: u64, ok: bool);
    /// Whether this id belonged to a member that was removed.
    fn is_removed(&self, id: u64) -> bool;
    /// A leader sends its database, as of the entry at `index`. Called where blocking is allowed.
    fn receive_snapshot(&self, index: u64) -> Result<Box<dyn SnapshotFile>, BoxError>;
    /// Another member says that this one was removed from the cluster: it has to stop.
    fn removed(&self);
}

/// Any error of the member.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A database on its way to disk. Dropped without [`SnapshotFile::finish`], it leaves nothing behind. Called where
/// blocking is allowed.
pub trait SnapshotFile: Send {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BoxError>;
    /// Makes it durable; returns its length in bytes.
    fn finish(self: Box<Self>) -> Result<u64, BoxError>;
}

/// Hears what is measured. Ids are those of the other member. All methods do nothing by default.
pub trait Observer: Send + Sync + 'static {
    /// A message of so many bytes was sent (`peer_sent_bytes_total`).
    fn sent(&self, _to: u64, _bytes: usize) {}
    /// A message of so many bytes was received (`peer_received_bytes_total`); id 0 for link heartbeats.
    fn received(&self, _from: u64, _bytes: usize) {}
    /// A message or snapshot was not sent (`peer_sent_failures_total`).
    fn send_failed(&self, _to: u64) {}
    /// A stream broke, or what came could not be read (`peer_received_failures_total`).
    fn receive_failed(&self, _from: u64) {}
    /// The member can be reached from now on, or cannot (`active_peers`, `disconnected_peers_total`).
    fn active(&self, _id: u64, _active: bool) {}
    /// How long a probe took there and back, smoothed (`peer_round_trip_time_seconds`).
    fn round_trip(&self, _id: u64, _time: Duration) {}
    /// A snapshot begins to be sent (`snapshot_send_inflights_total`).
    fn snapshot_sending(&self, _to: u64) {}
    /// It ended (`snapshot_send_success` with its duration, or `snapshot_send_failures`).
    fn snapshot_sent(&self, _to: u64, _ok: bool, _took: Duration) {}
    /// A snapshot begins to arrive (`snapshot_receive_inflights_total`).
    fn snapshot_receiving(&self, _from: u64) {}
    /// It ended (`snapshot_receive_success` with its duration, or `snapshot_receive_failures`).
    fn snapshot_received(&self, _from: u64, _ok: bool, _took: Duration) {}
    /// A snapshot was refused before its sender was known (`snapshot_receive_failures{From="unknown"}`).
    fn snapshot_refused(&self) {}
}

/// Measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

//! Who this member is, and how patient it is.

use std::time::Duration;

use cluster::Version;
use gotext::Hex;

/// What a transport needs to know about its own member.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Release it reports (`X-Server-Version`); decides with whom it talks.
    pub version: Version,
    /// Lowest release it talks to (`X-Min-Cluster-Version`).
    pub min_cluster_version: Version,
    /// Where it says others reach it (`--initial-advertise-peer-urls`).
    pub peer_urls: Vec<String>,
    /// How long a connection may take to be made: 1 s and one election timeout.
    pub dial_timeout: Duration,
    /// Messages of one stream that may wait; more are dropped.
    pub stream_queue: usize,
    /// The same in bytes of entries; one message is always taken.
    pub stream_queue_bytes: usize,
    /// Messages that may wait for a `POST`; more are dropped.
    pub pipeline_queue: usize,
    /// `POST`s to one member at the same time.
    pub pipeline_workers: usize,
    /// How long a stream may be silent, or a write stuck, before its connection is closed.
    pub io_timeout: Duration,
    /// Pause between two attempts to open a stream.
    pub redial: Duration,
    /// Pause between two probes of a member.
    pub probe_interval: Duration,
    /// How long the log is kept for a member after it got a snapshot.
    pub snapshot_hold: Duration,
}

impl Config {
    /// etcd's values, with its default election timeout.
    pub fn new(id: u64, cluster_id: u64, version: Version, peer_urls: Vec<String>) -> Self {
        Self {
            id,
            cluster_id,
            version,
            min_cluster_version: Version::MIN_CLUSTER,
            peer_urls,
            dial_timeout: Duration::from_secs(2),
            stream_queue: 4096,
            stream_queue_bytes: 256 << 20,
            pipeline_queue: 64,
            pipeline_workers: 4,
            io_timeout: Duration::from_secs(5),
            redial: Duration::from_millis(100),
            probe_interval: Duration::from_secs(4),
            snapshot_hold: Duration::from_secs(30),
        }
    }

    pub(crate) fn id_text(&self) -> Hex {
        Hex(self.id)
    }

    pub(crate) fn cluster_text(&self) -> Hex {
        Hex(self.cluster_id)
    }
}

//! The generated clients over one connection.

use api::etcdserverpb::auth_client::AuthClient;
use api::etcdserverpb::cluster_client::ClusterClient;
use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::lease_client::LeaseClient;
use api::etcdserverpb::maintenance_client::MaintenanceClient;
use api::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};

/// Clients of one server.
#[derive(Clone, Debug)]
pub struct Clients {
    /// KV
    pub kv: KvClient<Channel>,
    /// Watch
    pub watch: WatchClient<Channel>,
    /// Lease
    pub lease: LeaseClient<Channel>,
    /// Cluster
    pub cluster: ClusterClient<Channel>,
    /// Maintenance
    pub maintenance: MaintenanceClient<Channel>,
    /// Auth
    pub auth: AuthClient<Channel>,
}

/// Answers may be larger than tonic's default of 4 MiB.
const LARGEST_ANSWER: usize = 1 << 30;

impl Clients {
    /// Connects, lazily, to a client URL (`http://127.0.0.1:2379`). A broken connection is made again by itself.
    ///
    /// # Panics
    /// When the URL is none, or outside of a tokio runtime.
    pub fn new(url: &str) -> Self {
        let channel = Endpoint::from_shared(url.to_owned())
            .expect("a URL")
            .connect_lazy();
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            auth: AuthClient::new(channel),
        }
    }
}

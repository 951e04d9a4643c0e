//! The server program.

use std::collections::HashMap;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut flags: HashMap<String, String> = HashMap::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let name = arg.trim_start_matches('-').to_owned();
        match name.split_once('=') {
            Some((n, v)) => flags.insert(n.to_owned(), v.to_owned()),
            None => flags.insert(name, args.next().unwrap_or_default()),
        };
    }
    let get = |name: &str, default: &str| {
        flags.get(name).cloned().unwrap_or_else(|| default.to_owned())
    };
    let name = get("name", "default");
    let urls = |text: String| gotext::parse_url_list(text.split(',')).unwrap();
    let peer = get("initial-advertise-peer-urls", "http://localhost:2380");
    let options = server::start::ProgramOptions {
        boot: server::start::BootOptions {
            data_dir: get("data-dir", &format!("{name}.etcd")).into(),
            wal_dir: flags.get("wal-dir").map(Into::into),
            initial_cluster: get("initial-cluster", &format!("{name}={peer}")),
            initial_cluster_token: get("initial-cluster-token", "etcd-cluster"),
            initial_advertise_peer_urls: urls(peer),
            quota_backend_bytes: get("quota-backend-bytes", "0").parse().unwrap(),
            backend_batch_limit: 0,
            backend_batch_interval: Duration::ZERO,
            bootstrap_defrag_threshold_bytes: 0,
            max_learners: 1,
            unsafe_no_fsync: false,
            memory_mlock: false,
            name: name.clone(),
        },
        launch: server::start::LaunchOptions {
            name,
            advertise_client_urls: get("advertise-client-urls", "http://localhost:2379")
                .split(',')
                .map(str::to_owned)
                .collect(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            max_request_bytes: 1572864,
            max_txn_ops: 128,
            quota_backend_bytes: get("quota-backend-bytes", "0").parse().unwrap(),
            snapshot_count: get("snapshot-count", "10000").parse().unwrap(),
            snapshot_catchup_entries: 5000,
            max_snapshots: 5,
            max_wals: 5,
            compaction_batch_limit: 1000,
            compaction_sleep: Duration::from_millis(10),
            lease_checkpoint: false,
        },
        listen_peer_urls: urls(get("listen-peer-urls", "http://localhost:2380")),
        listen_client_urls: urls(get("listen-client-urls", "http://localhost:2379")),
        listen_client_http_urls: Vec::new(),
        listen_metrics_urls: Vec::new(),
        cors: vec!["*".into()],
        host_whitelist: vec!["*".into()],
        watch_progress_interval: Duration::from_secs(600),
        connection: server::net::Options::default(),
        frontends: 2,
    };
    std::process::exit(server::start::run(&options));
}

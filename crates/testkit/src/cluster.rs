//! Several servers that form a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use tonic::Status;

use crate::Server;
use crate::grpc::{Clients, KvHash};
use crate::ports::Port;
use crate::wait;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Members of one cluster, each with its own program.
#[derive(Debug)]
pub struct Cluster {
    /// The members, in the order they were given.
    pub servers: Vec<Server>,
    /// `--initial-cluster`.
    members: Vec<String>,
    args: Vec<String>,
}

impl Cluster {
    /// Founds a cluster with a member for each of the programs and waits until all serve.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub fn start<P: AsRef<Path>>(programs: &[P], args: &[&str]) -> Self {
        let ports: Vec<(Port, Port)> = programs
            .iter()
            .map(|_| (Port::reserve(), Port::reserve()))
            .collect();
        let members: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(at, (_, peer))| format!("m{}=http://127.0.0.1:{}", at + 1, peer.number()))
            .collect();
        let mut cluster = Self {
            servers: Vec::new(),
            members,
            args: args.iter().map(ToString::to_string).collect(),
        };
        for (at, (program, (client, peer))) in programs.iter().zip(ports).enumerate() {
            let server = cluster.spawn(program.as_ref(), at, client, peer, "new");
            cluster.servers.push(server);
        }
        for server in &mut cluster.servers {
            server
                .wait_ready()
                .unwrap_or_else(|error| panic!("{error}"));
        }
        cluster
    }

    fn spawn(&self, program: &Path, at: usize, client: Port, peer: Port, state: &str) -> Server {
        let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
        Server::builder(program)
            .arg(format!("--name=m{}", at + 1))
            .arg(format!("--initial-cluster={}", self.members.join(",")))
            .arg(format!("--initial-cluster-state={state}"))
            .arg(format!("--initial-advertise-peer-urls={}", url(&peer)))
            .arg(format!("--advertise-client-urls={}", url(&client)))
            .args(&self.args.iter().map(String::as_str).collect::<Vec<_>>())
            .spawn_at(client, peer)
    }

    /// Adds a member through the one at `through` and starts it; returns its id. It serves when this returns, unless
    /// it is a learner, which may still be catching up.
    ///
    /// # Panics
    /// When it is refused or does not come up.
    pub async fn join(&mut self, through: usize, program: &Path, learner: bool) -> u64 {
        let (client, peer) = (Port::reserve(), Port::reserve());
        let url = format!("http://127.0.0.1:{}", peer.number());
        let request = api::etcdserverpb::MemberAddRequest {
            peer_urls: vec![url.clone()],
            is_learner: learner,
        };
        let mut clients = Clients::new(&self.servers[through].url());
        let start = Instant::now();
        let id = loop {
            match clients.cluster.member_add(request.clone()).await {
                Ok(answer) => break answer.into_inner().member.map_or(0, |member| member.id),
                // Not before all members have been connected for a while.
                Err(error) => assert!(start.elapsed() < wait::PATIENCE, "{error}"),
            }
            tokio::time::sleep(LOOK).await;
        };
        let at = self.servers.len();
        self.members.push(format!("m{}={url}", at + 1));
        let mut server = self.spawn(program, at, client, peer, "existing");
        server
            .wait_ready()
            .unwrap_or_else(|error| panic!("{error}"));
        self.servers.push(server);
        id
    }

    /// Clients of the running members, in their order.
    pub fn clients(&self) -> Vec<Clients> {
        let running = self.servers.iter().filter(|server| server.pid().is_some());
        running.map(|server| Clients::new(&server.url())).collect()
    }

    /// Waits for a leader that a running member knows and that runs, and returns its place in the list.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn leader(&self) -> usize {
        let start = Instant::now();
        while start.elapsed() < wait::PATIENCE {
            for (at, server) in self.servers.iter().enumerate() {
                if server.pid().is_none() {
                    continue;
                }
                let mut clients = Clients::new(&server.url());
                let request = api::etcdserverpb::StatusRequest {};
                if let Ok(status) = clients.maintenance.status(request).await {
                    let status = status.into_inner();
                    let own = status.header.as_ref().map_or(0, |header| header.member_id);
                    if own == status.leader && own != 0 {
                        return at;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("no leader within {:?}", wait::PATIENCE);
    }

    /// Waits until all running members are at the same revision and returns the hash that each has of its history.
    ///
    /// # Panics
    /// When they do not get there in time.
    pub async fn hashes(&self) -> Vec<KvHash> {
        let mut clients = self.clients();
        let start = Instant::now();
        loop {
            let mut hashes: Vec<Result<KvHash, Status>> = Vec::new();
            let last = clients[0].revision().await;
            for one in &mut clients {
                hashes.push(match &last {
                    Ok(revision) => one.hash_kv(*revision).await,
                    Err(error) => Err(error.clone()),
                });
            }
            let late = start.elapsed() > wait::PATIENCE;
            if let Ok(hashes) = hashes.iter().cloned().collect::<Result<Vec<_>, _>>() {
                return hashes;
            }
            assert!(!late, "members do not come together: {hashes:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

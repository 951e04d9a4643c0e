//! The other members, as the transport reaches them: what comes from them, and what this member does with its way
//! to them.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use api::raftpb::Message;
use cluster::{Effect, Membership, Version};
use consensus::StepError;
use gotext::Hex;
use wal::snap::{DbReceiver, Snapshotter};

use super::Member;
use super::applier::Event;

/// How long a member may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The ways to the other members.
#[derive(Clone)]
pub struct Peers {
    /// Carries raft's messages.
    pub transport: peer::Transport,
    /// Asks everything else.
    pub client: peer::PeerClient,
}

impl Peers {
    /// Follows a change of the members.
    pub(crate) fn follow(&self, effect: &Effect) {
        match effect {
            Effect::AddPeer(member) => self.transport.add_peer(member.id, &member.peer_urls),
            Effect::RemovePeer(id) => self.transport.remove_peer(*id),
            Effect::UpdatePeer(member) => {
                self.transport.update_peer(member.id, &member.peer_urls);
            }
            Effect::None | Effect::RemovedSelf => {}
        }
    }
}

/// Takes what the transport receives.
pub(crate) struct FromPeers {
    pub node: consensus::Node,
    pub membership: Arc<RwLock<Membership>>,
    pub snapshotter: Snapshotter,
    pub to_main: Mutex<Sender<Event>>,
}

impl peer::Sink for FromPeers {
    fn step(&self, message: Message) -> Result<(), StepError> {
        self.node.step(message)
    }

    fn report_unreachable(&self, id: u64) {
        self.node.report_unreachable(id);
    }

    fn report_snapshot(&self, id: u64, ok: bool) {
        // A stopped node sends no more.
        let _ = self.node.report_snapshot(id, ok);
    }

    fn is_removed(&self, id: u64) -> bool {
        self.membership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_removed(id)
    }

    fn receive_snapshot(&self, index: u64) -> Result<Box<dyn peer::SnapshotFile>, peer::BoxError> {
        Ok(Box::new(Receiving(self.snapshotter.receive_db(index)?)))
    }

    fn removed(&self) {
        let to_main = self.to_main.lock().unwrap_or_else(PoisonError::into_inner);
        // If nobody listens, the process is ending already.
        let _ = to_main.send(Event::Removed);
    }
}

struct Receiving(DbReceiver);

impl peer::SnapshotFile for Receiving {
    fn write(&mut self, bytes: &[u8]) -> Result<(), peer::BoxError> {
        Ok(self.0.write(bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<u64, peer::BoxError> {
        Ok(self.0.finish()?)
    }
}

impl Member {
    /// The peer URLs of the leader; `None` while this member leads or nobody is known to.
    pub(crate) fn leader_urls(&self) -> Option<Vec<String>> {
        let leader = self.node.status().leader;
        if leader == 0 || leader == self.id {
            return None;
        }
        let membership = self.membership();
        membership
            .member(leader)
            .map(|member| member.peer_urls.clone())
    }

    /// The lowest release among the members; `None` while one of them does not tell.
    pub(crate) async fn lowest_version(&self) -> Option<Version> {
        let others: Vec<(u64, Vec<String>)> = self
            .membership()
            .members()
            .filter(|member| member.id != self.id)
            .map(|member| (member.id, member.peer_urls.clone()))
            .collect();
        let asked = others.iter().map(|(id, urls)| async move {
            let answer = self
                .peers
                .client
                .get_versions(urls, VERSION_TIMEOUT)
                .await
                .map_err(|error| error.to_string())
                .and_then(|versions| {
                    let version = versions.server.parse::<Version>();
                    version.map_err(|error| error.to_string())
                });
            answer
                .inspect_err(|error| {
                    tracing::warn!("remote-member-id" = %Hex(*id), error, "failed to get version");
                })
                .ok()
        });
        let mut versions = futures_util::future::join_all(asked).await;
        versions.push(Some(crate::start::server_version()));
        cluster::min_member_version(versions)
    }

    /// Hands leadership on before a stop, to the voter that has been connected for longest.
    pub(crate) async fn hand_over_leadership(&self) {
        let id = Hex(self.id);
        let leader = self.node.status().leader;
        if leader != self.id || self.membership().local().is_none() {
            tracing::info!(
                "local-member-id" = %id,
                "current-leader-member-id" = %Hex(leader),
                "skipped leadership transfer; local server is not leader"
            );
            return;
        }
        let voters: Vec<u64> = self.membership().voters().map(|voter| voter.id).collect();
        let others = || voters.iter().copied().filter(|voter| *voter != self.id);
        if others().next().is_none() {
            tracing::info!(
                "local-member-id" = %id,
                "current-leader-member-id" = %id,
                "skipped leadership transfer for single voting member cluster"
            );
            return;
        }
        let longest = others()
            .filter_map(|voter| Some((self.peers.transport.active_since(voter)?, voter)))
            .min();
        let result = match longest {
            Some((_, to)) => self.move_leader(to).await.map(|()| to),
            None => Err(api::Error::Unhealthy),
        };
        match result {
            Ok(to) => tracing::info!(
                "local-member-id" = %id,
                "transferee-member-id" = %Hex(to),
                "leadership transfer finished"
            ),
            Err(error) => tracing::warn!(
                "local-member-id" = %id,
                %error,
                "leadership transfer failed"
            ),
        }
    }

    /// How the connection to a member is, for the checks of `--strict-reconfig-check`.
    pub(crate) fn link(&self, id: u64) -> cluster::Link {
        const STABLE: Duration = Duration::from_secs(5);
        match self.peers.transport.active_since(id) {
            None => cluster::Link::Down,
            Some(since) if Instant::now().duration_since(since) >= STABLE => cluster::Link::Stable,
            Some(_) => cluster::Link::Fresh,
        }
    }
}

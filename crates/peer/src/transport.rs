//! All other members.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use std::{fmt, io};

use api::raftpb::{Message, MessageType};
use gotext::Hex;

use crate::client::Http;
use crate::io::{Acceptor, Dialer};
use crate::link::Link;
use crate::peer::Peer;
use crate::runtime::PeerRuntime;
use crate::server::{Listener, Listening, PeerServer};
use crate::shared::{Shared, type_name};
use crate::snapshot::{self, SnapshotToSend};
use crate::{Config, Observer, PeerApi, Sink};

/// Remotes that are remembered. Real ones are as many as members; anybody can claim to be one.
const MAX_REMOTES: usize = 64;
/// How often connections are looked at that take nothing.
const STUCK_CHECK: Duration = Duration::from_secs(1);

/// Who can be sent messages.
pub(crate) struct Members {
    shared: Arc<Shared>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    peers: HashMap<u64, Arc<Peer>>,
    remotes: HashMap<u64, Arc<Link>>,
    stopped: bool,
}

impl Members {
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn shared_arc(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.read().peers.get(&id).cloned()
    }

    /// Somebody we do not know wrote to us: answers must find the way back.
    pub fn meet(&self, id: u64, urls: &[String]) {
        let known =
            |known: &Known| known.peers.contains_key(&id) || known.remotes.contains_key(&id);
        if id == self.shared.config.id || known(&self.read()) {
            return;
        }
        let mut members = self.write();
        if members.stopped || known(&members) {
            return;
        }
        if members.remotes.len() >= MAX_REMOTES {
            tracing::debug!("remote-peer-id" = %Hex(id), "too many remote peers are remembered");
            return;
        }
        members
            .remotes
            .insert(id, Link::new(id, urls, &self.shared));
        drop(members);
        tracing::info!(
            "local-member-id" = %self.shared.config.id_text(),
            "remote-peer-id" = %Hex(id),
            "remote-peer-urls" = ?urls,
            "added new remote peer"
        );
    }

    fn link(&self, id: u64) -> Option<Arc<Link>> {
        let known = self.read();
        let peer = known.peers.get(&id).map(|peer| &peer.link);
        peer.or_else(|| known.remotes.get(&id)).cloned()
    }

    fn send(&self, message: Message) {
        if message.to == 0 {
            return;
        }
        let known = self.read();
        if let Some(peer) = known.peers.get(&message.to) {
            peer.send(message);
        } else if let Some(remote) = known.remotes.get(&message.to) {
            remote.post(message);
        } else {
            tracing::debug!(
                "message-type" = type_name(&message),
                "unknown-target-peer-id" = %Hex(message.to),
                "ignored message send request; unknown remote peer target"
            );
        }
    }
}

/// The way to the other members. Clones are the same transport.
#[derive(Clone)]
pub struct Transport {
    members: Arc<Members>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers: Vec<u64> = self.members.read().peers.keys().copied().collect();
        f.debug_struct("Transport")
            .field("peers", &peers)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport that works on the threads of `runtime`. It knows nobody yet, and nobody gets what arrives before
    /// [`Transport::connect`].
    pub fn new(
        runtime: &PeerRuntime,
        config: Config,
        dialer: Arc<dyn Dialer>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let http = Http::new(dialer, config.dial_timeout);
        let shared = Shared::new(config, http, observer, runtime.handle().clone());
        let members = Arc::new(Members {
            shared: Arc::new(shared),
            known: RwLock::default(),
        });
        runtime.handle().spawn(drop_stuck(Arc::clone(&members)));
        Self { members }
    }

    /// Says who takes what arrives. Once, before members are added.
    pub fn connect(&self, sink: Arc<dyn Sink>) {
        self.members.shared.connect(sink);
    }

    /// Starts to talk to a member of the cluster. Does nothing if that is known already, or is this member.
    pub fn add_peer(&self, id: u64, urls: &[String]) {
        let shared = &self.members.shared;
        let mut known = self.members.write();
        if id == shared.config.id || known.stopped || known.peers.contains_key(&id) {
            return;
        }
        known
            .peers
            .insert(id, Peer::start(Link::new(id, urls, shared)));
        drop(known);
        tracing::info!(
            "local-member-id" = %shared.config.id_text(),
            "remote-peer-id" = %Hex(id),
            "remote-peer-urls" = ?urls,
            "added remote peer"
        );
    }

    /// Makes an id known that is not a member (yet): messages to it are sent, but nothing is asked of it. For the
    /// members of a cluster that this one joins.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        self.members.meet(id, urls);
    }

    /// Stops to talk to a member.
    pub fn remove_peer(&self, id: u64) {
        let removed = self.members.write().peers.remove(&id);
        if let Some(peer) = removed {
            peer.stop();
            tracing::info!(
                "local-member-id" = %self.members.shared.config.id_text(),
                "removed-remote-peer-id" = %Hex(id),
                "removed remote peer"
            );
        }
    }

    /// Stops to talk to all members: before those of a received snapshot are added.
    pub fn remove_all_peers(&self) {
        for id in self.peers() {
            self.remove_peer(id);
        }
    }

    /// The member is reached elsewhere from now on.
    pub fn update_peer(&self, id: u64, urls: &[String]) {
        let Some(peer) = self.members.peer(id) else {
            return;
        };
        peer.link.picker.update(urls);
        tracing::info!(
            "local-member-id" = %self.members.shared.config.id_text(),
            "updated-remote-peer-id" = %Hex(id),
            "updated-remote-peer-urls" = ?urls,
            "updated remote peer"
        );
    }

    /// Ids of the members that are talked to.
    pub fn peers(&self) -> Vec<u64> {
        self.members.read().peers.keys().copied().collect()
    }

    /// Since when a member can be reached; `None` if it cannot, or is not known.
    pub fn active_since(&self, id: u64) -> Option<Instant> {
        self.members.peer(id)?.link.activity.since()
    }

    /// How many members can be reached now.
    pub fn active_peers(&self) -> usize {
        let known = self.members.read();
        known
            .peers
            .values()
            .filter(|peer| peer.link.activity.since().is_some())
            .count()
    }

    /// Sends messages; never waits. What cannot be sent is dropped and reported as unreachable.
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            self.members.send(message);
        }
    }

    /// Sends the database to a member that is too far behind; never waits. How it ends is told by
    /// [`Sink::report_snapshot`], in any case and once.
    pub fn send_snapshot(&self, snapshot: SnapshotToSend) {
        let shared = &self.members.shared;
        let to = snapshot.message.to;
        debug_assert_eq!(snapshot.message.r#type, MessageType::MsgSnap as i32);
        match self.members.link(to) {
            Some(link) => {
                shared.runtime.spawn(snapshot::send(link, snapshot));
            }
            None => {
                tracing::debug!("unknown-target-peer-id" = %Hex(to), "no such member to send a snapshot to");
                shared.report_snapshot(to, false);
            }
        }
    }

    /// What answers other members' requests; `api` for those that are not raft's.
    pub fn server(&self, api: Arc<dyn PeerApi>) -> PeerServer {
        PeerServer::new(Arc::clone(&self.members), api)
    }

    /// Serves a listener on the transport's threads, with HTTP/1.1 and etcd's time limits.
    pub fn listen(
        &self,
        listener: Listener,
        acceptor: Arc<dyn Acceptor>,
        server: &PeerServer,
    ) -> io::Result<Listening> {
        let shared = &self.members.shared;
        let _runtime = shared.runtime.enter();
        Listening::start(
            listener,
            acceptor,
            server.clone(),
            shared.stop.child_token(),
        )
    }

    /// Throws away all messages from and to a member, without closing connections: for tests.
    pub fn pause(&self, id: u64) {
        if let Some(peer) = self.members.peer(id) {
            peer.set_paused(true);
        }
    }

    /// The end of [`Transport::pause`].
    pub fn resume(&self, id: u64) {
        if let Some(peer) = self.members.peer(id) {
            peer.set_paused(false);
        }
    }

    /// Closes the streams a member opened, which it will open again: for tests.
    pub fn disconnect(&self, id: u64) {
        if let Some(peer) = self.members.peer(id) {
            peer.disconnect();
        }
    }

    /// Stops everything: members, listeners, transfers. Does not wait; the runtime's end does.
    pub fn stop(&self) {
        let mut known = self.members.write();
        known.stopped = true;
        let peers: Vec<Arc<Peer>> = known.peers.drain().map(|(_, peer)| peer).collect();
        let remotes: Vec<Arc<Link>> = known.remotes.drain().map(|(_, remote)| remote).collect();
        drop(known);
        for peer in peers {
            peer.stop();
        }
        for remote in remotes {
            remote.close();
        }
        self.members.shared.stop.cancel();
    }
}

impl consensus::Transport for Transport {
    fn send(&self, messages: Vec<Message>) {
        Self::send(self, messages);
    }
}

/// Looks after connections that take nothing.
async fn drop_stuck(members: Arc<Members>) {
    let stop = members.shared.stop.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(STUCK_CHECK) => {}
            () = stop.cancelled() => return,
        }
        let peers: Vec<Arc<Peer>> = members.read().peers.values().cloned().collect();
        for peer in peers {
            peer.drop_stuck();
        }
    }
}

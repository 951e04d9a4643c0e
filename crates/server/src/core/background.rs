//! What a member does unasked: publishing itself, expiring leases, following versions, giving up on
//! requests that take too long, removing old files.
//!
//! All of it runs on one thread with a runtime of its own, so that none of it competes with clients for
//! a frontend's attention.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apply::Op;
use cluster::VersionDecision;
use tokio::sync::Notify;

use super::Member;
use crate::frontend::Caller;

/// How often waiting requests are looked through for those that took too long.
const SWEEP: Duration = Duration::from_millis(250);
/// How often ended tokens are looked for.
const TOKENS: Duration = Duration::from_secs(1);
/// How often old files are looked for.
const PURGE: Duration = Duration::from_secs(30);
/// How often versions are looked at.
const VERSIONS: Duration = Duration::from_secs(4);
/// Revocations of expired leases that may be under way at once.
const REVOKES: usize = 16;

/// Signals between the member's threads and its background.
#[derive(Debug, Default)]
pub struct Signals {
    /// An entry of the current term was committed for the first time.
    pub first_commit_in_term: Notify,
    /// The cluster version changed.
    pub cluster_version: Notify,
    /// The member is to stop.
    pub stop: Notify,
}

/// Where old files are and how many are kept; 0 means all.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // directories, and the flags of the same names
pub struct Files {
    pub snap: std::path::PathBuf,
    pub wal: std::path::PathBuf,
    pub max_snapshots: usize,
    pub max_wals: usize,
}

/// What the background needs beside the member.
pub struct Background {
    /// The member.
    pub member: Arc<Member>,
    /// Its signals.
    pub signals: Arc<Signals>,
    /// This member's name (`--name`).
    pub name: String,
    /// The URLs clients reach it under (`--advertise-client-urls`).
    pub client_urls: Vec<String>,
    /// `--auto-compaction-*`.
    pub auto_compaction: Option<config::AutoCompaction>,
    /// Where old files are.
    pub files: Files,
    /// To the main thread: told once the member's attributes are in the log.
    pub events: std::sync::mpsc::Sender<super::applier::Event>,
}

impl Background {
    /// Starts the thread.
    pub fn spawn(self) -> std::io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        std::thread::Builder::new()
            .name("background".into())
            .spawn(move || {
                let signals = Arc::clone(&self.signals);
                runtime.block_on(async move {
                    self.start();
                    signals.stop.notified().await;
                });
            })
    }

    fn start(self) {
        let Self {
            member,
            signals,
            name,
            client_urls,
            auto_compaction,
            files,
            events,
        } = self;
        if let Some(option) = auto_compaction {
            tokio::spawn(super::compactor::run(Arc::clone(&member), option));
        }
        tokio::spawn(purge(Arc::clone(&member), files));
        tokio::spawn(sweep(Arc::clone(&member)));
        tokio::spawn(fulfil_wishes(Arc::clone(&member)));
        tokio::spawn(expire_leases(Arc::clone(&member)));
        tokio::spawn(sweep_tokens(Arc::clone(&member)));
        tokio::spawn(follow_cluster_version(
            Arc::clone(&member),
            Arc::clone(&signals),
        ));
        tokio::spawn(follow_storage_version(Arc::clone(&member), signals));
        tokio::spawn(async move {
            if publish(&member, &name, client_urls).await {
                // If nobody listens, the process is ending already.
                let _ = events.send(super::applier::Event::Published);
            }
        });
    }
}

/// Ends requests and reads that took too long.
async fn sweep(member: Arc<Member>) {
    let limit = member.limits.request_timeout();
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !member.is_stopping() {
        ticks.tick().await;
        let now = Instant::now();
        member.pending.expire(now, limit, |_| {
            // Without a leader the proposal was never accepted: the deadline of the wait itself.
            if member.node.status().leader == 0 {
                api::Error::DeadlineExceeded
            } else {
                api::Error::Timeout
            }
        });
        let start = member.reads.expire(now, limit);
        member.start_read_round(start);
    }
}

/// Frees what ended tokens take.
async fn sweep_tokens(member: Arc<Member>) {
    let mut ticks = tokio::time::interval(TOKENS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !member.is_stopping() {
        ticks.tick().await;
        member.auth.provider().sweep(member.now());
    }
}

/// Proposes what the member wants on its own behalf.
async fn fulfil_wishes(member: Arc<Member>) {
    let Some(mut wishes) = member.take_wishes() else {
        return;
    };
    while let Some(op) = wishes.recv().await {
        if let Err(error) = member.propose(op).await {
            tracing::warn!(%error, "failed to propose a request of the member's own");
        }
    }
}

/// Proposes the revocation of leases whose time is over; only the leader's lessor has any.
async fn expire_leases(member: Arc<Member>) {
    let mut ticks = tokio::time::interval(lease::ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let permits = Arc::new(tokio::sync::Semaphore::new(REVOKES));
    while !member.is_stopping() {
        ticks.tick().await;
        let mut left = lease::EXPIRED_PER_ROUND;
        loop {
            let expired = member.lessor().expired(member.now(), left);
            left -= expired.ids.len().min(left);
            for id in expired.ids {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                tokio::spawn(revoke(Arc::clone(&member), id, permit));
            }
            if !expired.more || left == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        propose_checkpoints(&member).await;
    }
}

async fn revoke(member: Arc<Member>, id: i64, permit: tokio::sync::OwnedSemaphorePermit) {
    if !member.is_leader() {
        tracing::warn!("Ignore the lease revoking request because current member isn't a leader");
        return;
    }
    let request = api::etcdserverpb::LeaseRevokeRequest { id };
    // As root, since the keys may be anybody's.
    let result = member
        .propose_for(&Caller::Root, Op::LeaseRevoke(request))
        .await;
    if result.is_ok() {
        member.metrics.server.lease_expired.inc();
    }
    match result {
        Ok(_) | Err(api::Error::LeaseNotFound | api::Error::Stopped) => {}
        Err(error) => {
            let lease = format!("{id:016x}");
            tracing::warn!("lease-id" = lease, %error, "failed to revoke lease");
        }
    }
    drop(permit);
}

async fn propose_checkpoints(member: &Arc<Member>) {
    for _ in 0..lease::CHECKPOINT_ENTRIES_PER_ROUND {
        let due = member
            .lessor()
            .due_checkpoints(member.now(), lease::CHECKPOINTS_PER_ENTRY);
        if due.is_empty() {
            return;
        }
        let checkpoints = due
            .into_iter()
            .map(|(id, remaining_ttl)| api::etcdserverpb::LeaseCheckpoint { id, remaining_ttl })
            .collect();
        let op = Op::LeaseCheckpoint(api::etcdserverpb::LeaseCheckpointRequest { checkpoints });
        if member.propose(op).await.is_err() {
            return;
        }
    }
}

/// Publishes this member's name and client URLs, again and again until it succeeds; false if the member stops
/// before that.
async fn publish(member: &Arc<Member>, name: &str, client_urls: Vec<String>) -> bool {
    let member_hex = format!("{:x}", member.id);
    let attributes = format!("{{Name:{name} ClientURLs:[{}]}}", client_urls.join(" "));
    let request = api::membershippb::ClusterMemberAttrSetRequest {
        member_id: member.id,
        member_attributes: Some(api::membershippb::Attributes {
            name: name.to_owned(),
            client_urls,
        }),
    };
    loop {
        match member
            .propose(Op::ClusterMemberAttrSet(request.clone()))
            .await
        {
            Ok(_) => {
                tracing::info!(
                    "local-member-id" = member_hex,
                    "local-member-attributes" = attributes,
                    "cluster-id" = %format_args!("{:x}", member.cluster_id),
                    "publish-timeout" = %gotext::GoDuration(member.limits.request_timeout()),
                    "published local member to cluster through raft"
                );
                return true;
            }
            Err(api::Error::Stopped) => return false,
            Err(error) => {
                tracing::warn!(
                    "local-member-id" = member_hex,
                    "local-member-attributes" = attributes,
                    "publish-timeout" = %gotext::GoDuration(member.limits.request_timeout()),
                    %error,
                    "failed to publish local member to cluster through raft"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The leader's part in agreeing on the cluster version.
async fn follow_cluster_version(member: Arc<Member>, signals: Arc<Signals>) {
    loop {
        tokio::select! {
            () = signals.first_commit_in_term.notified() => {}
            () = tokio::time::sleep(VERSIONS) => {}
        }
        if member.is_stopping() {
            return;
        }
        if !member.is_leader() {
            continue;
        }
        let lowest = member.lowest_version().await;
        let (decision, current) = {
            let membership = member.membership();
            let current = membership.version();
            (
                cluster::decide_cluster_version(current, lowest, &membership.downgrade()),
                current,
            )
        };
        let version = match decision {
            VersionDecision::Keep => continue,
            VersionDecision::InvalidDowngradeTarget => {
                tracing::error!("invalid downgrade target");
                continue;
            }
            VersionDecision::Set(version) => version,
        };
        match current {
            None => tracing::info!(
                "cluster-version" = %version,
                "setting up initial cluster version using v3 API"
            ),
            Some(from) => {
                tracing::info!(from = %from, to = %version, "updating cluster version using v3 API");
            }
        }
        let request = api::membershippb::ClusterVersionSetRequest {
            ver: version.to_string(),
        };
        match member.propose(Op::ClusterVersionSet(request)).await {
            Ok(_) => tracing::info!("cluster-version" = %version, "cluster version is updated"),
            Err(api::Error::Stopped) => return,
            Err(error) => tracing::warn!(%error, "failed to update cluster version"),
        }
    }
}

/// Brings the storage version step by step to the cluster version.
async fn follow_storage_version(member: Arc<Member>, signals: Arc<Signals>) {
    loop {
        tokio::select! {
            () = signals.cluster_version.notified() => {}
            () = tokio::time::sleep(VERSIONS) => {}
        }
        if member.is_stopping() {
            return;
        }
        // It waits for commits, and neither leases nor time-outs must wait with it.
        let for_thread = Arc::clone(&member);
        let update = move || for_thread.update_storage_version();
        if super::maintenance::blocking("storage-version", update)
            .await
            .is_err()
        {
            tracing::warn!("failed to look at the storage version");
        }
    }
}

/// Removes old segments and snapshots.
async fn purge(member: Arc<Member>, files: Files) {
    let mut ticks = tokio::time::interval(PURGE);
    while !member.is_stopping() {
        ticks.tick().await;
        let files = files.clone();
        let done = super::maintenance::blocking("purge", move || purge_once(&files)).await;
        match done {
            Ok(Ok(paths)) => {
                for path in paths {
                    tracing::info!(path = %path.display(), "purged");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "failed to purge files"),
            Err(_) => return,
        }
    }
}

fn purge_once(files: &Files) -> Result<Vec<std::path::PathBuf>, wal::Error> {
    let fs = disk::RealFs;
    let mut removed = Vec::new();
    if files.max_snapshots > 0 {
        removed.extend(wal::purge::snapshots(
            &fs,
            &files.snap,
            files.max_snapshots,
        )?);
    }
    if files.max_wals > 0 {
        removed.extend(wal::purge::segments(&fs, &files.wal, files.max_wals)?);
    }
    Ok(removed)
}

//! Maintenance of one member: alarms, defragmentation, hashes, snapshots, leadership.

use std::sync::Arc;

use api::etcdserverpb as pb;
use apply::{Op, Response};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Member;
use super::kv_ops::expect_response;
use crate::frontend::Snapshot;
use crate::start::SERVER_VERSION;

/// Bytes of one chunk of a snapshot, as etcd cuts it.
pub const SNAPSHOT_CHUNK: usize = 32 * 1024;
/// Chunks that wait for a slow client; the reader stops until there is room.
const SNAPSHOT_QUEUE: usize = 16;

/// Runs work that waits for the disk on a thread of its own and waits for it here.
pub(crate) async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, api::Error> {
    let (done, result) = oneshot::channel();
    let spawned = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            // The client may be gone by then.
            let _ = done.send(work());
        });
    if let Err(error) = spawned {
        return Err(api::Error::Other {
            code: api::Code::Internal,
            text: error.to_string(),
        });
    }
    result.await.map_err(|_| api::Error::Stopped)
}

fn unknown(error: &dyn std::fmt::Display) -> api::Error {
    api::Error::Other {
        code: api::Code::Unknown,
        text: error.to_string(),
    }
}

impl Member {
    /// Lists, raises or disarms alarms.
    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, api::Error> {
        let mut response = expect_response!(self.propose(Op::Alarm(request)).await?, Alarm);
        response.header.get_or_insert_default().revision = self.store.current_revision();
        self.fill(&mut response.header);
        Ok(response)
    }

    /// What this member knows about itself; needs no quorum.
    pub fn status(&self) -> pb::StatusResponse {
        let node = self.node.status();
        let mut errors = Vec::new();
        if node.leader == 0 {
            errors.push(api::Error::NoLeader.text().to_owned());
        }
        for alarm in self.alarms.list() {
            errors.push(alarm_text(&alarm));
        }
        let membership = self.membership();
        let downgrade = membership.downgrade();
        pb::StatusResponse {
            header: Some(self.response_header()),
            version: SERVER_VERSION.to_owned(),
            db_size: self.backend.size() as i64,
            leader: node.leader,
            raft_index: node.committed,
            raft_term: node.term,
            raft_applied_index: self.applied(),
            errors,
            db_size_in_use: self.backend.size_in_use() as i64,
            is_learner: membership.local().is_some_and(|member| member.is_learner),
            storage_version: self.storage_version(),
            db_size_quota: self.quota.bytes(),
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: downgrade.is_enabled(),
                target_version: downgrade
                    .target()
                    .map(|v| v.to_string())
                    .unwrap_or_default(),
            }),
        }
    }

    /// The storage version in the database, empty while it is not set.
    pub fn storage_version(&self) -> String {
        match self.backend.get(backend::Bucket::Meta, b"storageVersion") {
            Ok(Some(version)) => String::from_utf8_lossy(&version).into_owned(),
            _ => String::new(),
        }
    }

    /// Brings the storage version to the cluster version, one minor at a time.
    pub(crate) fn update_storage_version(&self) {
        let Some(target) = self.membership().version().map(cluster::Version::cluster) else {
            return;
        };
        if target == cluster::Version::MIN_CLUSTER {
            return;
        }
        let result = cluster::detect_storage_version(self.backend.as_ref()).and_then(|from| {
            cluster::plan_storage_migration(from, target, crate::start::server_version(), None)
        });
        let steps = match result {
            Ok(steps) => steps,
            Err(error) => {
                tracing::error!("cluster-version" = %target, %error, "failed to update storage version");
                return;
            }
        };
        if !steps.is_empty() {
            let from = self.storage_version();
            tracing::info!(
                "cluster-version" = %target,
                "storage-version" = from,
                "cluster version differs from storage version."
            );
        }
        for step in steps {
            let (bucket, key) = (backend::Bucket::Meta, step.key);
            let op = match step.value {
                Some(value) => backend::Op::Put { bucket, key, value },
                None => backend::Op::Delete { bucket, key },
            };
            if self.backend.background(vec![op]).wait().is_err() {
                return;
            }
            tracing::info!("new-storage-version" = %step.version, "updated storage version");
        }
    }

    /// Rewrites the database file without its free pages, while everything goes on.
    pub async fn defragment(&self) -> Result<(), api::Error> {
        let backend = Arc::clone(&self.backend);
        blocking("defrag", move || backend.defrag())
            .await?
            .map_err(|e| unknown(&e))
    }

    /// The hash of the whole database.
    pub async fn hash(&self) -> Result<u32, api::Error> {
        let backend = Arc::clone(&self.backend);
        blocking("hash", move || backend.hash())
            .await?
            .map_err(|e| unknown(&e))
    }

    /// The hash of all keys at a revision.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, api::Error> {
        let store = Arc::clone(&self.store);
        let hash = blocking("hash-kv", move || store.hash_kv(revision))
            .await?
            .map_err(apply::store_error)?;
        Ok(pb::HashKvResponse {
            header: Some(self.response_header()),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        })
    }

    /// Starts a consistent copy of the database.
    pub async fn snapshot(&self) -> Result<Snapshot, api::Error> {
        let backend = Arc::clone(&self.backend);
        let (chunks, receiver) = mpsc::channel(SNAPSHOT_QUEUE);
        let (opened, image) = oneshot::channel();
        let copy = move || match backend.snapshot() {
            Err(error) => drop(opened.send(Err(unknown(&error)))),
            Ok(image) => {
                if opened.send(Ok(image.len())).is_ok() {
                    copy_image(&image, &chunks);
                }
            }
        };
        std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(copy)
            .map_err(|error| api::Error::Other {
                code: api::Code::Internal,
                text: error.to_string(),
            })?;
        let length = image.await.map_err(|_| api::Error::Stopped)??;
        Ok(Snapshot {
            length,
            version: self.storage_version(),
            chunks: receiver,
        })
    }

    /// Moves leadership to another voter.
    pub async fn move_leader(&self, target: u64) -> Result<(), api::Error> {
        if !self.is_leader() {
            return Err(api::Error::NotLeader);
        }
        if self
            .membership()
            .member(target)
            .is_none_or(|member| member.is_learner)
        {
            return Err(api::Error::BadLeaderTransferee);
        }
        if target == self.id {
            return Ok(());
        }
        self.node
            .transfer_leader(target)
            .map_err(|_| api::Error::Stopped)?;
        let deadline = tokio::time::Instant::now() + self.limits.request_timeout();
        while self.node.status().leader != target {
            if tokio::time::Instant::now() >= deadline {
                return Err(api::Error::TimeoutLeaderTransfer);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn copy_image(image: &backend::SnapshotImage, chunks: &mpsc::Sender<Result<Bytes, api::Error>>) {
    let mut offset = 0;
    loop {
        let mut chunk = vec![0; SNAPSHOT_CHUNK];
        let read = match image.read_at(offset, &mut chunk) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "failed to read the database for a snapshot");
                // The client may be gone by then.
                let _ = chunks.blocking_send(Err(unknown(&error)));
                return;
            }
        };
        chunk.truncate(read);
        offset += read as u64;
        if read == 0 || chunks.blocking_send(Ok(chunk.into())).is_err() {
            return;
        }
    }
}

/// An alarm as Status lists it.
fn alarm_text(alarm: &pb::AlarmMember) -> String {
    format!(
        "memberID:{} alarm:{}",
        alarm.member_id,
        alarm.alarm().as_str_name()
    )
}

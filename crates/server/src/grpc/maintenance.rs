//! The Maintenance service.

use std::sync::Arc;
use std::time::Instant;

use api::Error;
use api::etcdserverpb as pb;
use bytes::{Bytes, BytesMut};
use pb::alarm_request::AlarmAction;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use super::call::Call;
use super::services::{Sender, Services, only_message};
use crate::frontend::{Frontend, Need};
use crate::metrics::Tally;

/// Most bytes of the database in one message of a snapshot.
const CHUNK: usize = 32 * 1024;

impl<F: Frontend> Services<F> {
    /// An unknown action crashes upstream's members; here it is an error.
    pub(super) async fn alarm(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::AlarmResponse, Status> {
        let request: pb::AlarmRequest = self.receive(call, tally).await?;
        if AlarmAction::try_from(request.action).is_err() {
            return Err(Error::UnknownMethod.into());
        }
        let need = if request.action == AlarmAction::Get as i32 {
            Need::User
        } else {
            Need::Root
        };
        self.member.permit(&call.caller(), need).await?;
        Ok(self.member.alarm(request).await?)
    }

    pub(super) async fn status(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::StatusResponse, Status> {
        let pb::StatusRequest {} = self.receive_unless(call, tally, |_| false).await?;
        self.member.permit(&call.caller(), Need::User).await?;
        Ok(self.member.status())
    }

    pub(super) async fn defragment(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::DefragmentResponse, Status> {
        let pb::DefragmentRequest {} = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        self.member.defragment().await?;
        Ok(pb::DefragmentResponse { header: None })
    }

    pub(super) async fn hash(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::HashResponse, Status> {
        let pb::HashRequest {} = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        let started = Instant::now();
        let hash = self.member.hash().await?;
        self.metrics
            .mvcc
            .hash_duration
            .observe(started.elapsed().as_secs_f64());
        Ok(pb::HashResponse {
            header: Some(self.member.header()),
            hash,
        })
    }

    pub(super) async fn hash_kv(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::HashKvResponse, Status> {
        let request: pb::HashKvRequest = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        let started = Instant::now();
        let response = self.member.hash_kv(request.revision).await?;
        self.metrics
            .mvcc
            .hash_rev_duration
            .observe(started.elapsed().as_secs_f64());
        Ok(response)
    }

    pub(super) async fn move_leader(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<pb::MoveLeaderResponse, Status> {
        let request: pb::MoveLeaderRequest = self.receive(call, tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        self.member.move_leader(request.target_id).await?;
        Ok(pb::MoveLeaderResponse { header: None })
    }

    /// The database in chunks, then the SHA-256 of all chunks. What a client saves is the image with its digest
    /// behind it.
    pub(super) async fn snapshot(
        self: Arc<Self>,
        mut call: Call,
        out: Sender,
    ) -> Result<(), Status> {
        let pb::SnapshotRequest {} = only_message(&mut call, &out.tally).await?;
        self.member.permit(&call.caller(), Need::Root).await?;
        let started = Instant::now();
        let mut snapshot = self.member.snapshot().await?;
        let mut digest = Sha256::new();
        let mut remaining = snapshot.length;
        let mut buffer = BytesMut::new();
        loop {
            let piece = snapshot.chunks.recv().await.transpose()?;
            let ended = piece.is_none();
            buffer.extend_from_slice(&piece.unwrap_or_default());
            while buffer.len() >= CHUNK || (ended && !buffer.is_empty()) {
                let blob = buffer.split_to(CHUNK.min(buffer.len())).freeze();
                digest.update(&blob);
                remaining = remaining
                    .checked_sub(blob.len() as u64)
                    .ok_or_else(wrong_length)?;
                out.send(&chunk(remaining, blob, &snapshot.version)).await;
            }
            if ended {
                break;
            }
        }
        if remaining != 0 {
            return Err(wrong_length());
        }
        let digest = Bytes::copy_from_slice(&digest.finalize());
        out.send(&chunk(0, digest, &snapshot.version)).await;
        self.metrics
            .disk
            .backend_snapshot_duration
            .observe(started.elapsed().as_secs_f64());
        Ok(())
    }
}

fn chunk(remaining_bytes: u64, blob: Bytes, version: &str) -> pb::SnapshotResponse {
    pb::SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: version.to_owned(),
    }
}

/// The image was cut short, so the client must not take it for a backup.
fn wrong_length() -> Status {
    Status::new(
        Code::Internal,
        "the snapshot does not have the announced length",
    )
}

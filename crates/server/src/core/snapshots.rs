//! Disk snapshots: the point in the log behind which a restarted member does not have to read.
//!
//! What is in the `.snap` file is only the membership, for releases that read it at start; the data are the
//! database itself, which must have reached the point first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::raftpb::{ConfState, Snapshot, SnapshotMetadata};
use apply::StateMachine;
use gotext::Hex;

use super::Member;

/// Decides when a snapshot is due and has it written in the background.
#[derive(Debug)]
pub struct Snapshots {
    /// Applied entries between two snapshots (`--snapshot-count`).
    every: u64,
    last: u64,
    forced: bool,
    running: Arc<AtomicBool>,
}

impl Snapshots {
    /// `last` is the index of the snapshot the member started from.
    pub fn new(every: u64, last: u64) -> Self {
        Self {
            every,
            last,
            forced: false,
            running: Arc::default(),
        }
    }

    /// Wants a snapshot after the running batch, however few entries there were.
    pub fn force(&mut self) {
        self.forced = true;
    }

    /// Index of the last snapshot.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The leader sent a snapshot; it is on disk.
    pub fn received(&mut self, index: u64) {
        self.last = index;
    }

    /// Takes a snapshot if one is due at `applied`.
    pub(crate) fn after_batch(
        &mut self,
        machine: &mut StateMachine,
        member: &Arc<Member>,
        conf_state: &ConfState,
        applied: u64,
    ) {
        let due = applied.saturating_sub(self.last) > self.every || self.forced;
        let position = machine.position();
        // While old entries are replayed the membership in memory is ahead of them.
        if !due || position.index != applied || self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::info!(
            "local-member-id" = %Hex(member.id),
            "local-member-applied-index" = applied,
            "local-member-snapshot-index" = self.last,
            "local-member-snapshot-count" = self.every,
            "snapshot-forced" = self.forced,
            "triggering snapshot"
        );
        self.forced = false;
        self.last = applied;
        let data = cluster::v2_store_json(&member.membership());
        let metadata = SnapshotMetadata {
            conf_state: conf_state.clone(),
            index: applied,
            term: position.term,
        };
        let snapshot = Snapshot {
            data: data.into(),
            metadata,
        };
        let committed = machine.db().commit();
        let (node, running) = (member.node.clone(), Arc::clone(&self.running));
        let write = move || {
            save(&node, &committed, snapshot);
            running.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(write)
        {
            tracing::warn!(%error, "failed to start a snapshot");
            self.running.store(false, Ordering::Release);
        }
    }
}

/// The database first, then the file and its record: a record promises both.
fn save(node: &consensus::Node, committed: &backend::Ticket, snapshot: Snapshot) {
    if let Err(error) = committed.wait() {
        tracing::warn!(%error, "failed to commit the database for a snapshot");
        return;
    }
    let index = snapshot.metadata.index;
    if node
        .save_snapshot(snapshot)
        .and_then(consensus::Ticket::wait)
        .is_ok()
    {
        tracing::info!("snapshot-index" = index, "saved snapshot to disk");
    }
}

//! One simulated member: core, disk, state machine.

use std::collections::{BTreeSet, VecDeque};

use api::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, Snapshot, SnapshotMetadata,
};
use bytes::Bytes;
use consensus::{ApplyBatch, Config, Core, Output, Role, Start};

use crate::disk::{Disk, Record};
use crate::history::History;
use crate::machine::{Machine, conf_change};
use crate::rng::Rng;

pub struct Member {
    pub id: u64,
    pub core: Option<Core>,
    pub epoch: u64,
    pub disk: Disk,
    machine: Machine,
    queue: VecDeque<ApplyBatch>,
    /// Ids proposed here since the last start, waiting for their application.
    waiting: BTreeSet<u64>,
    /// Nothing is synced before this time.
    pub disk_stalled_until: u64,
    /// Nothing is applied before this time.
    pub apply_stalled_until: u64,
    pub removed: bool,
}

fn config(id: u64, seed: u64) -> Config {
    Config {
        // Small bounds, so that they are met.
        max_size_per_message: 256,
        max_inflight_messages: 8,
        catchup_entries: 20,
        max_applying_bytes: 400,
        max_applying_entries: 10,
        max_unpersisted_bytes: 4000,
        seed,
        ..Config::new(id)
    }
}

impl Member {
    pub fn new(id: u64, disk: Disk) -> Self {
        Self {
            id,
            core: None,
            epoch: 0,
            disk,
            machine: Machine::default(),
            queue: VecDeque::new(),
            waiting: BTreeSet::new(),
            disk_stalled_until: 0,
            apply_stalled_until: 0,
            removed: false,
        }
    }

    pub fn start(&mut self, rng: &mut Rng) {
        let mut start: Start = self.disk.replay();
        self.machine = self.disk.machine.clone();
        // Either deliver again what the database has, as etcd does, or not.
        if rng.one_in(2) {
            start.applied = self.machine.applied.max(start.snapshot.index);
        }
        let alone = start.conf_state.voters == [self.id];
        self.epoch += 1;
        let mut core = Core::new(config(self.id, rng.next()), start, self.epoch)
            .unwrap_or_else(|error| panic!("member {} cannot start: {error}", self.id));
        if alone {
            core.campaign();
        }
        self.core = Some(core);
    }

    /// Loses what is not durable.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.core = None;
        self.disk.crash(rng);
        self.queue.clear();
        self.waiting.clear();
    }

    pub fn leads(&self) -> bool {
        self.core
            .as_ref()
            .is_some_and(|core| core.leadership().role == Role::Leader)
    }

    pub fn applied(&self) -> u64 {
        self.machine.applied
    }

    pub fn members(&self) -> &ConfState {
        &self.machine.members
    }

    pub fn wait_for(&mut self, id: u64) {
        self.waiting.insert(id);
    }

    pub fn sync(&mut self) {
        let done = self.disk.sync();
        if let (Some(core), Some((epoch, number))) = (&mut self.core, done) {
            core.persisted(epoch, number);
        }
    }

    /// Ends a step round: keeps what is for disk and state machine, gives back the rest.
    pub fn poll(&mut self, history: &mut History) -> Vec<Message> {
        let Some(core) = &mut self.core else {
            return Vec::new();
        };
        let out: Output = core.poll();
        if let Some(index) = core.read_index_alone() {
            history.read_alone(self.id, index);
        }
        if let Some(change) = out.leadership
            && change.now.role == Role::Leader
        {
            history.leader(change.now.term, self.id);
        }
        for outcome in out.reads {
            for id in outcome.ids {
                history.read_done(id, outcome.result.ok());
            }
        }
        for id in out.dropped {
            self.waiting.remove(&id);
        }
        for job in out.persist {
            self.disk.write(job);
        }
        for batch in out.apply {
            let covered = core.committed();
            assert!(
                batch
                    .entries
                    .last()
                    .is_none_or(|last| last.index <= covered)
            );
            self.queue.push_back(batch);
        }
        out.messages
    }

    /// Applies one batch; the `MsgSnap` to send after it.
    pub fn apply(&mut self, rng: &mut Rng, history: &mut History) -> Vec<Message> {
        let Some(batch) = self.queue.pop_front() else {
            return Vec::new();
        };
        if let Some(snapshot) = &batch.snapshot {
            self.install(snapshot, history);
        }
        for entry in &batch.entries {
            self.apply_entry(entry, history);
        }
        if let Some(core) = &mut self.core {
            core.applied(self.machine.applied);
        }
        if rng.one_in(3) {
            self.disk.machine = self.machine.clone();
            if rng.one_in(4) && self.machine.applied > 0 {
                self.save_snapshot();
            }
        }
        batch
            .send_snapshots
            .into_iter()
            .map(|message| self.fill_snapshot(message))
            .collect()
    }

    fn install(&mut self, snapshot: &Snapshot, history: &mut History) {
        let Record::Snapshot(position, members, chain) = crate::disk::snapshot_record(snapshot)
        else {
            unreachable!()
        };
        if position.index <= self.machine.applied {
            return;
        }
        self.machine = Machine {
            applied: position.index,
            term: position.term,
            chain,
            members,
        };
        self.disk.machine = self.machine.clone();
        history.installed(&self.machine);
    }

    fn apply_entry(&mut self, entry: &Entry, history: &mut History) {
        // After a restart, what the database already has is delivered again.
        if entry.index <= self.machine.applied {
            return;
        }
        let change = conf_change(entry);
        let allowed = change.clone().filter(|change| self.machine.allows(change));
        self.machine.apply(entry);
        if let (Some(_), Some(core)) = (&change, &mut self.core) {
            core.apply_conf_change(entry.index, allowed.as_ref())
                .expect("change was allowed");
            if let Some(change) = &allowed {
                self.machine.change_members(change);
            }
            let gone = |change: &ConfChange| {
                change.r#type() == ConfChangeType::RemoveNode && change.node_id == self.id
            };
            self.removed |= allowed.as_ref().is_some_and(gone);
        }
        history.applied(self.id, entry, &self.machine);
        if entry.r#type == EntryType::Normal as i32 && entry.data.len() >= 8 {
            let id = u64::from_le_bytes(entry.data[..8].try_into().unwrap());
            if self.waiting.remove(&id) {
                history.acknowledged(id, entry.index);
            }
        }
    }

    /// The database is durable up to the applied entry: record that, as every ten thousand entries.
    fn save_snapshot(&mut self) {
        let Some(core) = &self.core else { return };
        let position = consensus::Position {
            index: self.machine.applied,
            term: self.machine.term,
        };
        let record = Record::Snapshot(position, self.machine.members.clone(), self.machine.chain);
        self.disk.save_own_snapshot(core.hard_state(), record);
    }

    fn fill_snapshot(&self, mut message: Message) -> Message {
        assert!(self.machine.applied >= message.snapshot.as_ref().unwrap().metadata.index);
        message.snapshot = Some(Snapshot {
            data: Bytes::copy_from_slice(&self.machine.chain.to_le_bytes()),
            metadata: SnapshotMetadata {
                conf_state: self.machine.members.clone(),
                index: self.machine.applied,
                term: self.machine.term,
            },
        });
        message
    }
}

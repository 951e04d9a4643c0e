//! The cluster and everything that goes wrong in it.

use std::collections::BTreeMap;
use std::fmt;

use api::raftpb::{ConfChange, ConfChangeType, Message, MessageType};
use bytes::Bytes;
use consensus::{Proposal, Start, StepError};

use crate::disk::Disk;
use crate::history::History;
use crate::machine::Machine;
use crate::member::Member;
use crate::rng::Rng;

/// Time units per tick.
const TICK: u64 = 10;

/// What a run is made of; "one in n" per time unit, 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub founders: u64,
    /// Members that may join later.
    pub joiners: u64,
    pub steps: u64,
    pub crash: u64,
    pub partition: u64,
    /// One in n messages is lost, doubled, late.
    pub drop: u64,
    pub double: u64,
    pub late: u64,
    pub disk_stall: u64,
    pub apply_stall: u64,
    pub transfer: u64,
    pub members_change: u64,
    /// Learners may become voters.
    pub promote: bool,
}

enum Event {
    Deliver(Box<Message>),
    SnapshotReport {
        at: u64,
        epoch: u64,
        to: u64,
        ok: bool,
    },
}

pub struct Cluster {
    plan: Plan,
    rng: Rng,
    now: u64,
    members: BTreeMap<u64, Member>,
    network: BTreeMap<(u64, u64), Event>,
    sent: u64,
    /// Which side of the partition a member is on.
    sides: BTreeMap<u64, u64>,
    healed_at: u64,
    next_id: u64,
    pub history: History,
}

impl Cluster {
    pub fn new(plan: Plan, seed: u64) -> Self {
        let founders: Vec<_> = (1..=plan.founders)
            .map(|id| (id, Bytes::from_static(b"{}")))
            .collect();
        let mut rng = Rng::new(seed);
        let mut members = BTreeMap::new();
        for (id, _) in &founders {
            let start = Start::bootstrap(&founders);
            let mut disk = Disk::founded(&start);
            disk.machine = Machine {
                members: start.conf_state.clone(),
                ..Machine::default()
            };
            let mut member = Member::new(*id, disk);
            member.start(&mut rng);
            members.insert(*id, member);
        }
        Self {
            plan,
            rng,
            now: 0,
            members,
            network: BTreeMap::new(),
            sent: 0,
            sides: BTreeMap::new(),
            healed_at: 0,
            next_id: 1,
            history: History::new(plan.founders),
        }
    }

    /// Runs with faults, then without, and checks that everything converges.
    pub fn run(&mut self) {
        for _ in 0..self.plan.steps {
            self.faults();
            self.clients();
            self.step();
            if self.now.is_multiple_of(500) {
                self.compare_logs();
            }
        }
        self.heal();
    }

    fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    fn step(&mut self) {
        self.now += 1;
        while let Some(entry) = self.network.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.deliver(event);
        }
        for id in self.ids() {
            self.step_member(id);
        }
    }

    fn step_member(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.core.is_none() {
            return;
        }
        // A removed member goes on for a second, so that the others learn of it.
        if member.removed && self.rng.one_in(10 * TICK) {
            member.core = None;
            return;
        }
        if (self.now + id * 3).is_multiple_of(TICK)
            && let Some(core) = &mut member.core
        {
            core.tick();
        }
        if self.now >= member.disk_stalled_until && self.rng.one_in(4) {
            member.sync();
        }
        let mut messages = Vec::new();
        if self.now >= member.apply_stalled_until && self.rng.one_in(3) {
            messages = member.apply(&mut self.rng, &mut self.history);
        }
        messages.extend(member.poll(&mut self.history));
        for message in messages {
            self.send(message);
        }
    }

    fn send(&mut self, message: Message) {
        let snapshot = message.r#type == MessageType::MsgSnap as i32;
        let (from, to) = (message.from, message.to);
        let cut = self.sides.get(&from).unwrap_or(&0) != self.sides.get(&to).unwrap_or(&0);
        let lost = cut || self.rng.one_in(self.plan.drop);
        let delay = if self.rng.one_in(self.plan.late) {
            self.rng.below(40)
        } else {
            self.rng.below(4)
        } + 1;
        if snapshot {
            let epoch = self.members[&from].epoch;
            self.schedule(
                delay + 1,
                Event::SnapshotReport {
                    at: from,
                    epoch,
                    to,
                    ok: !lost,
                },
            );
        }
        if lost {
            if self.rng.one_in(4)
                && let Some(core) = self
                    .members
                    .get_mut(&from)
                    .and_then(|member| member.core.as_mut())
            {
                core.report_unreachable(to);
            }
            return;
        }
        if self.rng.one_in(self.plan.double) {
            let delay = delay + self.rng.below(30);
            self.schedule(delay, Event::Deliver(Box::new(message.clone())));
        }
        self.schedule(delay, Event::Deliver(Box::new(message)));
    }

    fn schedule(&mut self, delay: u64, event: Event) {
        self.sent += 1;
        self.network.insert((self.now + delay, self.sent), event);
    }

    fn deliver(&mut self, event: Event) {
        match event {
            Event::Deliver(message) => {
                let Some(member) = self.members.get_mut(&message.to) else {
                    return;
                };
                if let Some(core) = &mut member.core {
                    match core.step(*message.clone()) {
                        // The disk is far behind: as if it were lost.
                        Ok(()) | Err(StepError::Full) => {}
                        Err(error) => panic!("{} refused {message:?}: {error}", member.id),
                    }
                }
            }
            Event::SnapshotReport { at, epoch, to, ok } => {
                let Some(member) = self.members.get_mut(&at) else {
                    return;
                };
                if member.epoch == epoch
                    && let Some(core) = &mut member.core
                {
                    core.report_snapshot(to, ok);
                }
            }
        }
    }

    fn faults(&mut self) {
        let ids = self.ids();
        let id = *self.rng.pick(&ids);
        if self.rng.one_in(self.plan.crash) {
            let member = self.members.get_mut(&id).unwrap();
            if member.core.is_some() {
                member.crash(&mut self.rng);
            }
        }
        for id in &ids {
            let member = self.members.get_mut(id).unwrap();
            if !member.removed && member.core.is_none() && self.rng.one_in(60) {
                member.start(&mut self.rng);
            }
        }
        if self.rng.one_in(self.plan.partition) {
            for id in &ids {
                self.sides.insert(*id, self.rng.below(2));
            }
            self.healed_at = self.now + self.rng.below(600);
        }
        if self.now >= self.healed_at {
            self.sides.clear();
        }
        let until = self.now + self.rng.below(400);
        let member = self.members.get_mut(&id).unwrap();
        if self.rng.one_in(self.plan.disk_stall) {
            member.disk_stalled_until = until;
        }
        if self.rng.one_in(self.plan.apply_stall) {
            member.apply_stalled_until = until;
        }
    }

    fn clients(&mut self) {
        let ids = self.ids();
        let id = *self.rng.pick(&ids);
        if self.rng.one_in(3) {
            let count = 1 + self.rng.below(4);
            self.propose(id, count);
        }
        let member = self.members.get_mut(&id).unwrap();
        let Some(core) = &mut member.core else { return };
        if self.rng.one_in(6) {
            self.next_id += 1;
            self.history.read_started(self.next_id);
            core.read_index(&[self.next_id]);
        }
        if self.rng.one_in(self.plan.transfer) {
            core.transfer_leader(*self.rng.pick(&ids));
        }
        if self.rng.one_in(self.plan.members_change) {
            self.change_members();
        }
    }

    fn propose(&mut self, at: u64, count: u64) {
        let member = self.members.get_mut(&at).unwrap();
        for _ in 0..count {
            let Some(core) = &mut member.core else { return };
            self.next_id += 1;
            let mut data = self.next_id.to_le_bytes().to_vec();
            data.resize(8 + self.rng.below(60) as usize, 7);
            core.propose([Proposal {
                id: self.next_id,
                data: data.into(),
            }]);
            member.wait_for(self.next_id);
        }
    }

    /// Proposes a change at any member; it is forwarded, refused or lost like any other.
    fn change_members(&mut self) {
        let ids = self.ids();
        let at = *self.rng.pick(&ids);
        let known = self.members[&at].members().clone();
        let joiner = self.plan.founders + 1 + self.rng.below(self.plan.joiners);
        let used = self.members.contains_key(&joiner);
        let (kind, node_id) = match self.rng.below(4) {
            0 if self.plan.joiners > 0 && !used => (ConfChangeType::AddLearnerNode, joiner),
            1 if !known.learners.is_empty() && self.plan.promote => {
                (ConfChangeType::AddNode, *self.rng.pick(&known.learners))
            }
            2 if known.voters.len() > 2 && self.rng.one_in(3) => {
                (ConfChangeType::RemoveNode, *self.rng.pick(&known.voters))
            }
            _ => (ConfChangeType::UpdateNode, 1),
        };
        if kind == ConfChangeType::AddLearnerNode {
            // Like `member add`, then a start with `--initial-cluster-state existing`.
            let mut member = Member::new(joiner, Disk::default());
            member.start(&mut self.rng);
            self.members.insert(joiner, member);
        }
        self.next_id += 1;
        let change = ConfChange {
            id: self.next_id,
            r#type: kind as i32,
            node_id,
            context: Bytes::from_static(b"{}"),
        };
        if let Some(core) = self
            .members
            .get_mut(&at)
            .and_then(|member| member.core.as_mut())
        {
            core.propose_conf_change(&change);
        }
    }

    fn compare_logs(&self) {
        let logs: Vec<_> = self
            .members
            .values()
            .map(|member| member.disk.log())
            .collect();
        for (at, a) in logs.iter().enumerate() {
            for b in &logs[at + 1..] {
                History::compare(a, b);
            }
        }
    }

    /// No more faults: one leader, equal states, everything acknowledged is there.
    fn heal(&mut self) {
        self.sides.clear();
        self.plan = Plan {
            crash: 0,
            partition: 0,
            drop: 0,
            double: 0,
            late: 0,
            ..self.plan
        };
        self.plan = Plan {
            disk_stall: 0,
            apply_stall: 0,
            transfer: 0,
            members_change: 0,
            ..self.plan
        };
        for member in self.members.values_mut() {
            if member.core.is_none() && !member.removed {
                member.start(&mut self.rng);
            }
        }
        for _ in 0..400 * TICK {
            self.step();
        }
        let leader = self
            .members
            .values()
            .find(|member| member.leads())
            .map(|member| member.id);
        let leader = leader.unwrap_or_else(|| panic!("no leader after the faults ended: {self}"));
        self.propose(leader, 3);
        let last = self.next_id;
        for _ in 0..60 * TICK {
            self.step();
        }
        let acknowledged = self.history.acknowledged.contains_key(&last);
        assert!(acknowledged, "no progress after the faults ended: {self}");
        for id in self.history.acknowledged.keys() {
            assert!(
                self.history.ids.contains(id),
                "acknowledged proposal {id} is lost"
            );
        }
        self.compare_logs();
        let reference = &self.members[&leader];
        let members = reference.members();
        for id in members.voters.iter().chain(&members.learners) {
            let Some(member) = self.members.get(id) else {
                continue;
            };
            if !member.removed {
                let core = member.core.as_ref().unwrap();
                assert_eq!(
                    core.conf_state(),
                    *member.members(),
                    "raft and server disagree: {self}"
                );
                assert_eq!(
                    member.applied(),
                    reference.applied(),
                    "member {id} did not catch up"
                );
            }
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for member in self.members.values() {
            write!(
                f,
                "\n{} removed {} applied {}",
                member.id,
                member.removed,
                member.applied()
            )?;
            if let Some(core) = &member.core {
                let (members, log) = (core.conf_state(), core.log_range());
                write!(
                    f,
                    " {:?} voters {:?} learners {:?}",
                    core.leadership(),
                    members.voters,
                    members.learners
                )?;
                write!(
                    f,
                    " committed {} log {log:?} {:?}",
                    core.committed(),
                    core.progress()
                )?;
            }
        }
        Ok(())
    }
}

//! Random histories, watchers and slow receivers, checked against what a client may rely on: each
//! watcher gets exactly its events, once, in the order of revisions, a revision never divided, with
//! no gap; and whoever is told "up to here" has got everything up to there.

use std::collections::{HashMap, VecDeque};

use api::etcdserverpb::ResponseHeader;
use bytes::Bytes;
use proptest::prelude::*;

use super::sim::{Change, Sim, Store};
use crate::{
    Body, Event, EventKind, Events, Filters, History, KeyRange, LogLimits, StreamConfig,
    StreamControl, StreamReceiver, WatchItem, WatchSpec,
};

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<(u8, bool)>),
    Compact(i64),
    CompactInRead(i64),
    FailRead,
    Snapshot(u8, Option<i64>),
    Open(usize),
    Create {
        stream: usize,
        id: i64,
        range: (u8, u8),
        start: i64,
        flags: u8,
    },
    Cancel(usize, i64),
    Progress(usize),
    Tick(usize),
    Receive(usize, usize),
    Close(usize),
    Round,
    ReadHistory,
}

const STREAMS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let stream = 0..STREAMS;
    let changes = prop::collection::vec((0..6u8, prop::bool::weighted(0.7)), 1..4);
    prop_oneof![
        20 => changes.prop_map(Op::Write),
        2 => (0..8i64).prop_map(Op::Compact),
        1 => (0..8i64).prop_map(Op::CompactInRead),
        1 => Just(Op::FailRead),
        1 => (1..4u8, prop::option::of(0..6i64)).prop_map(|(n, back)| Op::Snapshot(n, back)),
        3 => stream.clone().prop_map(Op::Open),
        8 => (stream.clone(), prop_oneof![4 => 0..4i64, 1 => Just(-5i64)], (0..7u8, 0..8u8), -12..6i64, 0..32u8).prop_map(
            |(stream, id, range, start, flags)| Op::Create { stream, id, range, start, flags }
        ),
        2 => (stream.clone(), prop_oneof![5 => 0..4i64, 1 => Just(-5i64)]).prop_map(|(stream, id)| Op::Cancel(stream, id)),
        4 => stream.clone().prop_map(Op::Progress),
        2 => stream.clone().prop_map(Op::Tick),
        10 => (stream.clone(), 1..6usize).prop_map(|(stream, n)| Op::Receive(stream, n)),
        1 => stream.prop_map(Op::Close),
        15 => Just(Op::Round),
        6 => Just(Op::ReadHistory),
    ]
}

/// A watcher as its client knows it.
struct View {
    range: KeyRange,
    filters: Filters,
    prev_kv: bool,
    progress_notify: bool,
    start: i64,
    /// All matching events below this revision were received.
    next: i64,
    lost: bool,
}

impl View {
    fn wants(&self, event: &Event) -> bool {
        self.range.contains(&event.key) && self.filters.pass(event)
    }

    /// Matching events of the revisions from `self.next` up to `to`.
    fn missing(&self, store: &Store, to: i64) -> Vec<(i64, Bytes, EventKind)> {
        let mut missing = Vec::new();
        for revision in self.next.max(2)..=to.min(store.current_revision()) {
            let events = store.events(revision);
            let wanted = events.iter().filter(|event| self.wants(event));
            missing.extend(wanted.map(|event| (revision, event.key.clone(), event.kind)));
        }
        missing
    }
}

/// One client's end of a stream.
struct Client {
    control: StreamControl,
    receiver: StreamReceiver,
    /// Requests for watchers that were not answered yet.
    pending: VecDeque<WatchSpec>,
    cancels: usize,
    progress: usize,
    views: HashMap<i64, View>,
    /// Largest revision this client was told.
    told: i64,
}

impl Client {
    fn take(&mut self, store: &Store, item: WatchItem) {
        let WatchItem {
            watch_id,
            revision,
            body,
        } = item;
        match body {
            Body::Created => self.created(watch_id, revision),
            Body::Refused { reason } => {
                let spec = self.pending.pop_front().unwrap();
                let range = KeyRange::from_request(&spec.key, &spec.end);
                let wanted = if spec.start_revision < 0 {
                    "etcdserver: mvcc: required revision has been compacted"
                } else if range.is_none() {
                    "mvcc: watcher range is empty"
                } else {
                    assert!(spec.id != 0 && self.views.contains_key(&spec.id));
                    "mvcc: duplicate watch ID provided on the WatchStream"
                };
                assert_eq!((watch_id, &reason[..]), (-1, wanted));
            }
            Body::Events(events) => self.events(store, watch_id, revision, &events),
            Body::Progress => {
                if watch_id == -1 && self.progress > 0 {
                    self.progress -= 1;
                    assert!(!self.views.is_empty());
                    for view in self.views.values() {
                        Self::check_progress(store, view, revision);
                    }
                } else {
                    let view = &self.views[&watch_id];
                    assert!(view.progress_notify);
                    Self::check_progress(store, view, revision);
                }
                assert!(revision >= self.told, "back in time");
                self.told = revision;
            }
            Body::Canceled => {
                assert!(self.cancels > 0);
                self.cancels -= 1;
                self.views.remove(&watch_id).unwrap();
            }
            Body::Compacted { compact_revision } => {
                let view = self.views.get_mut(&watch_id).unwrap();
                assert_eq!(revision, 0);
                assert!(compact_revision <= store.compact_revision());
                assert!(
                    view.next < compact_revision,
                    "nothing it needs is compacted"
                );
                view.lost = true;
            }
        }
    }

    fn created(&mut self, id: i64, revision: i64) {
        let spec = self.pending.pop_front().unwrap();
        assert!(spec.id == id || spec.id == 0);
        assert!(spec.start_revision >= 0);
        let start = spec.start_revision;
        let view = View {
            range: KeyRange::from_request(&spec.key, &spec.end).unwrap(),
            filters: spec.filters,
            prev_kv: spec.prev_kv,
            progress_notify: spec.progress_notify,
            start,
            next: if start == 0 { revision + 1 } else { start },
            lost: false,
        };
        assert!(self.views.insert(id, view).is_none());
        self.told = self.told.max(revision);
    }

    fn check_progress(store: &Store, view: &View, revision: i64) {
        assert!(!view.lost && view.start <= revision);
        assert_eq!(view.missing(store, revision), []);
    }

    fn events(&mut self, store: &Store, id: i64, header: i64, events: &Events) {
        let view = self.views.get_mut(&id).unwrap();
        assert!(!view.lost && !events.is_empty());
        let got: Vec<_> = events
            .iter()
            .map(|event| (event.kv.mod_revision(), event.key.clone(), event.kind))
            .collect();
        let last = got.last().unwrap().0;
        assert!(header >= last && header <= store.current_revision());
        assert_eq!(got, view.missing(store, last));
        view.next = last + 1;
        self.told = self.told.max(last);
        assert_eq!(view.prev_kv, events.prev_kv);
        let item = WatchItem {
            watch_id: id,
            revision: header,
            body: Body::Events(events.clone()),
        };
        let response = item
            .into_responses(ResponseHeader::default(), store, usize::MAX)
            .remove(0);
        for (event, message) in events.iter().zip(&response.events) {
            let revision = event.kv.mod_revision();
            let shown = view.prev_kv && !event.create && revision > store.compact_revision();
            let wanted = if shown {
                store.kv_at(&event.key, revision - 1)
            } else {
                None
            };
            assert_eq!(message.prev_kv, wanted);
        }
    }
}

struct World {
    sim: Sim,
    config: StreamConfig,
    clients: [Option<Client>; STREAMS],
}

fn change(key: u8, put: bool) -> Change {
    (
        Bytes::copy_from_slice(&[b'a' + key]),
        put.then(|| Bytes::from_static(b"v")),
    )
}

impl World {
    fn step(&mut self, op: &Op) {
        let current = self.sim.store.current_revision();
        match op {
            Op::Write(changes) => {
                let changes: Vec<_> = changes.iter().map(|&(key, put)| change(key, put)).collect();
                self.sim.write(&changes);
            }
            Op::Compact(back) => {
                let revision = current - back;
                if revision > self.sim.store.compact_revision() {
                    self.sim.compact(revision);
                }
            }
            Op::CompactInRead(back) => self.sim.store.compact_in_next_read((current - back).max(0)),
            Op::FailRead => self.sim.store.fail_next_reads(1),
            Op::Snapshot(writes, compact) => {
                for n in 0..*writes {
                    self.sim.write_unseen(&[change(n, true)]);
                }
                if let Some(back) = compact {
                    self.sim
                        .store
                        .compact(self.sim.store.current_revision() - back);
                }
                self.sim.restored();
            }
            Op::Open(at) if self.clients[*at].is_none() => {
                let (control, receiver) = self.sim.stream_with(self.config);
                self.clients[*at] = Some(Client {
                    control,
                    receiver,
                    pending: VecDeque::new(),
                    cancels: 0,
                    progress: 0,
                    views: HashMap::new(),
                    told: 0,
                });
            }
            Op::Close(at) => self.clients[*at] = None,
            Op::Round => {
                self.sim.round();
            }
            Op::ReadHistory => {
                self.sim.read_history();
            }
            op => self.client_step(op, current),
        }
    }

    fn client_step(&mut self, op: &Op, current: i64) {
        let (Op::Create { stream: at, .. }
        | Op::Cancel(at, _)
        | Op::Progress(at)
        | Op::Tick(at)
        | Op::Receive(at, _)) = op
        else {
            return;
        };
        let Some(client) = &mut self.clients[*at] else {
            return;
        };
        match op {
            Op::Create {
                id,
                range,
                start,
                flags,
                ..
            } => {
                let end = match range.1 {
                    0 => Bytes::new(),
                    1 => Bytes::from_static(b"\0"),
                    n => Bytes::copy_from_slice(&[b'a' + n - 1]),
                };
                let flag = |bit: u8| flags & (1 << bit) != 0;
                let spec = WatchSpec {
                    id: *id,
                    key: Bytes::copy_from_slice(&[b'a' + range.0]),
                    end,
                    start_revision: if *start == 5 { 0 } else { current + start },
                    filters: Filters {
                        no_put: flag(0) && flag(1),
                        no_delete: flag(0) && !flag(1),
                    },
                    prev_kv: flag(2),
                    progress_notify: flag(3),
                    fragment: flag(4),
                };
                if client.control.create(spec.clone()).is_ok() {
                    client.pending.push_back(spec);
                }
            }
            Op::Cancel(_, id) => {
                client.cancels += usize::from(client.control.cancel(*id).is_ok());
            }
            Op::Progress(_) => {
                client.progress += usize::from(client.control.progress().is_ok());
            }
            Op::Tick(_) => client.control.tick_progress(),
            Op::Receive(_, n) => {
                for _ in 0..*n {
                    let Some(item) = client.receiver.try_recv() else {
                        break;
                    };
                    client.take(&self.sim.store, item);
                }
            }
            _ => {}
        }
    }

    /// Everybody reads until there is nothing left.
    fn finish(&mut self) {
        loop {
            self.sim.settle();
            let mut got = false;
            for client in self.clients.iter_mut().flatten() {
                while let Some(item) = client.receiver.try_recv() {
                    client.take(&self.sim.store, item);
                    got = true;
                }
            }
            if !got {
                break;
            }
        }
        let current = self.sim.store.current_revision();
        for client in self.clients.iter_mut().flatten() {
            assert!(client.pending.is_empty());
            for view in client.views.values().filter(|view| !view.lost) {
                assert_eq!(view.missing(&self.sim.store, current), []);
            }
        }
        let stats = self.sim.shared.stats.snapshot();
        let views = self
            .clients
            .iter()
            .flatten()
            .map(|client| client.views.len() as u64);
        assert_eq!((stats.behind, stats.watchers), (0, views.sum()));
        self.finish_progress(current);
    }

    /// Whoever may be told where it is, is told.
    fn finish_progress(&mut self, current: i64) {
        for at in 0..STREAMS {
            let Some(client) = &mut self.clients[at] else {
                continue;
            };
            client.progress = 1;
            client.control.progress().unwrap();
            client.control.tick_progress();
            client.control.tick_progress();
            self.sim.settle();
            let client = self.clients[at].as_mut().unwrap();
            let wanted = !client.views.is_empty()
                && client
                    .views
                    .values()
                    .all(|view| !view.lost && view.start <= current);
            while let Some(item) = client.receiver.try_recv() {
                assert!(matches!(item.body, Body::Progress));
                client.take(&self.sim.store, item);
            }
            assert_eq!(client.progress == 0, wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn every_watcher_gets_exactly_its_events(
        ops in prop::collection::vec(op(), 1..200),
        log in 1..8usize,
        batch in prop_oneof![Just(0usize), Just(1000), Just(usize::MAX)],
        (items, bytes, requests) in (1..4usize, prop_oneof![Just(1usize), Just(1 << 20)], 1..6usize),
    ) {
        let mut world = World {
            sim: Sim::with(LogLimits { revisions: log, bytes: usize::MAX }, batch),
            config: StreamConfig { items, bytes, requests },
            clients: [None, None, None],
        };
        for op in &ops {
            world.step(op);
        }
        world.finish();
    }
}

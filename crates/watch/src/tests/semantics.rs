//! The rules clients see, one by one.

use api::etcdserverpb::{ResponseHeader, WatchCreateRequest};
use bytes::Bytes;
use prost::Message;

use super::sim::{Sim, brief, drain, key, watch};
use crate::{Filters, History, StreamConfig, WatchSpec};

#[test]
fn a_watcher_gets_what_comes_after_its_creation_one_answer_per_revision() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    sim.put("a");
    control.create(watch(0, "a", 0)).unwrap();
    sim.settle();
    sim.put("a");
    sim.put("b");
    sim.delete("a");
    sim.settle();
    let items = drain(&mut receiver);
    assert_eq!(
        brief(&items),
        ["0 created @2", "0 events 3 @3", "0 events 5 @5"]
    );
}

#[test]
fn all_changes_of_a_transaction_that_match_come_in_one_answer_in_their_order() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    let range = WatchSpec {
        key: key("b"),
        end: key("d"),
        ..WatchSpec::default()
    };
    control.create(range).unwrap();
    sim.settle();
    let one = Some(key("1"));
    sim.write(&[
        (key("a"), one.clone()),
        (key("c"), one.clone()),
        (key("b"), one.clone()),
        (key("d"), one),
        (key("c"), None),
    ]);
    sim.settle();
    let items = drain(&mut receiver);
    assert_eq!(brief(&items), ["0 created @1", "0 events 2 2 2 @2"]);
    let crate::Body::Events(events) = &items[1].body else {
        panic!()
    };
    let keys: Vec<&[u8]> = events.iter().map(|event| &event.key[..]).collect();
    assert_eq!(keys, [b"c", b"b", b"c"]);
    assert_eq!(events.len(), 3);
}

#[test]
fn history_is_replayed_from_the_start_revision_inclusive_in_one_batch() {
    let mut sim = Sim::new();
    for _ in 0..5 {
        sim.put("a");
    }
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 3)).unwrap();
    control.create(watch(0, "a", 6)).unwrap();
    control.create(watch(0, "b", 2)).unwrap();
    sim.settle();
    sim.put("a");
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "0 created @6",
            "1 created @6",
            "2 created @6",
            "0 events 3 4 5 6 @6",
            "1 events 6 @6",
            "0 events 7 @7",
            "1 events 7 @7",
        ]
    );
}

#[test]
fn a_future_start_revision_gets_nothing_earlier() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 4)).unwrap();
    control.progress().unwrap();
    for _ in 0..4 {
        sim.put("a");
    }
    sim.settle();
    control.progress().unwrap();
    sim.settle();
    let items = drain(&mut receiver);
    // The revisions were written before the dispatcher came to look at the requests.
    assert_eq!(
        brief(&items),
        [
            "0 created @5",
            "0 events 4 5 @5",
            "-1 progress @5",
            "-1 progress @5"
        ]
    );

    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 8)).unwrap();
    control.progress().unwrap();
    sim.settle();
    for _ in 0..3 {
        sim.put("a");
        control.progress().unwrap();
        control.tick_progress();
        sim.settle();
    }
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @5", "0 events 8 @8", "-1 progress @8"]
    );
}

#[test]
fn ids_are_counted_up_and_skip_those_in_use_and_any_explicit_one_is_taken() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    for id in [1, 0, 0, -1, 1, -1, i64::MAX] {
        control.create(watch(id, "a", 0)).unwrap();
    }
    control.cancel(0).unwrap();
    control.create(watch(0, "a", 0)).unwrap();
    control.create(watch(2, "a", 0)).unwrap();
    control.cancel(1).unwrap();
    control.create(watch(1, "a", 0)).unwrap();
    sim.settle();
    let duplicate = "-1 refused mvcc: duplicate watch ID provided on the WatchStream @1";
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "1 created @1",
            "0 created @1",
            "2 created @1",
            "-1 created @1",
            duplicate,
            duplicate,
            "9223372036854775807 created @1",
            "0 canceled @1",
            "3 created @1",
            duplicate,
            "1 canceled @1",
            "1 created @1",
        ]
    );
}

#[test]
fn refused_watchers_are_answered_in_their_place() {
    let mut sim = Sim::new();
    sim.put("a");
    let (control, mut receiver) = sim.stream();
    let empty = |key: &'static str, end: &'static str| WatchSpec {
        key: Bytes::from_static(key.as_bytes()),
        end: Bytes::from_static(end.as_bytes()),
        ..WatchSpec::default()
    };
    control.create(empty("b", "a")).unwrap();
    control.create(empty("b", "b")).unwrap();
    control
        .create(WatchSpec {
            start_revision: -1,
            ..empty("b", "a")
        })
        .unwrap();
    control
        .reject("rpc error: code = PermissionDenied desc = etcdserver: permission denied")
        .unwrap();
    control.create(empty("b", "c")).unwrap();
    sim.settle();
    let range = "-1 refused mvcc: watcher range is empty @2";
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            range,
            range,
            "-1 refused etcdserver: mvcc: required revision has been compacted @2",
            "-1 refused rpc error: code = PermissionDenied desc = etcdserver: permission denied @2",
            "0 created @2",
        ]
    );
    assert_eq!(sim.shared.stats.snapshot().watchers, 1);
}

#[test]
fn a_start_below_the_compaction_is_created_and_then_told_with_revision_zero() {
    let mut sim = Sim::new();
    for _ in 0..5 {
        sim.put("a");
    }
    sim.compact(4);
    let (control, mut receiver) = sim.stream();
    control.create(watch(7, "a", 3)).unwrap();
    control.create(watch(8, "a", 4)).unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "7 created @6",
            "7 compacted 4 @0",
            "8 created @6",
            "8 events 4 5 6 @6"
        ]
    );
    // The id is taken until it is cancelled, and until then no progress is claimed.
    control.create(watch(7, "a", 0)).unwrap();
    control.progress().unwrap();
    control.cancel(7).unwrap();
    control.progress().unwrap();
    control.create(watch(7, "a", 0)).unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "-1 refused mvcc: duplicate watch ID provided on the WatchStream @6",
            "7 canceled @6",
            "-1 progress @6",
            "7 created @6",
        ]
    );
}

#[test]
fn an_unknown_id_is_cancelled_in_silence_and_a_known_one_gets_nothing_more() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    control.create(watch(3, "a", 0)).unwrap();
    control.cancel(4).unwrap();
    sim.settle();
    sim.put("a");
    control.cancel(3).unwrap();
    sim.settle();
    sim.put("a");
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["3 created @1", "3 events 2 @2", "3 canceled @2"]
    );
    assert_eq!(sim.shared.stats.snapshot().watchers, 0);
}

#[test]
fn filters_leave_out_events_and_whole_answers() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    let request = |filters: Vec<i32>| {
        WatchSpec::from(WatchCreateRequest {
            key: key("a"),
            filters,
            ..WatchCreateRequest::default()
        })
    };
    assert_eq!(
        request(vec![0, 99]).filters,
        Filters {
            no_put: true,
            no_delete: false
        }
    );
    for filters in [vec![0], vec![1], vec![0, 1], vec![]] {
        control.create(request(filters)).unwrap();
    }
    sim.settle();
    drain(&mut receiver);
    sim.put("a");
    sim.delete("a");
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        [
            "1 events 2 @2",
            "3 events 2 @2",
            "0 events 3 @3",
            "3 events 3 @3"
        ]
    );
}

#[test]
fn ticks_tell_quiet_watchers_that_asked_for_it_where_they_are() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    let quiet = WatchSpec {
        progress_notify: true,
        ..watch(1, "a", 0)
    };
    let busy = WatchSpec {
        progress_notify: true,
        ..watch(2, "b", 0)
    };
    let future = WatchSpec {
        progress_notify: true,
        ..watch(3, "c", 100)
    };
    for spec in [quiet, busy, future, watch(4, "d", 0)] {
        control.create(spec).unwrap();
    }
    sim.settle();
    sim.put("b");
    sim.settle();
    drain(&mut receiver);
    control.tick_progress();
    sim.settle();
    // Not taken yet: a second tick adds nothing, so nothing piles up.
    control.tick_progress();
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["1 progress @2"]);
    control.tick_progress();
    sim.settle();
    let mut items = brief(&drain(&mut receiver));
    items.sort();
    assert_eq!(items, ["1 progress @2", "2 progress @2"]);
}

#[test]
fn without_watchers_a_progress_request_is_not_answered() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream_with(StreamConfig {
        requests: 2,
        ..Default::default()
    });
    for _ in 0..10 {
        control.progress().unwrap();
        sim.settle();
    }
    assert!(drain(&mut receiver).is_empty());
}

#[test]
fn unanswered_requests_are_bounded() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream_with(StreamConfig {
        requests: 2,
        ..Default::default()
    });
    control.create(watch(0, "a", 0)).unwrap();
    control.create(watch(0, "a", 0)).unwrap();
    assert!(control.create(watch(0, "a", 0)).is_err());
    sim.settle();
    assert!(control.progress().is_err());
    assert_eq!(drain(&mut receiver).len(), 2);
    control.progress().unwrap();
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["-1 progress @1"]);
}

#[test]
fn closing_a_stream_frees_everything() {
    let mut sim = Sim::new();
    let config = StreamConfig {
        items: 1,
        ..Default::default()
    };
    let (control, receiver) = sim.stream_with(config);
    for _ in 0..3 {
        control.create(watch(0, "a", 0)).unwrap();
    }
    sim.settle();
    sim.put("a");
    sim.put("a");
    sim.settle();
    assert_eq!(sim.shared.stats.snapshot().behind, 3);
    drop(receiver);
    sim.settle();
    let stats = sim.shared.stats.snapshot();
    assert_eq!((stats.streams, stats.watchers, stats.behind), (0, 0, 0));
    assert!(control.create(watch(0, "a", 0)).is_err());
    sim.put("a");
    sim.settle();
    assert_eq!(std::sync::Arc::strong_count(&control.queue), 1);
}

#[test]
fn a_slow_receiver_loses_nothing_and_holds_up_nobody() {
    let mut sim = Sim::new();
    let slow_config = StreamConfig {
        items: 2,
        ..Default::default()
    };
    let (slow, mut slow_receiver) = sim.stream_with(slow_config);
    let (fast, mut fast_receiver) = sim.stream();
    slow.create(watch(0, "a", 0)).unwrap();
    fast.create(watch(0, "a", 0)).unwrap();
    sim.settle();
    drain(&mut fast_receiver);
    for revision in 2..=9 {
        sim.put("a");
        sim.settle();
        assert_eq!(
            brief(&drain(&mut fast_receiver)),
            [format!("0 events {revision} @{revision}")]
        );
    }
    let mut items = drain(&mut slow_receiver);
    sim.settle();
    items.extend(drain(&mut slow_receiver));
    assert_eq!(
        brief(&items),
        [
            "0 created @1",
            "0 events 2 @2",
            "0 events 3 @3",
            "0 events 4 5 6 7 8 9 @9"
        ]
    );
    sim.put("a");
    sim.settle();
    assert_eq!(brief(&drain(&mut slow_receiver)), ["0 events 10 @10"]);
}

#[test]
fn an_answer_larger_than_the_queue_is_let_in_alone() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream_with(StreamConfig {
        bytes: 10,
        ..Default::default()
    });
    control.create(watch(0, "a", 0)).unwrap();
    sim.settle();
    sim.put("a");
    sim.put("a");
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @1", "0 events 2 @2"]
    );
    sim.settle();
    assert_eq!(brief(&drain(&mut receiver)), ["0 events 3 @3"]);
}

#[test]
fn failing_reads_of_the_store_only_delay() {
    let mut sim = Sim::new();
    sim.write_unseen(&[(key("a"), Some(key("1")))]);
    sim.restored();
    sim.store.fail_next_reads(3);
    let (control, mut receiver) = sim.stream();
    control.create(watch(0, "a", 1)).unwrap();
    sim.settle();
    assert_eq!(
        brief(&drain(&mut receiver)),
        ["0 created @2", "0 events 2 @2"]
    );
}

fn responses(
    sim: &Sim,
    item: crate::WatchItem,
    limit: usize,
) -> Vec<api::etcdserverpb::WatchResponse> {
    let header = ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 99,
        raft_term: 3,
    };
    let responses = item.into_responses(header, &*sim.store, limit);
    for response in &responses {
        let header = response.header.as_ref().unwrap();
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (1, 2, 3)
        );
    }
    responses
}

#[test]
fn answers_become_the_messages_clients_know() {
    let mut sim = Sim::new();
    sim.put("a");
    sim.compact(2);
    let (control, mut receiver) = sim.stream();
    control.create(watch(5, "a", 0)).unwrap();
    control.create(watch(5, "a", 0)).unwrap();
    control.create(watch(6, "a", 1)).unwrap();
    sim.settle();
    sim.delete("a");
    control.progress().unwrap();
    control.cancel(5).unwrap();
    sim.settle();
    let all: Vec<_> = drain(&mut receiver)
        .into_iter()
        .flat_map(|item| responses(&sim, item, 1 << 20))
        .collect();
    let flags: Vec<_> = all
        .iter()
        .map(|r| {
            (
                r.watch_id,
                r.header.as_ref().unwrap().revision,
                r.created,
                r.canceled,
                r.compact_revision,
            )
        })
        .collect();
    assert_eq!(
        flags,
        [
            (5, 2, true, false, 0),
            (-1, 2, true, true, 0),
            (6, 2, true, false, 0),
            (6, 0, false, true, 2),
            (5, 3, false, false, 0),
            (5, 3, false, true, 0),
        ]
    );
    assert_eq!(
        all[1].cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    assert!(all[3].cancel_reason.is_empty() && all[5].cancel_reason.is_empty());
    let event = &all[4].events[0];
    assert_eq!((event.r#type, event.prev_kv.is_some()), (1, false));
    assert_eq!(event.kv.as_ref().unwrap().to_kv().mod_revision, 3);
}

#[test]
fn previous_states_are_shown_unless_compacted_and_are_read_if_unknown() {
    let mut sim = Sim::new();
    sim.put("a"); // 2: creation, nothing before
    sim.put("a"); // 3
    sim.delete("a"); // 4
    sim.put("a"); // 5: creation again
    let unseen = sim.write_unseen(&[(key("a"), Some(key("x")))]);
    sim.restored();
    let (control, mut receiver) = sim.stream();
    let spec = |start| WatchSpec {
        prev_kv: true,
        ..watch(0, "a", start)
    };
    control.create(spec(2)).unwrap();
    sim.settle();
    let prev = |sim: &Sim, item: crate::WatchItem| -> Vec<i64> {
        let response = responses(sim, item, 1 << 20).remove(0);
        let prev = response.events.iter().map(|event| event.prev_kv.as_ref());
        prev.map(|prev| prev.map_or(0, api::RawKv::mod_revision))
            .collect()
    };
    let item = drain(&mut receiver).pop().unwrap();
    assert_eq!(prev(&sim, item.clone()), [0, 2, 3, 0, 5]);
    // At compaction revision 3, the state at 2 is gone, the one at 3 is not.
    sim.compact(3);
    assert_eq!(prev(&sim, item), [0, 0, 3, 0, 5]);
    // The log's events know what was before; a compaction hides that, too.
    sim.put("a");
    sim.settle();
    let item = drain(&mut receiver).pop().unwrap();
    assert_eq!(prev(&sim, item.clone()), [unseen]);
    sim.compact(sim.store.current_revision());
    assert_eq!(prev(&sim, item), [0]);
}

#[test]
fn large_answers_are_divided_between_events_if_wanted() {
    let mut sim = Sim::new();
    let (control, mut receiver) = sim.stream();
    let spec = WatchSpec {
        end: key("\0"),
        fragment: true,
        ..watch(0, "a", 0)
    };
    control.create(spec.clone()).unwrap();
    control
        .create(WatchSpec {
            fragment: false,
            ..spec
        })
        .unwrap();
    sim.settle();
    drain(&mut receiver);
    let value = |n: usize| Some(Bytes::from(vec![b'x'; n]));
    let sizes = [100, 100, 100, 5000, 10, 10];
    let changes: Vec<_> = sizes
        .iter()
        .zip('a'..)
        .map(|(n, c)| (Bytes::from(c.to_string()), value(*n)))
        .collect();
    sim.write(&changes);
    sim.settle();
    let items = drain(&mut receiver);
    let whole = responses(&sim, items[1].clone(), 300);
    assert_eq!(
        (whole.len(), whole[0].fragment, whole[0].events.len()),
        (1, false, 6)
    );
    let pieces = responses(&sim, items[0].clone(), 300);
    let shape: Vec<_> = pieces
        .iter()
        .map(|r| (r.events.len(), r.fragment))
        .collect();
    assert_eq!(shape, [(2, true), (1, true), (1, true), (2, false)]);
    for piece in &pieces {
        assert!(piece.encoded_len() < 300 || piece.events.len() == 1);
        assert_eq!(piece.header, whole[0].header);
    }
    let joined: Vec<_> = pieces.into_iter().flat_map(|r| r.events).collect();
    assert_eq!(joined, whole[0].events);
    // Just below the limit, and just at it.
    let length = responses(&sim, items[0].clone(), usize::MAX)[0].encoded_len();
    assert_eq!(responses(&sim, items[0].clone(), length + 1).len(), 1);
    assert_eq!(responses(&sim, items[0].clone(), length).len(), 2);
}

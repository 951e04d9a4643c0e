//! Bugs of upstream's tracker that a single server can show, each as a test named after its thread.

#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::request_op::Request as Op;
use testkit::grpc::{Clients, WatchStream, watch_key, watch_prefix};
use testkit::load::{Ledger, Load, LoadConfig};
use testkit::{Server, own};

fn revision_of(event: &api::mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, api::RawKv::mod_revision)
}

const DELETE: i32 = 1;

/// 13766: after a crash the stored index was ahead of or behind the data, and entries were lost or applied twice.
/// A server that is killed again and again holds the same history as one that never was.
#[tokio::test]
async fn issue_13766_index_and_data_stay_together() {
    let args = ["--backend-batch-interval=30ms", "--backend-batch-limit=7"];
    let mut killed = Server::builder(own::etcd()).args(&args).start().unwrap();
    let calm = Server::fresh(own::etcd());
    let mut theirs = Clients::new(&calm.url());
    for round in 0..6 {
        let mut ours = Clients::new(&killed.url());
        for clients in [&mut ours, &mut theirs] {
            clients.grant(100 + round, 1000).await.unwrap();
            for number in 0..20 {
                let put = |key: String| pb::RequestOp {
                    request: Some(Op::RequestPut(pb::PutRequest {
                        key: key.into(),
                        value: format!("{round}").into(),
                        lease: 100 + round,
                        ..Default::default()
                    })),
                };
                let request = pb::TxnRequest {
                    success: vec![put(format!("a{number}")), put(format!("b{number}"))],
                    ..Default::default()
                };
                clients.kv.txn(request).await.unwrap();
                clients
                    .delete(&format!("a{}", (number + 7) % 20))
                    .await
                    .unwrap();
            }
        }
        killed.kill();
        killed.restart().unwrap();
    }
    let mut ours = Clients::new(&killed.url());
    assert_eq!(
        ours.hash_kv(0).await.unwrap(),
        theirs.hash_kv(0).await.unwrap()
    );
    for round in 0..6 {
        assert_eq!(
            ours.time_to_live(100 + round).await.unwrap().2,
            theirs.time_to_live(100 + round).await.unwrap().2
        );
    }
}

/// 14370: a single member acknowledged a write before it was in the log.
#[tokio::test]
async fn issue_14370_a_write_is_in_the_log_before_it_is_acknowledged() {
    // Nothing reaches the database file in time.
    let args = [
        "--backend-batch-interval=1h",
        "--backend-batch-limit=1000000",
    ];
    let mut server = Server::builder(own::etcd()).args(&args).start().unwrap();
    for round in 0..15 {
        let mut clients = Clients::new(&server.url());
        let written = clients.put("key", &round.to_string()).await.unwrap();
        server.kill();
        server.restart().unwrap();
        let (kv, revision) = Clients::new(&server.url()).get("key", 0).await.unwrap();
        let kv = kv.expect("the acknowledged write");
        assert_eq!(
            (kv.value, kv.mod_revision, revision),
            (round.to_string().into(), written, written)
        );
    }
}

/// 14685: a kill in the middle of a defragmentation left a database that lost writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_14685_a_kill_during_defragmentation() {
    let mut server = Server::fresh(own::etcd());
    let mut ledger = Ledger::default();
    for round in 0..8 {
        let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
        let mut side = Clients::new(&server.url());
        let defrag = tokio::spawn(async move {
            while side
                .maintenance
                .defragment(pb::DefragmentRequest {})
                .await
                .is_ok()
            {}
        });
        tokio::time::sleep(Duration::from_millis(60 + round * 25)).await;
        server.kill();
        defrag.await.unwrap();
        load.stop(&mut ledger).await;
        server.restart().unwrap();
        let broken = ledger.check(&server.url()).await;
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

/// 15220: an answer to a progress request named a revision whose events came only afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_15220_progress_never_overtakes_events() {
    let server = Server::fresh(own::etcd());
    let clients = Clients::new(&server.url());
    let mut stream = WatchStream::open(&clients, watch_prefix("k", 0))
        .await
        .unwrap();
    let created = stream.expect().await;
    let mut seen = created.header.unwrap().revision;
    let mut writer = clients.clone();
    let writing = tokio::spawn(async move {
        let mut last = 0;
        for number in 0..600 {
            last = writer.put(&format!("k{}", number % 9), "v").await.unwrap();
        }
        last
    });
    let mut answers = 0;
    while !writing.is_finished() || answers == 0 {
        stream.progress().await;
        while let Some(response) = stream.next(Duration::from_millis(2)).await.unwrap() {
            for event in &response.events {
                // Every revision is an event here, so none may be left out.
                assert_eq!(revision_of(event), seen + 1);
                seen += 1;
            }
            if response.events.is_empty() {
                answers += 1;
                let told = response.header.unwrap().revision;
                assert_eq!(told, seen, "progress {told}, but events up to {seen}");
            }
        }
    }
    let last = writing.await.unwrap();
    while seen < last {
        for event in &stream.expect().await.events {
            assert_eq!(revision_of(event), seen + 1);
            seen += 1;
        }
    }
}

/// 17507: a watcher of the past that finds no event was told of progress before its history had been read.
#[tokio::test]
async fn issue_17507_progress_of_a_watcher_of_the_past_without_events() {
    let server = Server::fresh(own::etcd());
    let mut clients = Clients::new(&server.url());
    for round in 0..10 {
        let other = clients.put("other", "1").await.unwrap();
        let mut stream = WatchStream::open(&clients, watch_key("quiet", other))
            .await
            .unwrap();
        stream.progress().await;
        assert!(stream.expect().await.created);
        // The first request may be dropped while history is read; a later one must be answered.
        let mut told = None;
        for _ in 0..50 {
            if let Some(response) = stream.next(Duration::from_millis(100)).await.unwrap() {
                told = Some(response);
                break;
            }
            stream.progress().await;
        }
        let told = told.expect("an answer to a progress request");
        assert!(told.events.is_empty());
        assert_eq!(told.watch_id, -1);
        assert!(told.header.unwrap().revision >= other);
        let written = clients.put("quiet", &round.to_string()).await.unwrap();
        loop {
            let response = stream.expect().await;
            if let Some(event) = response.events.first() {
                assert_eq!(revision_of(event), written);
                break;
            }
            assert!(response.header.unwrap().revision <= written);
        }
    }
}

/// 15271: a watch that was resumed after a crash went back in time. What a watcher sees in pieces, with kills in
/// between, is what one that reads everything afterwards sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_15271_a_resumed_watch_never_travels_back() {
    let mut server = Server::fresh(own::etcd());
    let mut ledger = Ledger::default();
    let mut seen: Vec<(i64, i32, bytes::Bytes, bytes::Bytes)> = Vec::new();
    let take = |seen: &mut Vec<_>, response: &pb::WatchResponse| {
        for event in &response.events {
            let kv = event.kv.clone().unwrap_or_default();
            seen.push((kv.mod_revision(), event.r#type, kv.key(), kv.value()));
        }
    };
    for round in 0..5 {
        let clients = Clients::new(&server.url());
        let next = seen.last().map_or(2, |event| event.0 + 1);
        let mut stream = WatchStream::open(&clients, watch_prefix("load/", next))
            .await
            .unwrap();
        let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
        let end = tokio::time::Instant::now() + Duration::from_millis(150 + round * 30);
        while tokio::time::Instant::now() < end {
            if let Ok(Some(response)) = stream.next(Duration::from_millis(20)).await {
                take(&mut seen, &response);
            }
        }
        server.kill();
        // What was on its way is still delivered.
        while let Ok(Some(response)) = stream.next(Duration::from_millis(200)).await {
            take(&mut seen, &response);
        }
        load.stop(&mut ledger).await;
        server.restart().unwrap();
        let broken = ledger.check(&server.url()).await;
        assert!(broken.is_empty(), "{broken:#?}");
        let last = seen.last().map_or(0, |event| event.0);
        assert!(
            last <= ledger.highest(),
            "an event of {last} after which the store is at {}",
            ledger.highest()
        );
    }
    let clients = Clients::new(&server.url());
    let mut whole = Vec::new();
    let mut stream = WatchStream::open(&clients, watch_prefix("load/", 2))
        .await
        .unwrap();
    while whole.len() < seen.len() {
        let response = stream.expect().await;
        take(&mut whole, &response);
    }
    for (pieces, whole) in seen.iter().zip(&whole) {
        assert_eq!(pieces, whole);
    }
}

/// 17529: events of watchers that could not keep up were lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_17529_slow_watchers_lose_nothing() {
    let server = Server::fresh(own::etcd());
    let mut clients = Clients::new(&server.url());
    const WATCHERS: usize = 40;
    const PUTS: usize = 300;
    let slow = Clients::new(&server.url());
    let mut request = watch_prefix("k", 0);
    request.prev_kv = true;
    let mut stream = WatchStream::open(&slow, request.clone()).await.unwrap();
    for _ in 1..WATCHERS {
        stream.create(request.clone()).await;
    }
    for _ in 0..WATCHERS {
        assert!(stream.expect().await.created);
    }
    // Nobody reads the stream: 40 × 300 events with 2 × 2 KiB do not fit into any buffer.
    let value = "v".repeat(2000);
    let mut first = 0;
    let mut last = 0;
    for number in 0..PUTS {
        last = clients
            .put(&format!("k{}", number % 5), &value)
            .await
            .unwrap();
        first = if number == 0 { last } else { first };
    }
    let mut seen = [first - 1; WATCHERS];
    while seen.iter().any(|revision| *revision < last) {
        let response = stream.expect().await;
        assert!(!response.canceled, "{response:?}");
        let known = &mut seen[response.watch_id as usize];
        for event in &response.events {
            assert_eq!(
                revision_of(event),
                *known + 1,
                "watch {}",
                response.watch_id
            );
            *known += 1;
            let create = *known < first + 5;
            assert_eq!(event.prev_kv.is_none(), create);
        }
    }
}

/// 17780: the revision went back after a crash during a compaction that removed the newest revisions, which
/// were deletions.
#[tokio::test]
async fn issue_17780_the_revision_survives_a_crash_in_compaction() {
    let mut server = Server::builder(own::etcd())
        .args(&[
            "--compaction-batch-limit=10",
            "--compaction-sleep-interval=5ms",
        ])
        .start()
        .unwrap();
    for round in 0..8_u64 {
        let mut clients = Clients::new(&server.url());
        for number in 0..30 {
            clients.put(&format!("k{number}"), "v").await.unwrap();
        }
        let mut last = 0;
        for number in 0..30 {
            last = clients.delete(&format!("k{number}")).await.unwrap();
        }
        if round % 2 == 0 {
            clients.compact(last, false).await.unwrap();
        } else {
            let mut other = clients.clone();
            let compacting = tokio::spawn(async move { other.compact(last, true).await });
            tokio::time::sleep(Duration::from_millis(round * 6)).await;
            compacting.abort();
        }
        server.kill();
        server.restart().unwrap();
        let mut clients = Clients::new(&server.url());
        assert_eq!(clients.revision().await.unwrap(), last, "round {round}");
        assert_eq!(clients.put("next", "1").await.unwrap(), last + 1);
    }
}

/// 18089: the deletion at the compacted revision itself was missing from a watch of it.
#[tokio::test]
async fn issue_18089_a_watch_from_the_compacted_revision_shows_its_deletion() {
    let mut server = Server::fresh(own::etcd());
    let mut clients = Clients::new(&server.url());
    for value in ["2", "3", "4"] {
        clients.put("k", value).await.unwrap();
    }
    let deleted = clients.delete("k").await.unwrap();
    let after = clients.put("k", "6").await.unwrap();
    clients.compact(deleted, true).await.unwrap();
    for restart in [false, true] {
        if restart {
            server.kill();
            server.restart().unwrap();
        }
        let clients = Clients::new(&server.url());
        let mut stream = WatchStream::open(&clients, watch_key("k", deleted))
            .await
            .unwrap();
        assert!(stream.expect().await.created);
        let mut events = Vec::new();
        while events.len() < 2 {
            events.extend(stream.expect().await.events);
        }
        assert_eq!(
            (revision_of(&events[0]), events[0].r#type),
            (deleted, DELETE)
        );
        assert_eq!((revision_of(&events[1]), events[1].r#type), (after, 0));
    }
}

/// 19179: the same, with the watch opened while the compaction is being done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_19179_a_watch_beside_a_compaction_of_its_revision() {
    let server = Server::fresh(own::etcd());
    let mut clients = Clients::new(&server.url());
    for round in 0..25 {
        let key = format!("k{round}");
        clients.put(&key, "v").await.unwrap();
        let deleted = clients.delete(&key).await.unwrap();
        let mut other = clients.clone();
        let compacting = tokio::spawn(async move { other.compact(deleted, round % 2 == 0).await });
        let mut stream = WatchStream::open(&clients, watch_key(&key, deleted))
            .await
            .unwrap();
        compacting.await.unwrap().unwrap();
        assert!(stream.expect().await.created);
        let response = stream.expect().await;
        let event = response.events.first().expect("the deletion");
        assert_eq!((revision_of(event), event.r#type), (deleted, DELETE));
    }
}

/// 18055: two snapshots right after each other. Here: snapshots every few entries, with kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_18055_snapshots_in_quick_succession() {
    let mut server = Server::builder(own::etcd())
        .args(&["--snapshot-count=3", "--snapshot-catchup-entries=1"])
        .start()
        .unwrap();
    let mut ledger = Ledger::default();
    for round in 0..6 {
        let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
        tokio::time::sleep(Duration::from_millis(100 + 20 * round)).await;
        server.kill();
        load.stop(&mut ledger).await;
        server.restart().unwrap();
        let broken = ledger.check(&server.url()).await;
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

/// 18667: a transaction that reads a compacted revision put its keys on some members and not on others. It
/// must do nothing at all, also when it is replayed.
#[tokio::test]
async fn issue_18667_a_transaction_that_reads_the_compacted_past_does_nothing() {
    let mut server = Server::fresh(own::etcd());
    let mut clients = Clients::new(&server.url());
    for number in 0..10 {
        clients.put("k", &number.to_string()).await.unwrap();
    }
    clients.compact(8, true).await.unwrap();
    let before = clients.hash_kv(0).await.unwrap();
    for (revision, text) in [(3, "compacted"), (1000, "future")] {
        let nested = pb::TxnRequest {
            success: vec![range("k", revision)],
            ..Default::default()
        };
        let reads = [
            range("k", revision),
            pb::RequestOp {
                request: Some(Op::RequestTxn(nested)),
            },
        ];
        for read in reads {
            let put = Op::RequestPut(pb::PutRequest {
                key: "must-not-be".into(),
                value: "x".into(),
                ..Default::default()
            });
            let put = pb::RequestOp { request: Some(put) };
            for success in [vec![read.clone(), put.clone()], vec![put, read.clone()]] {
                let request = pb::TxnRequest {
                    success,
                    ..Default::default()
                };
                let refused = clients.kv.txn(request).await.unwrap_err();
                assert_eq!(refused.code(), tonic::Code::OutOfRange);
                assert!(refused.message().contains(text), "{refused:?}");
            }
        }
    }
    assert_eq!(clients.hash_kv(0).await.unwrap(), before);
    server.kill();
    server.restart().unwrap();
    assert_eq!(
        Clients::new(&server.url()).hash_kv(0).await.unwrap(),
        before
    );
}

fn range(key: &'static str, revision: i64) -> pb::RequestOp {
    let request = pb::RangeRequest {
        key: key.into(),
        revision,
        ..Default::default()
    };
    pb::RequestOp {
        request: Some(Op::RequestRange(request)),
    }
}

/// 20221: a watcher of a future revision was shown events and progress from before it.
#[tokio::test]
async fn issue_20221_a_watch_of_the_future_shows_nothing_earlier() {
    let server = Server::builder(own::etcd())
        .args(&["--watch-progress-notify-interval=100ms"])
        .start()
        .unwrap();
    let mut clients = Clients::new(&server.url());
    let now = clients.put("k", "0").await.unwrap();
    let start = now + 20;
    let mut request = watch_key("k", start);
    request.progress_notify = true;
    let mut stream = WatchStream::open(&clients, request).await.unwrap();
    assert!(stream.expect().await.created);
    for number in 0..30 {
        clients.put("k", &number.to_string()).await.unwrap();
        stream.progress().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut next = start;
    while next <= now + 30 {
        let response = stream.expect().await;
        let revision = response.header.unwrap().revision;
        assert!(
            revision >= start - 1,
            "told of {revision}, asked for {start} on"
        );
        for event in &response.events {
            assert_eq!(revision_of(event), next);
            next += 1;
        }
    }
}

/// 20418: reads were stale after the process had been paused. Reads that begin after a write was acknowledged
/// show it, whatever the scheduler does to the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_20418_a_paused_server_does_not_read_stale() {
    let server = Server::fresh(own::etcd());
    let mut ledger = Ledger::default();
    let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
    for pause in [300, 1500, 50, 2500, 100] {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.pause();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.resume();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The readers of the load check every linearizable read.
    load.stop(&mut ledger).await;
    assert!(ledger.writes > 50, "{} writes", ledger.writes);
}

/// 20271: reads of the database file beside writes, defragmentation and snapshots met pages of another kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_20271_reads_beside_everything_that_moves_pages() {
    let server = Server::builder(own::etcd())
        .args(&["--backend-batch-interval=5ms", "--backend-batch-limit=20"])
        .start()
        .unwrap();
    let mut ledger = Ledger::default();
    let load = Load::start(&server.url(), LoadConfig::default(), &ledger);
    let mut clients = Clients::new(&server.url());
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let revision = clients.revision().await.unwrap();
        // Old revisions come from the file, not from memory.
        for back in [1, 10, 40] {
            let request = pb::RangeRequest {
                key: "load/".into(),
                range_end: "load0".into(),
                revision: (revision - back).max(1),
                ..Default::default()
            };
            let _ = clients.kv.range(request).await;
        }
        if round % 2 == 0 {
            clients.compact((revision - 50).max(1), false).await.ok();
            let request = pb::DefragmentRequest {};
            clients.maintenance.defragment(request).await.unwrap();
        } else {
            let request = pb::SnapshotRequest {};
            let mut snapshot = clients
                .maintenance
                .snapshot(request)
                .await
                .unwrap()
                .into_inner();
            while snapshot.message().await.unwrap().is_some() {}
        }
    }
    load.stop(&mut ledger).await;
    let broken = ledger.check(&server.url()).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

//! The Watch service; how watchers are matched is the watch crate's own matter.

use std::sync::atomic::Ordering;

use api::etcdserverpb as pb;
use api::mvccpb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use server::frontend::Frontend;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};
use watch::{Event, EventKind, History};

use crate::fake::{MEMBER, TestServer};

struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(server: &TestServer, hasleader: bool) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if hasleader {
            request
                .metadata_mut()
                .insert("hasleader", "true".parse().unwrap());
        }
        let mut client =
            WatchClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
        let answers = client.watch(request).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn ask(&self, request: RequestUnion) {
        self.requests
            .send(pb::WatchRequest {
                request_union: Some(request),
            })
            .await
            .unwrap();
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let answer = self.next().await;
        assert!(answer.created);
        answer
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.answers.message().await.unwrap().unwrap()
    }
}

fn on(key: &'static str, end: &'static str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_watcher_is_created_served_and_canceled() {
    let server = TestServer::start();
    let mut stream = Stream::open(&server, false).await;
    let created = stream.create(on("k", "")).await;
    assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 1));
    assert_eq!(created.header.unwrap().member_id, MEMBER);

    let revision = server.fake.publish("k", "v");
    let event = stream.next().await;
    assert_eq!(event.header.unwrap().revision, revision);
    assert_eq!(event.events[0].kv.as_ref().unwrap().to_kv().value, "v");

    stream
        .ask(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id: 7,
        }))
        .await;
    stream
        .ask(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id: 0,
        }))
        .await;
    let canceled = stream.next().await;
    assert!(canceled.canceled && canceled.cancel_reason.is_empty());
    assert_eq!((canceled.watch_id, canceled.compact_revision), (0, 0));
    assert_eq!(canceled.header.unwrap().revision, revision);
}

#[tokio::test]
async fn bad_wishes_are_answered_not_punished() {
    let server = TestServer::start();
    let mut stream = Stream::open(&server, false).await;
    let cases = [
        (on("b", "a"), "mvcc: watcher range is empty"),
        (
            pb::WatchCreateRequest {
                start_revision: -1,
                ..on("a", "")
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (request, reason) in cases {
        let answer = stream.create(request).await;
        assert!(answer.canceled);
        assert_eq!((answer.watch_id, &*answer.cancel_reason), (-1, reason));
    }
    assert_eq!(
        stream
            .create(pb::WatchCreateRequest {
                watch_id: 5,
                ..on("a", "")
            })
            .await
            .watch_id,
        5
    );
    let again = stream
        .create(pb::WatchCreateRequest {
            watch_id: 5,
            ..on("a", "")
        })
        .await;
    assert_eq!(
        again.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    // A request without content is passed over.
    stream
        .requests
        .send(pb::WatchRequest {
            request_union: None,
        })
        .await
        .unwrap();
    assert_eq!(stream.create(on("", "\0")).await.watch_id, 0);
}

#[tokio::test]
async fn history_is_replayed_and_compacted_history_ends_a_watcher() {
    let server = TestServer::start();
    let first = server.fake.publish("k", "1");
    server.fake.publish("k", "2");
    let mut stream = Stream::open(&server, false).await;
    stream
        .create(pb::WatchCreateRequest {
            start_revision: first,
            prev_kv: true,
            ..on("k", "")
        })
        .await;
    let mut values = Vec::new();
    while values.len() < 2 {
        let answer = stream.next().await;
        values.extend(
            answer
                .events
                .into_iter()
                .map(|event| event.kv.unwrap().to_kv().value),
        );
    }
    assert_eq!(values, ["1", "2"]);

    server.fake.log.compacted.store(first + 1, Ordering::SeqCst);
    server.fake.watch_hub().compacted(first + 1);
    let created = stream
        .create(pb::WatchCreateRequest {
            start_revision: first,
            ..on("k", "")
        })
        .await;
    assert_eq!(created.watch_id, 1);
    let ended = stream.next().await;
    assert!(ended.canceled && ended.cancel_reason.is_empty());
    assert_eq!(
        (ended.compact_revision, ended.header.unwrap().revision),
        (first + 1, 0)
    );
}

#[tokio::test]
async fn big_answers_come_in_fragments_that_belong_together() {
    let server = TestServer::start();
    let mut stream = Stream::open(&server, false).await;
    stream
        .create(pb::WatchCreateRequest {
            fragment: true,
            ..on("k", "l")
        })
        .await;
    let revision = server.fake.log.current_revision() + 1;
    let event = |n: i64| {
        let value = vec![b'v'; 300_000];
        let kv = api::RawKv::encode(format!("k{n}").as_bytes(), revision, revision, 1, &value, 0);
        Event {
            kind: EventKind::Put,
            key: kv.key(),
            kv,
            create: true,
            prev: None,
            sub: n,
        }
    };
    server
        .fake
        .publish_all(revision, (0..4).map(event).collect());
    let mut keys = Vec::new();
    loop {
        let answer = stream.next().await;
        assert_eq!(answer.header.unwrap().revision, revision);
        let more = answer.fragment;
        keys.extend(
            answer
                .events
                .into_iter()
                .map(|event: mvccpb::Event| event.kv.unwrap().key()),
        );
        assert_eq!(more, keys.len() < 4);
        if !more {
            break;
        }
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3"]);
}

#[tokio::test]
async fn progress_is_told_when_asked_and_now_and_then() {
    let server = TestServer::start();
    let mut stream = Stream::open(&server, false).await;
    // Without watchers there is no answer: the next one is of the watcher.
    stream
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    stream.create(on("k", "")).await;
    stream
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    let progress = stream.next().await;
    assert_eq!(
        (progress.watch_id, progress.events.len(), progress.created),
        (-1, 0, false)
    );
    assert_eq!(progress.header.unwrap().revision, 1);

    stream
        .create(pb::WatchCreateRequest {
            progress_notify: true,
            ..on("x", "")
        })
        .await;
    let tick = stream.next().await;
    assert_eq!((tick.watch_id, tick.events.len()), (1, 0));
}

#[tokio::test]
async fn a_half_closed_stream_goes_on() {
    let server = TestServer::start();
    let mut stream = Stream::open(&server, false).await;
    stream.create(on("k", "")).await;
    let Stream {
        requests,
        mut answers,
    } = stream;
    drop(requests);
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        server.fake.publish("k", "v");
        assert_eq!(answers.message().await.unwrap().unwrap().events.len(), 1);
    }
}

#[tokio::test]
async fn streams_end_with_the_leader_or_the_server() {
    let mut server = TestServer::start();
    let mut led = Stream::open(&server, true).await;
    let mut plain = Stream::open(&server, false).await;
    led.create(on("k", "")).await;
    plain.create(on("k", "")).await;
    server.fake.leader.store(false, Ordering::SeqCst);
    let status = led.answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    server.fake.publish("k", "v");
    assert_eq!(plain.next().await.events.len(), 1);
    let stopped = tokio::task::spawn_blocking(move || server.stop());
    let status = plain.answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    stopped.await.unwrap();
}

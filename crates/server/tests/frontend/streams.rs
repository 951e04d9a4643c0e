//! Streams other than Watch, and the end of the server.

use std::sync::atomic::Ordering;

use api::RawKv;
use api::etcdserverpb as pb;
use bytes::Bytes;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use crate::fake::{Asked, MAX_REQUEST, TestServer};

async fn all<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    messages
}

#[tokio::test]
async fn keep_alives_are_answered_one_by_one_until_the_client_ends() {
    let server = TestServer::start();
    let mut lease = LeaseClient::new(server.channel().await);
    let requests = [4, -1, 4].map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = all(lease
        .lease_keep_alive(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner())
    .await;
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| (answer.id, answer.ttl))
        .collect();
    assert_eq!(seen, [(4, 5), (-1, 0), (4, 5)]);
    assert!(
        answers
            .iter()
            .all(|answer| answer.header.unwrap().revision == 7)
    );

    let requests = [4, 0, 4].map(|id| pb::LeaseKeepAliveRequest { id });
    let mut stream = lease
        .lease_keep_alive(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().ttl, 5);
    let status = stream.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
}

#[tokio::test]
async fn a_stream_that_needs_a_leader_ends_some_time_after_it_is_lost() {
    let server = TestServer::start();
    let mut lease = LeaseClient::new(server.channel().await);
    let (sender, receiver) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    let mut stream = lease.lease_keep_alive(request).await.unwrap().into_inner();
    sender
        .send(pb::LeaseKeepAliveRequest { id: 4 })
        .await
        .unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().ttl, 5);
    server.fake.leader.store(false, Ordering::SeqCst);
    let status = stream.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
}

#[tokio::test]
async fn a_snapshot_is_the_image_in_chunks_and_its_digest() {
    let server = TestServer::start();
    // Pieces of any size; the whole is a multiple of the chunk size.
    let sizes = [10, 100_000, 0, 31_062];
    let pieces: Vec<Bytes> = sizes.iter().map(|size| vec![7; *size].into()).collect();
    let image = pieces.concat();
    assert_eq!(image.len() % 32768, 0);
    *server.fake.image.lock().unwrap() = pieces;
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let chunks = all(maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .unwrap()
        .into_inner())
    .await;
    let (digest, data) = chunks.split_last().unwrap();
    assert_eq!(digest.blob[..], Sha256::digest(&image)[..]);
    assert_eq!(
        data.iter()
            .map(|chunk| chunk.blob.clone())
            .collect::<Vec<_>>()
            .concat(),
        image
    );
    let remaining: Vec<_> = chunks.iter().map(|chunk| chunk.remaining_bytes).collect();
    assert_eq!(remaining, [98304, 65536, 32768, 0, 0]);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.version == "3.7.0" && chunk.header.is_none())
    );
}

#[tokio::test]
async fn a_snapshot_cut_short_is_an_error() {
    let server = TestServer::start();
    *server.fake.image.lock().unwrap() = vec![vec![7; 100].into()];
    *server.fake.announced.lock().unwrap() = Some(200);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let mut stream = maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        stream.message().await.unwrap().unwrap().remaining_bytes,
        100
    );
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Internal);
}

/// Merges chunks as protobuf does.
fn merged(chunks: &[pb::RangeStreamResponse]) -> pb::RangeResponse {
    let bytes: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.range_response.as_ref().unwrap().encode_to_vec())
        .collect();
    pb::RangeResponse::decode(&bytes[..]).unwrap()
}

#[tokio::test]
async fn the_chunks_of_a_range_stream_merge_to_the_range() {
    let server = TestServer::start();
    let kvs = (0..100)
        .map(|n| RawKv::encode(format!("k{n:02}").as_bytes(), 1, 2, 3, b"v", 0))
        .collect();
    *server.fake.kvs.write().unwrap() = kvs;
    let mut kv = KvClient::new(server.channel().await);
    for limit in [0, 1, 10, 25, 99, 100, 1000, -1] {
        let request = pb::RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            limit,
            ..Default::default()
        };
        let whole = kv.range(request.clone()).await.unwrap().into_inner();
        server.fake.asked();
        let chunks = all(kv.range_stream(request).await.unwrap().into_inner()).await;
        assert_eq!(merged(&chunks), whole, "limit {limit}");

        let (last, others) = chunks.split_last().unwrap();
        assert!(last.range_response.as_ref().unwrap().header.is_some());
        let bare = |chunk: &pb::RangeStreamResponse| {
            let response = chunk.range_response.as_ref().unwrap();
            response.header.is_none() && !response.more && response.count == 0
        };
        assert!(others.iter().all(bare));
        // The first chunk asks the cluster, the others read its revision.
        for (number, asked) in server.fake.asked().into_iter().enumerate() {
            let Asked::Range(range) = asked else {
                panic!("{asked:?}")
            };
            let expected = if number == 0 { (0, false) } else { (7, true) };
            assert_eq!((range.revision, range.serializable), expected);
        }
    }
}

#[tokio::test]
async fn chunks_grow_and_shrink_with_the_size_of_pairs() {
    let server = TestServer::start();
    let pair =
        |n: usize, size| RawKv::encode(format!("k{n:04}").as_bytes(), 1, 2, 3, &vec![0; size], 0);
    let kvs = (0..470)
        .map(|n| pair(n, if n < 150 { 1 } else { MAX_REQUEST }))
        .collect();
    *server.fake.kvs.write().unwrap() = kvs;
    let mut kv = KvClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
    let request = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let chunks = all(kv.range_stream(request).await.unwrap().into_inner()).await;
    let sizes: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk.range_response.as_ref().unwrap().kvs.len())
        .collect();
    assert_eq!(sizes, [10, 20, 40, 80, 160, 80, 40, 20, 10, 5, 2, 1, 1, 1]);
}

#[tokio::test]
async fn a_range_stream_that_only_counts_is_one_message() {
    let server = TestServer::start();
    *server.fake.kvs.write().unwrap() = vec![RawKv::encode(b"k", 1, 2, 3, b"v", 0)];
    let mut kv = KvClient::new(server.channel().await);
    let count = pb::RangeRequest {
        key: "k".into(),
        count_only: true,
        ..Default::default()
    };
    let chunks = all(kv.range_stream(count).await.unwrap().into_inner()).await;
    assert_eq!(chunks.len(), 1);
    assert_eq!(merged(&chunks).count, 1);

    let absent = pb::RangeRequest {
        key: "x".into(),
        ..Default::default()
    };
    let chunks = all(kv.range_stream(absent).await.unwrap().into_inner()).await;
    assert_eq!(chunks.len(), 1);
    let header = chunks[0].range_response.as_ref().unwrap().header;
    assert_eq!(
        merged(&chunks),
        pb::RangeResponse {
            header,
            ..Default::default()
        }
    );
}

#[tokio::test]
async fn stopping_ends_streams_and_lets_calls_finish() {
    let mut server = TestServer::start();
    let mut lease = LeaseClient::new(server.channel().await);
    let (sender, receiver) = mpsc::channel(1);
    let mut stream = lease
        .lease_keep_alive(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    sender
        .send(pb::LeaseKeepAliveRequest { id: 4 })
        .await
        .unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().ttl, 5);
    let stopped = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    });
    let status = stream.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    let server = stopped.await.unwrap();
    assert!(std::net::TcpStream::connect(server.client).is_err());
}

//! Unary calls.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::RawKv;
use api::etcdserverpb as pb;
use api::health::health_client::HealthClient;
use api::health::{HealthCheckRequest, HealthListRequest};
use api::v3lockpb::LockRequest;
use api::v3lockpb::lock_client::LockClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use prost::Message;
use tonic::{Code, Request, Status};

use crate::fake::{Asked, CLUSTER, MAX_REQUEST, MEMBER, TestServer};
use crate::raw;

fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn a_put(key: &'static str, value: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: vec![b'v'; value].into(),
        ..Default::default()
    }
}

fn a_get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn with_header<T>(message: T, name: &'static str, value: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn requests_reach_the_member_and_answers_the_client() {
    let server = TestServer::start();
    let mut kv = KvClient::new(server.channel().await);
    let header = kv
        .put(a_put("k", 3))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (CLUSTER, MEMBER, 7)
    );
    assert_eq!(
        server.fake.asked(),
        [Asked::Quota(256 + 4), Asked::Put(a_put("k", 3))]
    );

    *server.fake.kvs.write().unwrap() = vec![RawKv::encode(b"k", 1, 2, 3, b"v", 4)];
    let range = kv.range(a_get("k")).await.unwrap().into_inner();
    assert_eq!(range.kvs[0].to_kv().value, "v");
    assert!(
        kv.txn(pb::TxnRequest::default())
            .await
            .unwrap()
            .into_inner()
            .succeeded
    );

    let mut lease = LeaseClient::new(server.channel().await);
    let granted = lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 5, id: 9 })
        .await
        .unwrap();
    assert_eq!(granted.into_inner().id, 9);
    let leases = lease
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        leases.leases,
        [pb::LeaseStatus { id: 3 }, pb::LeaseStatus { id: -4 }]
    );
}

#[tokio::test]
async fn answers_of_the_cluster_service_carry_no_revision() {
    let server = TestServer::start();
    let mut cluster = ClusterClient::new(server.channel().await);
    let list = cluster
        .member_list(pb::MemberListRequest { linearizable: true })
        .await
        .unwrap();
    let list = list.into_inner();
    assert_eq!(list.header.unwrap().revision, 0);
    assert_eq!(list.members[0].id, MEMBER);

    let mut maintenance = MaintenanceClient::new(server.channel().await);
    assert_eq!(
        maintenance
            .defragment(pb::DefragmentRequest {})
            .await
            .unwrap()
            .into_inner()
            .header,
        None
    );
    let hash = maintenance
        .hash(pb::HashRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((hash.hash, hash.header.unwrap().revision), (17, 7));
}

#[tokio::test]
async fn members_errors_keep_code_and_text() {
    let server = TestServer::start();
    let mut kv = KvClient::new(server.channel().await);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let result = kv
        .compact(pb::CompactionRequest {
            revision: 1,
            physical: false,
        })
        .await;
    assert_eq!(told(result), (Code::OutOfRange, compacted.to_owned()));
    let mut lease = LeaseClient::new(server.channel().await);
    let result = lease.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await;
    assert_eq!(
        told(result),
        (
            Code::NotFound,
            "etcdserver: requested lease not found".to_owned()
        )
    );
}

#[tokio::test]
async fn the_quota_is_asked_before_the_fields() {
    let server = TestServer::start();
    let mut kv = KvClient::new(server.channel().await);
    let empty = "etcdserver: key is not provided".to_owned();
    assert_eq!(
        told(kv.put(a_put("", 0)).await),
        (Code::InvalidArgument, empty.clone())
    );
    server.fake.full.store(true, Ordering::SeqCst);
    let full = "etcdserver: mvcc: database space exceeded".to_owned();
    assert_eq!(
        told(kv.put(a_put("", 0)).await),
        (Code::ResourceExhausted, full.clone())
    );
    let mut lease = LeaseClient::new(server.channel().await);
    let grant = lease.lease_grant(pb::LeaseGrantRequest::default()).await;
    assert_eq!(told(grant), (Code::ResourceExhausted, full));
    assert_eq!(
        told(kv.range(a_get("")).await),
        (Code::InvalidArgument, empty)
    );
}

#[tokio::test]
async fn learners_serve_status_and_serializable_ranges() {
    let server = TestServer::start();
    server.fake.learner.store(true, Ordering::SeqCst);
    let refused = (
        Code::FailedPrecondition,
        "etcdserver: rpc not supported for learner".to_owned(),
    );
    let mut kv = KvClient::new(server.channel().await);
    assert_eq!(told(kv.range(a_get("k")).await), refused);
    kv.range(pb::RangeRequest {
        serializable: true,
        ..a_get("k")
    })
    .await
    .unwrap();
    assert_eq!(told(kv.put(a_put("", 0)).await), refused);
    assert_eq!(told(kv.txn(pb::TxnRequest::default()).await), refused);
    let stream = kv
        .range_stream(pb::RangeRequest {
            serializable: true,
            ..a_get("k")
        })
        .await;
    assert_eq!(told(stream), refused);
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    maintenance.status(pb::StatusRequest {}).await.unwrap();
    maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap();
    let mut health = HealthClient::new(server.channel().await);
    assert_eq!(
        told(health.check(HealthCheckRequest::default()).await),
        refused
    );
}

#[tokio::test]
async fn whoever_wants_a_leader_gets_nothing_without_one() {
    let server = TestServer::start();
    server.fake.leader.store(false, Ordering::SeqCst);
    let mut kv = KvClient::new(server.channel().await);
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    assert_eq!(
        told(kv.range(with_header(a_get("k"), "hasleader", "true")).await),
        no_leader
    );
    kv.range(with_header(a_get("k"), "hasleader", "True"))
        .await
        .unwrap();
    kv.range(a_get("k")).await.unwrap();
    let mut lease = LeaseClient::new(server.channel().await);
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 1 }]);
    assert_eq!(
        told(
            lease
                .lease_keep_alive(with_header(requests, "hasleader", "true"))
                .await
        ),
        no_leader
    );
}

#[tokio::test]
async fn a_version_that_is_no_text_is_refused_and_others_are_counted() {
    let server = TestServer::start();
    let path = "/etcdserverpb.KV/Range";
    let body = raw::framed(false, &a_get("k").encode_to_vec());
    let mut request = raw::call(server.client, path, body.clone(), &[]);
    let value = http::HeaderValue::from_bytes(b"3.\xff").unwrap();
    request.headers_mut().insert("client-api-version", value);
    let answer = raw::http2(server.client, request).await;
    assert_eq!(answer.field("grpc-status"), "3");
    assert_eq!(
        answer.field("grpc-message"),
        "etcdserver: invalid client api version"
    );

    let versions = [&[("client-api-version", "3.7")][..], &[]];
    for headers in versions {
        let request = raw::call(server.client, path, body.clone(), headers);
        assert_eq!(
            raw::http2(server.client, request)
                .await
                .field("grpc-status"),
            "0"
        );
    }
    let (_, metrics) = raw::get(server.client, "/metrics");
    for version in ["3.7", "unknown"] {
        let line = format!(
            "etcd_server_client_requests_total{{client_api_version=\"{version}\",type=\"unary\"}} 1\n"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn messages_have_a_limit() {
    let server = TestServer::start();
    let limit = MAX_REQUEST + 512 * 1024;
    let mut kv = KvClient::new(server.channel().await);
    let large = a_put("k", limit);
    let text = format!(
        "grpc: received message larger than max ({} vs. {limit})",
        large.encoded_len()
    );
    assert_eq!(told(kv.put(large).await), (Code::ResourceExhausted, text));
    let fits = a_put("k", limit - 20);
    kv.put(fits.clone()).await.unwrap();
    assert_eq!(server.fake.asked().pop(), Some(Asked::Put(fits)));
}

#[tokio::test]
async fn compressed_requests_are_read_but_not_without_bound() {
    let server = TestServer::start();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        raw::framed(true, &encoder.finish().unwrap())
    };
    let path = "/etcdserverpb.KV/Put";
    let headers = [("grpc-encoding", "gzip")];
    let send = async |body: Vec<u8>, headers: &[(&str, &str)]| {
        let answer = raw::http2(server.client, raw::call(server.client, path, body, headers)).await;
        (
            answer.field("grpc-status").to_owned(),
            answer.field("grpc-message").to_owned(),
        )
    };
    let put = a_put("k", 5000);
    assert_eq!(send(gzip(&put.encode_to_vec()), &headers).await.0, "0");
    assert_eq!(server.fake.asked().pop(), Some(Asked::Put(put.clone())));
    assert_eq!(
        send(raw::framed(false, &put.encode_to_vec()), &headers)
            .await
            .0,
        "0"
    );

    let (code, text) = send(gzip(&a_put("k", 2_000_000).encode_to_vec()), &headers).await;
    assert_eq!(code, "8");
    assert!(
        text.contains("after decompression larger than max"),
        "{text}"
    );
    assert_eq!(send(gzip(&put.encode_to_vec()), &[]).await.0, "13");
    assert_eq!(send(raw::framed(true, b"no gzip"), &headers).await.0, "13");
    let unknown = send(gzip(&put.encode_to_vec()), &[("grpc-encoding", "snappy")]).await;
    assert_eq!(unknown.0, "12");
}

#[tokio::test]
async fn broken_requests_get_a_status() {
    let server = TestServer::start();
    let path = "/etcdserverpb.KV/Put";
    let good = raw::framed(false, &a_put("k", 1).encode_to_vec());
    let cases: [(Vec<u8>, &str); 5] = [
        (Vec::new(), "13"),
        (good[..3].to_vec(), "13"),
        (good[..good.len() - 1].to_vec(), "13"),
        (raw::framed(false, b"\x0a\xff"), "13"),
        (vec![2, 0, 0, 0, 0], "13"),
    ];
    for (body, code) in cases {
        let answer = raw::http2(server.client, raw::call(server.client, path, body, &[])).await;
        assert_eq!((answer.status, answer.field("grpc-status")), (200, code));
    }
    let answer = raw::http2(server.client, raw::call(server.client, path, good, &[])).await;
    assert_eq!(answer.field("grpc-status"), "0");
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert!(answer.headers.get("date").is_none());
}

/// Refusals that concern any call have their codes; what the service itself meets has its text only.
#[tokio::test]
async fn errors_of_locks_have_no_code() {
    let server = TestServer::start();
    let mut locks = LockClient::new(server.channel().await);
    let request = || LockRequest {
        name: "n".into(),
        lease: 1,
    };
    let answer = locks.lock(request()).await.unwrap().into_inner();
    assert_eq!(answer.key, "n/1");
    server.fake.full.store(true, Ordering::SeqCst);
    assert_eq!(
        told(locks.lock(request()).await),
        (
            Code::Unknown,
            "etcdserver: mvcc: database space exceeded".into()
        )
    );
    server.fake.learner.store(true, Ordering::SeqCst);
    assert_eq!(
        told(locks.lock(request()).await),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner".into()
        )
    );
    server.fake.learner.store(false, Ordering::SeqCst);
    server.fake.leader.store(false, Ordering::SeqCst);
    assert_eq!(
        told(
            locks
                .lock(with_header(request(), "hasleader", "true"))
                .await
        ),
        (Code::Unavailable, "etcdserver: no leader".into())
    );
}

#[tokio::test]
async fn unknown_names_are_named() {
    let server = TestServer::start();
    let cases = [
        (
            "/etcdserverpb.KV/Nope",
            "unknown method Nope for service etcdserverpb.KV",
        ),
        (
            "/etcdserverpb.Oauth/AuthStatus",
            "unknown service etcdserverpb.Oauth",
        ),
        (
            "/v3lockpb.Lock/Lick",
            "unknown method Lick for service v3lockpb.Lock",
        ),
    ];
    for (path, text) in cases {
        let answer = raw::http2(server.client, raw::call(server.client, path, "", &[])).await;
        assert_eq!(
            (answer.field("grpc-status"), answer.field("grpc-message")),
            ("12", text)
        );
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_in_grpcs_words() {
    let server = TestServer::start();
    let request = http::Request::get(format!("http://{}/version", server.client))
        .body(http_body_util::Full::default())
        .unwrap();
    let answer = raw::http2(server.client, request).await;
    assert_eq!(answer.status, 415);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.field("grpc-status"), "3");
    assert_eq!(
        answer.field("grpc-message"),
        "invalid gRPC request content-type \"\""
    );
}

#[tokio::test]
async fn a_clients_deadline_ends_a_call() {
    let server = TestServer::start();
    server.fake.stuck.store(true, Ordering::SeqCst);
    let body = raw::framed(false, &a_get("k").encode_to_vec());
    let headers = [("grpc-timeout", "20m")];
    let request = raw::call(server.client, "/etcdserverpb.KV/Range", body, &headers);
    let answer = raw::http2(server.client, request).await;
    assert_eq!(answer.field("grpc-status"), "4");
    assert_eq!(answer.field("grpc-message"), "context deadline exceeded");
}

#[tokio::test]
async fn a_big_list_arrives_whole() {
    let server = TestServer::start();
    let kvs: Vec<_> = (0..2000)
        .map(|n| RawKv::encode(format!("k{n:05}").as_bytes(), 1, 2, 3, &vec![b'v'; n], 0))
        .collect();
    *server.fake.kvs.write().unwrap() = kvs.clone();
    let mut kv = KvClient::new(server.channel().await).max_decoding_message_size(usize::MAX);
    let list = kv
        .range(pb::RangeRequest {
            range_end: "\0".into(),
            ..a_get("k")
        })
        .await
        .unwrap();
    let list = list.into_inner();
    assert_eq!(list.kvs, kvs);
    assert_eq!((list.count, list.more), (2000, false));
}

#[tokio::test]
async fn health_tells_about_the_server_only() {
    let server = TestServer::start();
    server.fake.leader.store(false, Ordering::SeqCst);
    let mut health = HealthClient::new(server.channel().await);
    let check = health
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(check.status, 1);
    let other = HealthCheckRequest {
        service: "etcdserverpb.KV".into(),
    };
    assert_eq!(
        told(health.check(other).await),
        (Code::NotFound, "unknown service".to_owned())
    );
    let list = health
        .list(HealthListRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.statuses.len(), 1);
    assert_eq!(list.statuses[""].status, 1);
}

#[tokio::test]
async fn an_unknown_alarm_action_is_an_error() {
    let server = TestServer::start();
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let request = pb::AlarmRequest {
        action: 9,
        ..Default::default()
    };
    let text = "etcdserver: unknown method".to_owned();
    assert_eq!(
        told(maintenance.alarm(request).await),
        (Code::Unknown, text)
    );
}

#[tokio::test]
async fn calls_are_counted() {
    let server = TestServer::start();
    let mut kv = KvClient::new(server.channel().await);
    kv.put(a_put("k", 1)).await.unwrap();
    told(kv.put(a_put("", 1)).await);
    server.fake.stuck.store(true, Ordering::SeqCst);
    let given_up = tokio::time::timeout(Duration::from_millis(100), kv.range(a_get("k"))).await;
    assert!(given_up.is_err());

    let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    let expected = [
        format!("grpc_server_started_total{{{labels}}} 2\n"),
        format!("grpc_server_msg_sent_total{{{labels}}} 1\n"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 1\n"),
        format!("grpc_server_handled_total{{grpc_code=\"InvalidArgument\",{labels}}} 1\n"),
        format!(
            "grpc_server_handled_total{{grpc_code=\"Canceled\",{}}} 1\n",
            labels.replace("Put", "Range")
        ),
        "grpc_server_started_total{grpc_method=\"AuthEnable\",grpc_service=\"etcdserverpb.Auth\",\
         grpc_type=\"unary\"} 0\n"
            .to_owned(),
    ];
    // The reset of the abandoned call travels beside our request for the metrics.
    for _ in 0..100 {
        let (_, metrics) = raw::get(server.client, "/metrics");
        if expected.iter().all(|line| metrics.contains(line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}", raw::get(server.client, "/metrics").1);
}

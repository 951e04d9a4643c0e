//! Plain HTTP.

use std::sync::atomic::Ordering;

use api::etcdserverpb::AlarmMember;
use server::http::Filter;

use crate::fake::{MEMBER, TestServer};
use crate::raw::{get, header, http1};

#[test]
fn versions_are_told_on_both_ports() {
    let server = TestServer::start();
    let body = "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"unknown\"}";
    for port in [server.client, server.peer] {
        let (head, found) = http1(port, "GET /version HTTP/1.1\nHost: x\n\n");
        assert!(head.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(header(&head, "content-type"), Some("application/json"));
        assert_eq!(found, body);
    }
}

#[test]
fn wrong_methods_and_paths() {
    let server = TestServer::start();
    for path in [
        "/version",
        "/health",
        "/livez",
        "/readyz/non_learner",
        "/debug/vars",
    ] {
        let (head, body) = http1(
            server.client,
            &format!("POST {path} HTTP/1.1\nHost: x\nContent-Length: 0\n\n"),
        );
        assert!(head.starts_with("HTTP/1.1 405 "), "{path}: {head}");
        assert_eq!(header(&head, "allow"), Some("GET"));
        assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));
        assert_eq!(body, "Method Not Allowed\n");
    }
    for path in [
        "/",
        "/v2/keys",
        "/v3alpha/kv/range",
        "/v3/kv/range",
        "/members",
        "/version/",
        "/livez/x",
    ] {
        assert_eq!(
            get(server.client, path),
            (404, "404 page not found\n".to_owned()),
            "{path}"
        );
    }
    assert_eq!(get(server.metrics, "/version").0, 404);
    assert_eq!(get(server.peer, "/health").0, 404);
    assert_eq!(get(server.peer, "/metrics").0, 404);
    assert_eq!(get(server.peer, "/members/").0, 404);
}

#[test]
fn health_is_good_or_tells_why_not() {
    let server = TestServer::start();
    let good = (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned());
    let bad = |reason: &str| {
        (
            503,
            format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"),
        )
    };
    for port in [server.client, server.metrics] {
        assert_eq!(get(port, "/health"), good);
    }
    let (head, _) = http1(server.client, "GET /health HTTP/1.1\nHost: x\n\n");
    assert_eq!(
        header(&head, "content-type"),
        Some("text/plain; charset=utf-8")
    );

    server.fake.stuck.store(true, Ordering::SeqCst);
    assert_eq!(
        get(server.client, "/health"),
        bad("RANGE ERROR:context deadline exceeded")
    );
    assert_eq!(get(server.client, "/health?serializable=true"), good);
    server.fake.leader.store(false, Ordering::SeqCst);
    assert_eq!(get(server.client, "/health"), bad("RAFT NO LEADER"));
    assert_eq!(
        get(server.client, "/health?serializable=True"),
        bad("RAFT NO LEADER")
    );
    *server.fake.alarms.lock().unwrap() = vec![AlarmMember {
        member_id: MEMBER,
        alarm: 1,
    }];
    assert_eq!(
        get(server.client, "/health?serializable=true"),
        bad("ALARM NOSPACE")
    );
    assert_eq!(
        get(
            server.client,
            "/health?serializable=true&exclude=NOSPACE&exclude=x"
        ),
        good
    );
    let (_, metrics) = get(server.metrics, "/metrics");
    assert!(
        metrics.contains("etcd_server_health_failures 4\n"),
        "{metrics}"
    );
}

#[test]
fn checks_are_told_one_by_one() {
    let server = TestServer::start();
    let ok = (200, "ok\n".to_owned());
    for path in [
        "/livez",
        "/readyz",
        "/livez/serializable_read",
        "/readyz/linearizable_read",
    ] {
        assert_eq!(get(server.client, path), ok, "{path}");
    }
    let verbose = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(
        get(server.client, "/readyz?verbose"),
        (200, verbose.to_owned())
    );
    *server.fake.alarms.lock().unwrap() = vec![AlarmMember {
        member_id: MEMBER,
        alarm: 2,
    }];
    server.fake.learner.store(true, Ordering::SeqCst);
    let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
                  [+]linearizable_read ok\n[-]non_learner failed: not supported for learner\n\n";
    assert_eq!(get(server.client, "/readyz"), (503, failed.to_owned()));
    assert_eq!(
        get(
            server.client,
            "/readyz?exclude=non_learner&exclude=data_corruption&exclude=x"
        ),
        ok
    );
    assert_eq!(get(server.client, "/livez"), ok);
    let (_, metrics) = get(server.metrics, "/metrics");
    assert!(metrics.contains("etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 0\n"));
    assert!(
        metrics.contains("etcd_server_healthcheck{name=\"serializable_read\",type=\"livez\"} 1\n")
    );
}

#[test]
fn metrics_have_names_types_and_values() {
    let server = TestServer::start();
    let (head, body) = http1(server.client, "GET /metrics HTTP/1.1\nHost: x\n\n");
    let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    assert_eq!(header(&head, "content-type"), Some(text));
    let expected = [
        "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n",
        "etcd_server_version{server_version=\"3.7.1\"} 1\n",
        "etcd_server_id{server_id=\"cd\"} 1\n",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1\n",
        "etcd_mvcc_db_total_size_in_bytes 4096\n",
        "etcd_server_quota_backend_bytes 2147483648\n",
        "# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0\n",
        "etcd_disk_backend_commit_duration_seconds_bucket{le=\"0.001\"} 0\n",
        "# TYPE etcd_server_proposals_committed_total gauge\n",
        "# TYPE etcd_mvcc_put_total counter\n",
        "# TYPE process_resident_memory_bytes gauge\n",
    ];
    for line in expected {
        assert!(body.contains(line), "{line} is missing in\n{body}");
    }
    let memory = body
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
        .unwrap();
    assert!(memory.parse::<f64>().unwrap() > 1e6);
    let (head, _) = http1(
        server.client,
        "GET /metrics HTTP/1.1\nHost: x\nAccept-Encoding: deflate, gzip\n\n",
    );
    assert_eq!(header(&head, "content-encoding"), Some("gzip"));
}

#[test]
fn browsers_are_told_what_they_may() {
    let server = TestServer::start();
    let (head, body) = http1(server.client, "OPTIONS /anything HTTP/1.1\nHost: x\n\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(body, "");
    assert_eq!(header(&head, "access-control-allow-origin"), Some("*"));
    assert_eq!(
        header(&head, "access-control-allow-methods"),
        Some("POST, GET, OPTIONS, PUT, DELETE")
    );
    let (head, _) = http1(server.client, "GET /nothing HTTP/1.1\nHost: x\n\n");
    assert_eq!(
        header(&head, "access-control-allow-headers"),
        Some("accept, content-type, authorization")
    );
    let (head, _) = http1(server.metrics, "GET /health HTTP/1.1\nHost: x\n\n");
    assert_eq!(header(&head, "access-control-allow-origin"), None);
}

#[test]
fn unknown_hosts_are_sent_away() {
    let filter = Filter::new(["*".to_owned()], ["good.com".to_owned()], false);
    let server = TestServer::start_filtered(filter);
    let (head, body) = http1(
        server.client,
        "GET /version HTTP/1.1\nHost: evil.com:80\n\n",
    );
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    assert_eq!(
        header(&head, "content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        body.starts_with("\netcd received your request, but the Host header was unrecognized.\n")
    );
    assert!(body.contains("etcd --host-whitelist \"evil.com\""));
    assert!(body.contains("CVE-2018-5702"));
    let (head, _) = http1(
        server.client,
        "GET /version HTTP/1.1\nHost: good.com:80\n\n",
    );
    assert!(head.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn members_ask_each_other() {
    let server = TestServer::start();
    let (head, body) = http1(server.peer, "GET /members HTTP/1.1\nHost: x\n\n");
    assert_eq!(header(&head, "x-etcd-cluster-id"), Some("ab"));
    assert_eq!(header(&head, "content-type"), Some("application/json"));
    assert_eq!(
        body,
        "[{\"id\":205,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"m\"}]\n"
    );

    let hash = |head: &str, body: &str| {
        let request = format!(
            "GET /members/hashkv HTTP/1.1\nHost: x\n{head}Content-Length: {}\n\n{body}",
            body.len()
        );
        let (head, body) = http1(server.peer, &request);
        (head.split(' ').nth(1).unwrap().to_owned(), body)
    };
    let good =
        "{\"header\":{\"revision\":7},\"hash\":5,\"compact_revision\":-1,\"hash_revision\":3}";
    assert_eq!(
        hash("X-Etcd-Cluster-ID: ab\n", "{\"revision\":3}"),
        ("200".into(), good.into())
    );
    assert_eq!(
        hash("X-Etcd-Cluster-ID: ac\n", "{}"),
        ("412".into(), "cluster ID mismatch\n".into())
    );
    assert_eq!(
        hash("", ""),
        ("400".into(), "error unmarshalling request\n".into())
    );
    let future = "mvcc: required revision is a future revision\n";
    assert_eq!(hash("", "{\"revision\":9}"), ("400".into(), future.into()));
    assert_eq!(
        get(server.peer, "/downgrade/enabled"),
        (200, "false".to_owned())
    );
}

#[test]
fn variables_are_json() {
    let server = TestServer::start();
    let (status, body) = get(server.client, "/debug/vars");
    assert_eq!(status, 200);
    let vars: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(vars["raft.status"]["raftState"], "StateLeader");
    assert_eq!(vars["raft.status"]["id"], "cd");
    assert!(
        vars["cmdline"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    );
}

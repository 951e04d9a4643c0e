//! The peer port as other members see it: the same requests to a Go member and to ours, byte by byte, and requests
//! that are made to hurt.

#![allow(clippy::disallowed_methods)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gotext::Hex;
use peer::{
    Listener, Listening, NoObserver, PeerApi, PeerRuntime, PlainAcceptor, PlainDialer, Transport,
};
use testkit::ports::Port;
use testkit::{Server, Version, need};

use common::{MemberSink, State, TestApi, log_for_debugging, peer_config, until};

const LIMIT: Duration = Duration::from_secs(10);

/// Our port with nothing behind it but test doubles.
struct OurPort {
    address: String,
    transport: Transport,
    state: Arc<State>,
    runtime: PeerRuntime,
    _listening: Listening,
}

impl OurPort {
    fn start(id: u64, cluster: u64, members: Vec<cluster::Member>) -> Self {
        let (listener, url) = common::listener();
        let runtime = PeerRuntime::start(1).unwrap();
        let config = peer_config(id, cluster, &url);
        let transport = Transport::new(
            &runtime,
            config,
            Arc::new(PlainDialer),
            Arc::new(NoObserver),
        );
        let state = Arc::new(State::default());
        transport.connect(Arc::new(MemberSink {
            node: OnceLock::new(),
            state: Arc::clone(&state),
        }));
        let api: Arc<dyn PeerApi> = Arc::new(TestApi {
            members,
            cluster_version: "3.7.0",
        });
        let server = transport.server(api);
        let listening = transport
            .listen(Listener::Tcp(listener), Arc::new(PlainAcceptor), &server)
            .unwrap();
        Self {
            address: url.trim_start_matches("http://").to_owned(),
            transport,
            state,
            runtime,
            _listening: listening,
        }
    }
}

impl Drop for OurPort {
    fn drop(&mut self) {
        self.transport.stop();
        self.runtime.stop(Duration::from_secs(1));
    }
}

/// Sends bytes and returns all that comes back.
fn exchange(address: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // The other side may answer and close before it has read all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Go closes only 5 s later.
    while !is_complete(&answer, request.starts_with(b"HEAD")) {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => answer.extend(&piece[..count]),
            _ => break,
        }
    }
    answer
}

/// Whether an answer of known length is there.
fn is_complete(answer: &[u8], head_only: bool) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    head_only || length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

/// Status line, headers in order of their names without those that differ by nature, body.
fn readable(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    // The time in it has as many digits as it needs.
    let probe = body.contains("\"Now\":");
    let mut headers: Vec<&str> = lines
        .filter(|line| !line.starts_with("Date:") && !line.starts_with("Connection:"))
        .filter(|line| !probe || !line.starts_with("Content-Length:"))
        .collect();
    headers.sort_unstable();
    let body = body.replace("1E\r\n", "1e\r\n");
    let body = match body.find("\"Now\":") {
        Some(at) => &body[..at],
        None => &body,
    };
    format!("{status}\n{}\n\n{body}", headers.join("\n"))
}

struct Request<'a> {
    line: &'a str,
    headers: Vec<(&'a str, String)>,
    body: &'a [u8],
}

impl Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n",
            self.line
        )
        .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if !self.body.is_empty() || self.line.starts_with("POST") {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body);
        bytes
    }
}

fn length_and(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u64).to_be_bytes()[..], message].concat()
}

/// Request line, headers, body.
type Asked = (&'static str, Vec<(&'static str, String)>, Vec<u8>);

/// What may be asked of a member that has a peer `from` and no leader.
fn requests(cluster: u64, from: u64) -> Vec<Asked> {
    let good = || {
        vec![
            ("X-Server-Version", "3.7.0".to_owned()),
            ("X-Min-Cluster-Version", "3.0.0".to_owned()),
            ("X-Etcd-Cluster-ID", Hex(cluster).to_string()),
        ]
    };
    let with = |name: &'static str, value: &str| {
        let mut headers = good();
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value.to_owned()));
        headers
    };
    let none = Vec::new;
    let stream: &'static str = format!("GET /raft/stream/message/{}", Hex(from)).leak();
    vec![
        ("GET /members", none(), vec![]),
        ("HEAD /members", none(), vec![]),
        ("POST /members", none(), vec![]),
        ("GET /members/", none(), vec![]),
        ("GET /members/promote/5", none(), vec![]),
        ("POST /members/promote/x", none(), vec![]),
        ("POST /members/promote/", none(), vec![]),
        ("POST /members/promote/-1", none(), vec![]),
        ("POST /members/promote/99999999999999999999", none(), vec![]),
        ("GET /raft/probing", none(), vec![]),
        ("DELETE /raft/probing", none(), vec![]),
        ("GET /raft", none(), vec![]),
        ("POST /raft", none(), vec![]),
        ("POST /raft", good(), b"abc".to_vec()),
        ("POST /raft", good(), vec![8, 8, 0x10, 5]),
        ("POST /raft", with("X-Min-Cluster-Version", "3.8.0"), vec![]),
        ("POST /raft", with("X-Server-Version", "2.3.0"), vec![]),
        ("POST /raft", with("X-Etcd-Cluster-ID", "abc"), vec![]),
        ("POST /raft", with("X-Etcd-Cluster-ID", ""), vec![]),
        ("GET /raft/snapshot", good(), vec![]),
        ("POST /raft/snapshot", none(), vec![]),
        ("POST /raft/snapshot", good(), vec![]),
        ("POST /raft/snapshot", good(), b"abc".to_vec()),
        ("POST /raft/snapshot", good(), length_and(&[8, 8])),
        ("POST /raft/snapshot", good(), length_and(&[255, 255])),
        (
            "POST /raft/snapshot",
            good(),
            vec![0, 0, 0, 0, 0, 0, 0, 4, 8, 7],
        ),
        ("POST /raft/snapshot", good(), vec![0x7f; 20]),
        ("POST /raft/stream/message/abc", good(), vec![]),
        ("GET /raft/stream/message/abc", none(), vec![]),
        ("GET /raft/stream/foo/abc", good(), vec![]),
        ("GET /raft/stream/message/xyz", good(), vec![]),
        ("GET /raft/stream/msgapp/", good(), vec![]),
        ("GET /raft/stream/message/abc/def", good(), vec![]),
        ("GET /raft/stream/message/abc", good(), vec![]),
        (
            "GET /raft/stream/msgapp/abd",
            with("X-PeerURLs", "http://127.0.0.1:1"),
            vec![],
        ),
        (stream, good(), vec![]),
        (stream, with("X-Raft-To", "abc"), vec![]),
        ("GET /version/", none(), vec![]),
        ("POST /version", none(), vec![]),
        ("POST /downgrade/enabled", none(), vec![]),
        ("PUT /leases", none(), vec![]),
        ("POST /leases", none(), vec![]),
        ("POST /leases", none(), b"abc".to_vec()),
        ("POST /leases", none(), vec![0; 70_000]),
        ("GET /leases/internal", none(), vec![]),
        ("POST /leases/internal", none(), b"abc".to_vec()),
        ("POST /leases/internal", none(), vec![0x0a, 0]),
        ("GET /members/hashkv", none(), vec![]),
        ("GET /members/hashkv", none(), b"[1]".to_vec()),
        (
            "GET /members/hashkv",
            with("X-Etcd-Cluster-ID", "abc"),
            b"{}".to_vec(),
        ),
        ("POST /members/hashkv", none(), vec![]),
        ("GET /health", none(), vec![]),
        ("GET /metrics", none(), vec![]),
        ("GET /v2/keys", none(), vec![]),
        ("GET /", none(), vec![]),
    ]
}

#[test]
fn answers_equal_those_of_etcd_3_7() {
    log_for_debugging();
    let program = need!(testkit::interop::etcd(Version::V37));
    let ports = [Port::reserve(), Port::reserve()];
    let urls: Vec<String> = ports
        .iter()
        .map(|port| format!("http://127.0.0.1:{}", port.number()))
        .collect();
    let members: Vec<cluster::Member> = ["m1", "m2"]
        .iter()
        .zip(&urls)
        .map(|(name, url)| cluster::Member::new(name, std::slice::from_ref(url), "tok", None))
        .collect();
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let cluster = cluster::cluster_id(&ids);
    // Without a quorum, so that nothing moves.
    let go = Server::builder(program)
        .arg(format!("--listen-peer-urls={}", urls[0]))
        .arg(format!("--initial-advertise-peer-urls={}", urls[0]))
        .arg(format!("--initial-cluster=m1={},m2={}", urls[0], urls[1]))
        .arg("--initial-cluster-token=tok")
        .spawn();
    until("it serves peers", || {
        go.log().contains("serving peer traffic")
    });

    let mut sorted = members.clone();
    sorted.sort_by_key(|member| member.id);
    let ours = OurPort::start(ids[0], cluster, sorted);
    ours.transport
        .add_peer(ids[1], std::slice::from_ref(&urls[1]));
    let go_address = urls[0].trim_start_matches("http://");
    for (line, headers, body) in requests(cluster, ids[1]) {
        let request = Request {
            line,
            headers,
            body: &body,
        };
        let bytes = request.bytes();
        let theirs = readable(&exchange(go_address, &bytes));
        let answer = readable(&exchange(&ours.address, &bytes));
        assert_eq!(
            answer,
            theirs,
            "{line} {:?} {} bytes",
            request.headers,
            body.len()
        );
    }
}

#[test]
fn a_stream_begins_with_etcds_headers_and_beats() {
    let ours = OurPort::start(0xa, 0xc1, Vec::new());
    ours.transport
        .add_peer(0xb, &["http://127.0.0.1:1".to_owned()]);
    for (kind, beat) in [
        ("message", &b"A\r\n\0\0\0\0\0\0\0\x02\x08\x08\r\n"[..]),
        ("msgapp", b"1\r\n\0\r\n"),
    ] {
        let mut stream = TcpStream::connect(&ours.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = format!(
            "GET /raft/stream/{kind}/b HTTP/1.1\r\nHost: h\r\nX-Server-Version: 3.6.0\r\n\
             X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\nX-Raft-To: a\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        until("a heartbeat", || {
            let mut piece = [0; 1024];
            let count = stream.read(&mut piece).unwrap();
            answer.extend(&piece[..count]);
            answer.ends_with(beat)
        });
        let head = readable(&answer);
        let want = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nX-Etcd-Cluster-Id: c1\nX-Server-Version: 3.7.3\n";
        assert_eq!(head.split_once("\n\n").unwrap().0, want.trim_end());
    }
}

#[test]
fn a_removed_member_gets_410() {
    let ours = OurPort::start(0xa, 0xc1, Vec::new());
    ours.state.removed.lock().unwrap().insert(0xb);
    let request = b"GET /raft/stream/msgapp/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Server-Version: 3.6.0\r\n\
        X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\nX-Raft-To: a\r\n\r\n";
    let answer = readable(&exchange(&ours.address, request));
    assert!(answer.starts_with("HTTP/1.1 410 Gone\n"), "{answer}");
    assert!(answer.ends_with("\n\nremoved member\n"), "{answer}");
}

/// Whatever is sent, the port goes on to answer.
#[test]
fn hostile_requests_do_no_harm() {
    let ours = OurPort::start(0xa, 0xc1, Vec::new());
    let good =
        "X-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\n";
    let mut attacks: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /raft HTTP/9.9\r\n\r\n".to_vec(),
        vec![b'A'; 1 << 20],
        format!("POST /raft HTTP/1.1\r\nHost: h\r\n{good}Content-Length: 18446744073709551615\r\n\r\n").into_bytes(),
        format!("POST /raft HTTP/1.1\r\nHost: h\r\n{good}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").into_bytes(),
        format!("POST /raft/snapshot HTTP/1.1\r\nHost: h\r\n{good}Transfer-Encoding: chunked\r\n\r\n8\r\n\0\0\0\0\x04\0\0\0\r\nzz").into_bytes(),
        "GET /raft/stream/message/b HTTP/1.1\r\nHost: h\r\nX-Server-Version: \u{ff}\r\n\r\n".into(),
        format!("POST /raft HTTP/1.1\r\nHost: h\r\n{good}X-Server-From: b\r\nX-PeerURLs: ,:::,unix://,http://\r\n\
            Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(),
    ];
    // A database that ends too early is no database.
    let mut message = prost::Message::encode_to_vec(&api::raftpb::Message {
        r#type: 7,
        to: 0xa,
        from: 0xb,
        snapshot: Some(api::raftpb::Snapshot::default()),
        ..Default::default()
    });
    message = length_and(&message);
    let mut cut =
        format!("POST /raft/snapshot HTTP/1.1\r\nHost: h\r\n{good}Content-Length: 100000\r\n\r\n")
            .into_bytes();
    cut.extend(&message);
    cut.extend([1; 1000]);
    attacks.push(cut);
    // So many strangers that not all are remembered.
    for id in 1..200_u64 {
        attacks.push(
            format!("POST /raft HTTP/1.1\r\nHost: h\r\n{good}X-Server-From: {id:x}\r\nX-PeerURLs: http://127.0.0.1:1\r\n\
                Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(),
        );
    }
    for attack in attacks {
        let mut stream = TcpStream::connect(&ours.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let _ = stream.write_all(&attack);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0; 1000]);
    }
    assert!(ours.state.files.lock().unwrap().is_empty());
    let alive = b"GET /raft/probing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert!(readable(&exchange(&ours.address, alive)).starts_with("HTTP/1.1 200 OK"));
}

//! One transport against another, without raft: which way messages take, what happens when there is none, questions
//! and answers.

#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::etcdserverpb::LeaseTimeToLiveRequest;
use api::raftpb::{Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use bytes::Bytes;
use consensus::StepError;
use peer::{
    BoxError, BoxFuture, BoxIo, Config, Dialer, ForwardError, HashKvError, LeaseError, Listener,
    Listening, Observer, PeerApi, PeerClient, PeerRuntime, PeerUrl, PlainAcceptor, PlainDialer,
    PromoteError, Sink, SnapshotFile, SnapshotToSend, Transport,
};

use common::{CLUSTER, TestApi, listener, log_for_debugging, peer_config, until};

const SECOND: Duration = Duration::from_secs(1);

/// Notes all that arrives.
#[derive(Default)]
struct Notes {
    messages: Mutex<Vec<Message>>,
    unreachable: Mutex<Vec<u64>>,
    snapshots: Mutex<Vec<(u64, bool)>>,
    files: Arc<Mutex<Vec<Vec<u8>>>>,
    full: AtomicBool,
    /// Bytes after which the disk is full.
    disk: AtomicUsize,
    removed: AtomicBool,
    /// Paths that carried something, seen by the observer.
    sent: AtomicUsize,
    failed: AtomicUsize,
    active: Mutex<HashSet<u64>>,
}

struct NotesFile {
    bytes: Vec<u8>,
    room: usize,
    files: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl SnapshotFile for NotesFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.room {
            Err("no space left on device".into())
        } else {
            Ok(())
        }
    }

    fn finish(self: Box<Self>) -> Result<u64, BoxError> {
        let length = self.bytes.len() as u64;
        self.files.lock().unwrap().push(self.bytes);
        Ok(length)
    }
}

struct NotesSink(Arc<Notes>);

impl Sink for NotesSink {
    fn step(&self, message: Message) -> Result<(), StepError> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(StepError::Full);
        }
        self.0.messages.lock().unwrap().push(message);
        Ok(())
    }
    fn report_unreachable(&self, id: u64) {
        self.0.unreachable.lock().unwrap().push(id);
    }
    fn report_snapshot(&self, id: u64, ok: bool) {
        self.0.snapshots.lock().unwrap().push((id, ok));
    }
    fn is_removed(&self, _: u64) -> bool {
        false
    }
    fn receive_snapshot(&self, _: u64) -> Result<Box<dyn SnapshotFile>, BoxError> {
        Ok(Box::new(NotesFile {
            bytes: Vec::new(),
            room: self.0.disk.load(Ordering::SeqCst),
            files: Arc::clone(&self.0.files),
        }))
    }
    fn removed(&self) {
        self.0.removed.store(true, Ordering::SeqCst);
    }
}

struct NotesObserver(Arc<Notes>);

impl Observer for NotesObserver {
    fn sent(&self, _: u64, bytes: usize) {
        self.0.sent.fetch_add(bytes, Ordering::SeqCst);
    }
    fn send_failed(&self, _: u64) {
        self.0.failed.fetch_add(1, Ordering::SeqCst);
    }
    fn active(&self, id: u64, active: bool) {
        let mut all = self.0.active.lock().unwrap();
        assert!(
            if active {
                all.insert(id)
            } else {
                all.remove(&id)
            },
            "reported twice"
        );
    }
}

struct End {
    id: u64,
    url: String,
    transport: Transport,
    notes: Arc<Notes>,
    runtime: PeerRuntime,
    listening: Option<Listening>,
}

impl End {
    fn start(id: u64, change: impl FnOnce(&mut Config)) -> Self {
        let (listener, url) = listener();
        Self::start_on(id, listener, url, change)
    }

    fn start_on(
        id: u64,
        listener: TcpListener,
        url: String,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        log_for_debugging();
        let runtime = PeerRuntime::start(1).unwrap();
        let mut config = peer_config(id, CLUSTER, &url);
        config.snapshot_hold = Duration::ZERO;
        change(&mut config);
        let notes = Arc::new(Notes {
            disk: AtomicUsize::new(usize::MAX),
            ..Notes::default()
        });
        let observer = Arc::new(NotesObserver(Arc::clone(&notes)));
        let transport = Transport::new(&runtime, config, Arc::new(PlainDialer), observer);
        transport.connect(Arc::new(NotesSink(Arc::clone(&notes))));
        let api: Arc<dyn PeerApi> = Arc::new(TestApi {
            members: vec![cluster::Member::new(
                "m",
                std::slice::from_ref(&url),
                "t",
                None,
            )],
            cluster_version: "3.7.0",
        });
        let server = transport.server(api);
        let listening = transport
            .listen(Listener::Tcp(listener), Arc::new(PlainAcceptor), &server)
            .unwrap();
        Self {
            id,
            url,
            transport,
            notes,
            runtime,
            listening: Some(listening),
        }
    }

    fn knows(&self, other: &Self) {
        self.transport
            .add_peer(other.id, std::slice::from_ref(&other.url));
    }

    fn received(&self) -> Vec<u64> {
        self.notes
            .messages
            .lock()
            .unwrap()
            .iter()
            .map(|message| message.index)
            .collect()
    }

    /// Two ends with all four streams between them.
    fn pair() -> (Self, Self) {
        let (a, b) = (Self::start(0xa, |_| {}), Self::start(0xb, |_| {}));
        a.knows(&b);
        b.knows(&a);
        until("streams stand", || {
            let both = [&a, &b];
            both.iter().all(|end| {
                let before = end.notes.sent.load(Ordering::SeqCst);
                let to = if end.id == 0xa { 0xb } else { 0xa };
                end.transport
                    .send(vec![message(end.id, to, MessageType::MsgApp, 0)]);
                std::thread::sleep(Duration::from_millis(20));
                // 47 bytes and more by a POST or whole, 17 as a short frame.
                (1..30).contains(&(end.notes.sent.load(Ordering::SeqCst) - before))
            })
        });
        for end in [&a, &b] {
            end.notes.messages.lock().unwrap().clear();
        }
        (a, b)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.stop();
        }
        self.transport.stop();
        self.runtime.stop(SECOND);
    }
}

fn message(from: u64, to: u64, kind: MessageType, number: u64) -> Message {
    Message {
        r#type: kind as i32,
        to,
        from,
        term: 7,
        log_term: 7,
        index: number,
        ..Message::default()
    }
}

#[test]
fn messages_arrive_in_order_on_each_stream() {
    let (a, b) = End::pair();
    let count = 3000;
    for number in 0..count {
        let kind = if number % 2 == 0 {
            MessageType::MsgApp
        } else {
            MessageType::MsgHeartbeat
        };
        a.transport.send(vec![message(0xa, 0xb, kind, number)]);
    }
    until("all arrived", || b.received().len() == count as usize);
    let received = b.received();
    for parity in [0, 1] {
        let stream: Vec<u64> = received
            .iter()
            .copied()
            .filter(|n| n % 2 == parity)
            .collect();
        assert!(stream.is_sorted());
    }
    assert!(a.notes.unreachable.lock().unwrap().is_empty());
    // Nothing is made up on the way.
    let messages = b.notes.messages.lock().unwrap();
    assert!(
        messages
            .iter()
            .all(|m| (m.from, m.to, m.term) == (0xa, 0xb, 7))
    );
}

#[test]
fn big_entries_travel_whole() {
    let (a, b) = End::pair();
    let mut big = message(0xa, 0xb, MessageType::MsgApp, 5);
    big.entries = (0..3)
        .map(|number| Entry {
            index: 6 + number,
            term: 7,
            data: Bytes::from(vec![number as u8; 5_000_001]),
            ..Entry::default()
        })
        .collect();
    for kind in [MessageType::MsgApp, MessageType::MsgProp] {
        big.r#type = kind as i32;
        a.transport.send(vec![big.clone()]);
        until("it arrived", || {
            b.notes.messages.lock().unwrap().contains(&big)
        });
    }
}

#[test]
fn who_is_no_peer_is_reached_by_post_and_a_stranger_can_be_answered() {
    let (a, b) = (End::start(0xa, |_| {}), End::start(0xb, |_| {}));
    a.transport.add_remote(b.id, std::slice::from_ref(&b.url));
    // To itself, to nobody, to somebody unknown: nothing happens.
    for to in [0, 0xa, 0xc] {
        a.transport
            .send(vec![message(0xa, to, MessageType::MsgApp, 1)]);
    }
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgVote, 2)]);
    until("the message arrived", || b.received() == [2]);
    b.transport
        .send(vec![message(0xb, 0xa, MessageType::MsgVoteResp, 3)]);
    until("the answer arrived", || a.received() == [3]);
    assert!(a.notes.unreachable.lock().unwrap().is_empty());
}

#[test]
fn a_message_for_somebody_else_is_refused_and_reported() {
    let (a, b) = (End::start(0xa, |_| {}), End::start(0xb, |_| {}));
    // Somebody else now lives where `c` was.
    a.transport.add_remote(0xc, std::slice::from_ref(&b.url));
    a.transport
        .send(vec![message(0xa, 0xc, MessageType::MsgVote, 2)]);
    until("it is reported", || {
        *a.notes.unreachable.lock().unwrap() == [0xc]
    });
    assert!(b.received().is_empty());
}

#[test]
fn another_cluster_is_not_talked_to() {
    let a = End::start(0xa, |_| {});
    let b = End::start(0xb, |config| config.cluster_id = 0xdead);
    a.knows(&b);
    b.knows(&a);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgVote, 2)]);
    until("it is reported", || {
        a.notes.unreachable.lock().unwrap().contains(&0xb)
    });
    assert!(b.received().is_empty());
    assert_eq!(a.transport.active_since(0xb), None);
}

#[test]
fn a_release_that_is_too_old_is_not_talked_to() {
    let a = End::start(0xa, |config| {
        config.min_cluster_version = cluster::Version::new(3, 7, 0);
    });
    let b = End::start(0xb, |config| {
        config.version = cluster::Version::new(3, 6, 5);
    });
    b.knows(&a);
    b.transport
        .send(vec![message(0xb, 0xa, MessageType::MsgVote, 2)]);
    until("it is reported", || {
        b.notes.unreachable.lock().unwrap().contains(&0xa)
    });
    assert!(a.received().is_empty());
}

#[test]
fn dead_urls_are_left_for_the_next_one() {
    let (a, b) = (End::start(0xa, |_| {}), End::start(0xb, |_| {}));
    b.knows(&a);
    // Port 1 sorts before the real one.
    let urls = ["http://127.0.0.1:1".to_owned(), b.url.clone()];
    a.transport.add_peer(b.id, &urls);
    until("the second is found", || {
        a.transport.active_since(b.id).is_some()
    });
    until("messages arrive", || {
        a.transport
            .send(vec![message(0xa, 0xb, MessageType::MsgVote, 2)]);
        !b.received().is_empty()
    });
}

#[test]
fn a_moved_member_is_found_at_its_new_url() {
    let (a, b) = (End::start(0xa, |_| {}), End::start(0xb, |_| {}));
    a.transport
        .add_peer(b.id, &["http://127.0.0.1:1".to_owned()]);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgVote, 1)]);
    until("nobody is there", || {
        !a.notes.unreachable.lock().unwrap().is_empty()
    });
    a.transport.update_peer(b.id, std::slice::from_ref(&b.url));
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgVote, 2)]);
    until("it is found", || b.received() == [2]);
    a.transport.remove_peer(b.id);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgVote, 3)]);
    assert!(a.transport.peers().is_empty());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(b.received(), [2]);
}

/// Nobody answers at its URL: what does not fit into the queue is dropped and reported, and nobody waits.
#[test]
fn a_silent_member_costs_only_its_queue() {
    let a = End::start(0xa, |config| config.pipeline_queue = 64);
    let (silent, url) = listener();
    a.transport.add_peer(0xb, &[url]);
    let start = Instant::now();
    for number in 0..1000 {
        a.transport
            .send(vec![message(0xa, 0xb, MessageType::MsgVote, number)]);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    let dropped = a.notes.unreachable.lock().unwrap().len();
    assert!(
        (900..=936).contains(&dropped),
        "{dropped} of 1000 dropped, 4 under way and 64 waiting"
    );
    assert_eq!(a.notes.failed.load(Ordering::SeqCst), dropped);
    drop(silent);
}

/// A reader that stops reading: its stream's queue fills up, then the stream is given up.
#[test]
fn a_stream_that_takes_nothing_is_given_up() {
    use std::io::Write as _;
    let a = End::start(0xa, |config| {
        config.stream_queue = 100;
        config.io_timeout = SECOND;
    });
    a.transport
        .add_peer(0xb, &["http://127.0.0.1:1".to_owned()]);
    let mut stuck = std::net::TcpStream::connect(a.url.trim_start_matches("http://")).unwrap();
    stuck
        .write_all(
            b"GET /raft/stream/message/b HTTP/1.1\r\nHost: h\r\nX-Server-Version: 3.6.0\r\n\
              X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\nX-Raft-To: a\r\n\r\n",
        )
        .unwrap();
    stuck.read_exact(&mut [0; 12]).unwrap();
    let mut big = message(0xa, 0xb, MessageType::MsgProp, 1);
    big.entries = vec![Entry {
        data: Bytes::from(vec![0; 1 << 20]),
        ..Entry::default()
    }];
    until("messages are dropped", || {
        a.transport.send(vec![big.clone()]);
        !a.notes.unreachable.lock().unwrap().is_empty()
    });
    // A full queue is reported at once; from then on they go by POST, which takes a moment to fail.
    until("the stream is given up", || {
        std::thread::sleep(Duration::from_millis(100));
        a.notes.unreachable.lock().unwrap().clear();
        a.transport
            .send(vec![message(0xa, 0xb, MessageType::MsgVote, 2)]);
        a.notes.unreachable.lock().unwrap().is_empty()
    });
    until("the POST fails", || {
        !a.notes.unreachable.lock().unwrap().is_empty()
    });
}

#[test]
fn full_receivers_drop_and_go_on() {
    let (a, b) = End::pair();
    b.notes.full.store(true, Ordering::SeqCst);
    for number in 0..100 {
        a.transport
            .send(vec![message(0xa, 0xb, MessageType::MsgApp, number)]);
    }
    std::thread::sleep(Duration::from_millis(100));
    b.notes.full.store(false, Ordering::SeqCst);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgApp, 500)]);
    until("later ones arrive", || b.received() == [500]);
}

#[test]
fn paused_members_hear_and_say_nothing() {
    let (a, b) = End::pair();
    a.transport.pause(b.id);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgApp, 1)]);
    b.transport
        .send(vec![message(0xb, 0xa, MessageType::MsgApp, 2)]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(a.received().is_empty() && b.received().is_empty());
    a.transport.resume(b.id);
    a.transport
        .send(vec![message(0xa, 0xb, MessageType::MsgApp, 3)]);
    until("it goes on", || b.received() == [3]);
}

#[test]
fn an_ended_member_becomes_inactive_and_a_restarted_one_active() {
    let (a, b) = End::pair();
    assert_eq!(*a.notes.active.lock().unwrap(), HashSet::from([0xb]));
    let url = b.url.clone();
    drop(b);
    until("it is inactive", || a.transport.active_since(0xb).is_none());
    assert!(a.notes.active.lock().unwrap().is_empty());
    let listener = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    let b = End::start_on(0xb, listener, url, |_| {});
    b.knows(&a);
    until("it is active", || a.transport.active_since(0xb).is_some());
    until("messages arrive", || {
        a.transport
            .send(vec![message(0xa, 0xb, MessageType::MsgApp, 9)]);
        !b.received().is_empty()
    });
    assert_eq!(
        (a.transport.active_peers(), a.transport.peers()),
        (1, vec![0xb])
    );
}

/// Tells when it is dropped.
struct Hold(Arc<AtomicBool>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn snapshot(
    from: u64,
    to: u64,
    database: impl Read + Send + 'static,
    length: u64,
) -> (SnapshotToSend, Arc<AtomicBool>) {
    let mut message = message(from, to, MessageType::MsgSnap, 0);
    message.snapshot = Some(Snapshot {
        data: Bytes::from_static(b"{}"),
        metadata: SnapshotMetadata {
            index: 44,
            term: 7,
            ..SnapshotMetadata::default()
        },
    });
    let dropped = Arc::new(AtomicBool::new(false));
    let snapshot = SnapshotToSend {
        message,
        database: Box::new(database),
        length,
        hold: Box::new(Hold(Arc::clone(&dropped))),
    };
    (snapshot, dropped)
}

/// A disk that fails in the middle.
struct Failing(u64);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("bad sector"));
        }
        let count = (buf.len() as u64).min(self.0);
        self.0 -= count;
        Ok(count as usize)
    }
}

#[test]
fn databases_arrive_whole_or_not_at_all() {
    let (a, b) = (End::start(0xa, |_| {}), End::start(0xb, |_| {}));
    a.transport.add_remote(b.id, std::slice::from_ref(&b.url));
    let database: Vec<u8> = (0..10_000_019_u32).map(|n| (n / 251 + n) as u8).collect();
    let length = database.len() as u64;
    let attempts: Vec<(Box<dyn Read + Send>, u64, usize, bool)> = vec![
        (
            Box::new(Cursor::new(database.clone())),
            length,
            usize::MAX,
            true,
        ),
        // Shorter and longer than announced, a bad disk there, a full disk here, nothing at all.
        (
            Box::new(Cursor::new(database.clone())),
            length + 1,
            usize::MAX,
            false,
        ),
        (
            Box::new(Cursor::new(database.clone())),
            length - 1,
            usize::MAX,
            false,
        ),
        (Box::new(Failing(3_000_000)), length, usize::MAX, false),
        (
            Box::new(Cursor::new(database.clone())),
            length,
            5_000_000,
            false,
        ),
        (Box::new(io::empty()), 0, usize::MAX, true),
    ];
    for (number, (reader, length, room, good)) in attempts.into_iter().enumerate() {
        b.notes.disk.store(room, Ordering::SeqCst);
        let (snapshot, hold) = snapshot(0xa, 0xb, reader, length);
        let files = b.notes.files.lock().unwrap().len();
        a.transport.send_snapshot(snapshot);
        until("the end is told", || {
            a.notes.snapshots.lock().unwrap().len() == number + 1
        });
        assert_eq!(
            a.notes.snapshots.lock().unwrap()[number],
            (0xb, good),
            "attempt {number}"
        );
        until("the log is released", || hold.load(Ordering::SeqCst));
        let got = b.notes.files.lock().unwrap();
        assert_eq!(got.len(), files + usize::from(good));
        if number == 0 {
            assert!(got[0] == database);
        }
    }
    assert_eq!(a.notes.unreachable.lock().unwrap().len(), 4);
    assert_eq!(b.notes.messages.lock().unwrap().len(), 2);
}

#[test]
fn a_snapshot_for_nobody_or_for_a_dead_member_fails() {
    let a = End::start(0xa, |_| {});
    a.transport
        .add_peer(0xb, &["http://127.0.0.1:1".to_owned()]);
    for to in [0xb, 0xc] {
        let (snapshot, hold) = snapshot(0xa, to, io::empty(), 0);
        a.transport.send_snapshot(snapshot);
        until("it fails", || {
            a.notes.snapshots.lock().unwrap().contains(&(to, false))
        });
        until("the log is released", || hold.load(Ordering::SeqCst));
    }
}

#[test]
fn a_removed_member_ends_a_transfer() {
    let a = End::start(0xa, |_| {});
    let (silent, url) = listener();
    a.transport.add_peer(0xb, &[url]);
    let (snapshot, hold) = snapshot(0xa, 0xb, io::repeat(7), 1 << 40);
    a.transport.send_snapshot(snapshot);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!hold.load(Ordering::SeqCst));
    a.transport.remove_peer(0xb);
    until("it ends", || hold.load(Ordering::SeqCst));
    assert_eq!(*a.notes.snapshots.lock().unwrap(), [(0xb, false)]);
    drop(silent);
}

#[test]
fn questions_are_answered_as_asked() {
    let b = End::start(0xb, |_| {});
    let runtime = PeerRuntime::start(1).unwrap();
    let client = PeerClient::new(&runtime, Arc::new(PlainDialer), SECOND);
    let urls = ["http://127.0.0.1:1".to_owned(), b.url.clone()];
    let wait = Duration::from_secs(5);

    let cluster = runtime
        .block_on(client.get_members(&urls, wait, true))
        .unwrap();
    assert_eq!(
        (cluster.id, cluster.members[0].name.as_str()),
        (CLUSTER, "m")
    );
    let versions = runtime.block_on(client.get_versions(&urls, wait)).unwrap();
    assert_eq!(versions.cluster.as_deref(), Some("3.7.0"));
    assert_eq!(
        runtime.block_on(client.downgrade_enabled(&urls, wait)),
        Ok(false)
    );

    let promote = |id| runtime.block_on(client.promote(&b.url, id, Some("token"), wait));
    for (id, error) in [
        (1, PromoteError::NotFound),
        (2, PromoteError::NotLearner),
        (3, PromoteError::NotReady),
    ] {
        assert_eq!(promote(id), Err(error.into()));
    }
    // What else goes wrong is not told.
    let Err(ForwardError::Failed(error)) = promote(4) else {
        panic!()
    };
    assert!(
        error
            .to_string()
            .starts_with("member promote: unknown error("),
        "{error}"
    );
    let members = promote(u64::MAX).unwrap();
    assert_eq!(
        (members[0].id, members[0].name.as_str()),
        (u64::MAX, "token")
    );

    let hash = |revision| runtime.block_on(client.hash_kv(&b.url, CLUSTER, revision, wait));
    assert_eq!(hash(1), Err(ForwardError::Answer(HashKvError::Compacted)));
    assert_eq!(
        hash(9),
        Err(ForwardError::Answer(HashKvError::FutureRevision))
    );
    assert_eq!(hash(0).unwrap().hash_revision, 0);
    let four = hash(4).unwrap();
    assert_eq!(
        (
            four.revision,
            four.hash,
            four.compact_revision,
            four.hash_revision
        ),
        (5, 77, -1, 4)
    );
    assert!(
        runtime
            .block_on(client.hash_kv(&b.url, 1, 4, wait))
            .is_err()
    );

    let renew = |id| runtime.block_on(client.renew_lease(&b.url, id, wait));
    assert_eq!(renew(7), Ok(70));
    for (id, error) in [
        (0, LeaseError::NotPrimary),
        (1, LeaseError::CatchUpTimeout),
        (2, LeaseError::NotFound),
    ] {
        assert_eq!(renew(id), Err(error.into()));
    }
    let left = |id, keys| {
        let request = LeaseTimeToLiveRequest { id, keys };
        runtime.block_on(client.lease_time_to_live(&b.url, request, wait))
    };
    assert_eq!(left(5, true).unwrap().keys, [Bytes::from_static(b"k")]);
    assert!(left(5, false).unwrap().keys.is_empty());
    assert_eq!(left(2, true), Err(LeaseError::NotFound.into()));
    assert_eq!(left(3, true), Err(LeaseError::NotPrimary.into()));
}

#[test]
fn questions_nobody_answers_end_in_time() {
    let runtime = PeerRuntime::start(1).unwrap();
    let client = PeerClient::new(&runtime, Arc::new(PlainDialer), SECOND);
    let (silent, url) = listener();
    let start = Instant::now();
    let wait = Duration::from_millis(200);
    let dead = "http://127.0.0.1:1".to_owned();
    for urls in [
        vec![],
        vec![dead],
        vec![url.clone()],
        vec!["nonsense".to_owned()],
    ] {
        let error = runtime
            .block_on(client.get_members(&urls, wait, true))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not retrieve cluster information from the given URLs"
        );
    }
    assert!(runtime.block_on(client.renew_lease(&url, 1, wait)).is_err());
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(silent);
    // After the end of its threads nothing hangs either.
    runtime.stop(SECOND);
    let rest = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(rest.block_on(client.renew_lease(&url, 1, wait)).is_err());
}

/// Counts connections.
struct Counting(Arc<AtomicUsize>);

impl Dialer for Counting {
    fn dial<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<BoxIo>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        PlainDialer.dial(url)
    }
}

#[test]
fn connections_are_used_again() {
    let b = End::start(0xb, |_| {});
    let runtime = PeerRuntime::start(1).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let client = PeerClient::new(&runtime, Arc::new(Counting(Arc::clone(&count))), SECOND);
    for _ in 0..20 {
        let ttl = runtime.block_on(client.renew_lease(&b.url, 7, Duration::from_secs(5)));
        assert_eq!(ttl, Ok(70));
    }
    let dialled = count.load(Ordering::SeqCst);
    assert!(dialled <= 3, "{dialled} connections for 20 requests");
}

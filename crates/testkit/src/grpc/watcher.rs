//! One watch stream and everything that came over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use api::mvccpb::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{self, Answer};
use super::clients::Clients;

/// A history reader of real etcd runs every 100 ms; after this time it has surely caught up with a small store.
const CATCH_UP: Duration = Duration::from_millis(450);

/// How long to wait for an answer that must come.
const LIMIT: Duration = Duration::from_secs(10);

/// What came over the stream, by watch id. How events are cut into responses depends on time, so they are joined;
/// that a revision is never cut is checked while they come in.
#[derive(Default, Debug)]
struct Seen {
    created: Vec<WatchResponse>,
    progress: Vec<WatchResponse>,
    by_id: BTreeMap<i64, Vec<String>>,
    /// Rules that were broken, whatever the other server did.
    broken: Vec<String>,
    last_revision: BTreeMap<i64, i64>,
    ended: Option<String>,
}

/// A watch stream.
#[derive(Debug)]
pub struct WatchLog {
    requests: mpsc::Sender<WatchRequest>,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
    busy_until: Instant,
}

impl WatchLog {
    /// Opens a stream.
    pub fn open(clients: &Clients) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut client = clients.watch.clone();
        let log = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            let end = match client.watch(ReceiverStream::new(receiver)).await {
                Err(status) => Answer::error(&status).0,
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(response)) => lock(&log).take(response),
                            Ok(None) => break "end of stream".to_owned(),
                            Err(status) => break Answer::error(&status).0,
                        }
                    }
                }
            };
            lock(&log).ended = Some(end);
        });
        Self {
            requests,
            seen,
            reader,
            busy_until: Instant::now(),
        }
    }

    /// Creates a watcher; the answer is the `created` response.
    pub(super) async fn create(&mut self, request: WatchCreateRequest) -> Answer {
        let before = lock(&self.seen).created.len();
        self.busy_until = Instant::now() + CATCH_UP;
        self.send(RequestUnion::CreateRequest(request)).await;
        self.wait(|seen| {
            seen.created.get(before).map(|response| {
                let mut response = response.clone();
                answer::header(&mut response.header);
                Answer::of(&response)
            })
        })
        .await
    }

    /// Cancels a watcher. The answer is compared with the rest of the stream's history.
    pub(super) async fn cancel(&mut self, id: i64) -> Answer {
        self.settle().await;
        self.send(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: id,
        }))
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Answer(String::new())
    }

    /// Asks for progress. Whether an answer comes is part of the comparison.
    pub(super) async fn progress(&mut self) -> Answer {
        self.settle().await;
        let before = lock(&self.seen).progress.len();
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
        tokio::time::sleep(CATCH_UP).await;
        let seen = lock(&self.seen);
        let mut answers = seen.progress[before..].to_vec();
        for answer in &mut answers {
            answer::header(&mut answer.header);
        }
        Answer::of(&answers)
    }

    /// Waits until no watcher reads history any more.
    pub(super) async fn settle(&self) {
        tokio::time::sleep_until(self.busy_until).await;
    }

    /// Everything the watchers were told so far, by id.
    pub fn history(&self) -> Answer {
        let seen = lock(&self.seen);
        Answer(format!(
            "{:#?}\nbroken rules: {:#?}\nended: {:?}",
            seen.by_id, seen.broken, seen.ended
        ))
    }

    async fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        // Fails only when the stream has ended, which the history shows.
        let _ = self.requests.send(request).await;
    }

    async fn wait(&self, mut probe: impl FnMut(&Seen) -> Option<Answer>) -> Answer {
        let end = Instant::now() + LIMIT;
        loop {
            {
                let seen = lock(&self.seen);
                if let Some(answer) = probe(&seen) {
                    return answer;
                }
                if let Some(ended) = &seen.ended {
                    return Answer(format!("the stream ended: {ended}"));
                }
            }
            if Instant::now() > end {
                return Answer("no answer".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for WatchLog {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Seen {
    fn take(&mut self, response: WatchResponse) {
        let id = response.watch_id;
        let header_revision = response.header.map_or(0, |header| header.revision);
        if response.created {
            self.created.push(response);
            return;
        }
        if response.canceled {
            self.by_id.entry(id).or_default().push(format!(
                "canceled at {header_revision}, compact revision {}, reason {:?}",
                response.compact_revision, response.cancel_reason
            ));
            self.last_revision.remove(&id);
            return;
        }
        if response.events.is_empty() {
            self.progress.push(response);
            return;
        }
        self.take_events(id, header_revision, &response);
    }

    fn take_events(&mut self, id: i64, header_revision: i64, response: &WatchResponse) {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, api::RawKv::mod_revision);
        let first = response.events.first().map_or(0, revision);
        let last = response.events.last().map_or(0, revision);
        let before = self.last_revision.entry(id).or_default();
        if first <= *before {
            self.broken
                .push(format!("watch {id}: revision {first} comes after {before}"));
        }
        if header_revision < last {
            self.broken.push(format!(
                "watch {id}: header revision {header_revision} with an event of {last}"
            ));
        }
        *before = last;
        let entries = self.by_id.entry(id).or_default();
        entries.extend(response.events.iter().map(|event| format!("{event:?}")));
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

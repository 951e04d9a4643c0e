//! A watch stream whose answers the test reads one by one, as fast or slowly as it likes.

use std::time::Duration;

use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::clients::Clients;

/// An open watch stream.
#[derive(Debug)]
pub struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl WatchStream {
    /// Opens a stream and creates its first watcher.
    pub async fn open(clients: &Clients, first: WatchCreateRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1024);
        let first = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(first)),
        };
        // The channel is empty, so this cannot fail; servers may answer only after the first request.
        let _ = requests.try_send(first);
        let mut client = clients.watch.clone();
        let responses = client
            .watch(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// Creates another watcher.
    pub async fn create(&self, request: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request)).await;
    }

    /// Cancels a watcher.
    pub async fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
    }

    /// Asks for progress.
    pub async fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    async fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        // Fails when the stream has ended; the next read says why.
        let _ = self.requests.send(request).await;
    }

    /// The next answer, or none within the time. The end of the stream is an error.
    pub async fn next(&mut self, limit: Duration) -> Result<Option<WatchResponse>, Status> {
        match tokio::time::timeout(limit, self.responses.message()).await {
            Err(_) => Ok(None),
            Ok(Ok(Some(response))) => Ok(Some(response)),
            Ok(Ok(None)) => Err(Status::cancelled("the watch stream has ended")),
            Ok(Err(status)) => Err(status),
        }
    }

    /// The next answer, which must come.
    ///
    /// # Panics
    /// When it does not within ten seconds.
    pub async fn expect(&mut self) -> WatchResponse {
        self.next(Duration::from_secs(10))
            .await
            .expect("the watch stream is open")
            .expect("an answer on the watch stream")
    }
}

/// A watcher of all keys with this prefix, from a revision on (0: from now on).
pub fn watch_prefix(prefix: &str, start_revision: i64) -> WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    WatchCreateRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: end.into(),
        start_revision,
        ..Default::default()
    }
}

/// A watcher of one key.
pub fn watch_key(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.as_bytes().to_vec().into(),
        start_revision,
        ..Default::default()
    }
}

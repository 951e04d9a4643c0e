//! What goes on beside the puts of the tails section.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::maintenance_client::MaintenanceClient;
use api::etcdserverpb::watch_client::WatchClient;
use api::etcdserverpb::{
    CompactionRequest, DefragmentRequest, RangeRequest, SnapshotRequest, WatchCreateRequest,
    WatchRequest, watch_request,
};
use bytes::Bytes;
use tokio_stream::StreamExt;

use crate::Error;
use crate::client::{connect, list_discarding};

/// Prefix of the keys that are listed and watched.
pub const PREFIX: &str = "data/";
/// How many of them there are.
pub const KEYS: usize = 100_000;
/// Size of their values.
pub const VALUE: usize = 256;
/// Clients that list at the same time.
const LISTERS: usize = 4;
/// Rest between two compactions, or two defragmentations.
const PAUSE: Duration = Duration::from_secs(1);

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing but the puts.
    Nothing,
    /// Snapshots of the database are saved, one after the other.
    SnapshotSave,
    /// Four clients list all keys, again and again.
    Lists,
    /// A watcher starts at revision 1; when it has caught up, the next one starts.
    LaggingWatcher,
    /// The history is compacted every second.
    Compaction,
    /// The database is defragmented, with a rest of a second between.
    Defrag,
}

impl Work {
    /// All kinds. Compaction comes last but one: it takes the history away from the watcher.
    pub const ALL: [Work; 6] = [
        Work::Nothing,
        Work::SnapshotSave,
        Work::Lists,
        Work::LaggingWatcher,
        Work::Compaction,
        Work::Defrag,
    ];

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Work::Nothing => "nothing",
            Work::SnapshotSave => "snapshot save",
            Work::Lists => "4 clients list 100,000 keys",
            Work::LaggingWatcher => "a watcher catches up from revision 1 (events)",
            Work::Compaction => "compaction",
            Work::Defrag => "defrag",
        }
    }

    /// Works until it is cancelled by dropping the future; `done` counts finished pieces, or events.
    pub async fn run(self, endpoint: &str, done: &AtomicU64) -> Result<(), Error> {
        loop {
            match self {
                Work::Nothing => return std::future::pending().await,
                Work::Lists => return lists(endpoint, done).await,
                Work::LaggingWatcher => {
                    catch_up(endpoint, done).await?;
                    continue;
                }
                Work::SnapshotSave => snapshot(endpoint).await?,
                Work::Compaction => compact(endpoint).await?,
                Work::Defrag => defragment(endpoint).await?,
            }
            done.fetch_add(1, Ordering::Relaxed);
            if self != Work::SnapshotSave {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Lists with several clients until one fails.
async fn lists(endpoint: &str, done: &AtomicU64) -> Result<(), Error> {
    let list = async || -> Result<(), Error> {
        let channel = connect(endpoint).await?;
        loop {
            list_discarding(channel.clone(), PREFIX).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    const { assert!(LISTERS == 4) };
    tokio::try_join!(list(), list(), list(), list()).map(drop)
}

async fn snapshot(endpoint: &str) -> Result<(), Error> {
    let mut client = MaintenanceClient::new(connect(endpoint).await?);
    let mut stream = client
        .snapshot(SnapshotRequest::default())
        .await?
        .into_inner();
    while let Some(chunk) = stream.next().await {
        drop(chunk?);
    }
    Ok(())
}

async fn current_revision(client: &mut KvClient<tonic::transport::Channel>) -> Result<i64, Error> {
    let request = RangeRequest {
        key: Bytes::from_static(b"a"),
        serializable: true,
        count_only: true,
        ..Default::default()
    };
    let header = client.range(request).await?.into_inner().header;
    Ok(header.map_or(0, |header| header.revision))
}

async fn compact(endpoint: &str) -> Result<(), Error> {
    let mut client = KvClient::new(connect(endpoint).await?);
    let revision = current_revision(&mut client).await?;
    client
        .compact(CompactionRequest {
            revision,
            physical: true,
        })
        .await?;
    Ok(())
}

async fn defragment(endpoint: &str) -> Result<(), Error> {
    let mut client = MaintenanceClient::new(connect(endpoint).await?);
    client.defragment(DefragmentRequest::default()).await?;
    Ok(())
}

/// Watches everything from revision 1 until it sees what was current at its start.
async fn catch_up(endpoint: &str, done: &AtomicU64) -> Result<(), Error> {
    let channel = connect(endpoint).await?;
    let target = current_revision(&mut KvClient::new(channel.clone())).await?;
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: 1,
        ..Default::default()
    };
    let request = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    };
    // The request side stays open until the watcher has seen enough.
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut answers = client.watch(requests).await?.into_inner();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        if answer.canceled {
            return Err(tonic::Status::cancelled(answer.cancel_reason).into());
        }
        done.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        let last = answer.events.last().and_then(|event| event.kv.as_ref());
        if last.is_some_and(|kv| kv.mod_revision() >= target) {
            return Ok(());
        }
    }
    Err(Error::Ended)
}

//! The requests of the differential.

use std::time::Duration;

use api::etcdserverpb as pb;
use tonic::{Status, Streaming};

use super::answer::{self, Answer};
use super::clients::Clients;
use super::watcher::WatchLog;

/// One request to a server.
#[derive(Clone, Debug)]
pub enum Request {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.RangeStream; the chunks are compared merged, since their sizes may differ.
    RangeStream(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    Delete(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant with an id of its own
    Grant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeRequest),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.LeaseLeases
    Leases,
    /// Lease.LeaseKeepAlive: a stream with these ids, half-closed
    KeepAlive(Vec<i64>),
    /// Maintenance.HashKV
    HashKv(i64),
    /// Maintenance.Status
    Status,
    /// Maintenance.Alarm, GET
    Alarms(i32),
    /// Cluster.MemberList
    Members(bool),
    /// Watch: create
    WatchCreate(pb::WatchCreateRequest),
    /// Watch: cancel
    WatchCancel(i64),
    /// Watch: ask for progress
    WatchProgress,
}

/// How long a request may take. Long, since the machine may be busy; a request that hangs is a difference.
const LIMIT: Duration = Duration::from_secs(20);

impl Request {
    /// Sends it and waits for the answer.
    pub async fn send(&self, clients: &mut Clients, watch: &mut WatchLog) -> Answer {
        match tokio::time::timeout(LIMIT, self.answer(clients, watch)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => Answer::error(&status),
            Err(_) => Answer(format!("no answer within {LIMIT:?}")),
        }
    }

    async fn answer(&self, clients: &mut Clients, watch: &mut WatchLog) -> Result<Answer, Status> {
        match self {
            Self::Range(_)
            | Self::RangeStream(_)
            | Self::Put(_)
            | Self::Delete(_)
            | Self::Txn(_)
            | Self::Compact(_) => self.kv(clients, watch).await,
            Self::Grant(_)
            | Self::Revoke(_)
            | Self::TimeToLive(_)
            | Self::Leases
            | Self::KeepAlive(_) => self.lease(clients).await,
            Self::HashKv(_) | Self::Status | Self::Alarms(_) | Self::Members(_) => {
                self.maintenance(clients).await
            }
            Self::WatchCreate(request) => Ok(watch.create(request.clone()).await),
            Self::WatchCancel(id) => Ok(watch.cancel(*id).await),
            Self::WatchProgress => Ok(watch.progress().await),
        }
    }

    async fn kv(&self, clients: &mut Clients, watch: &mut WatchLog) -> Result<Answer, Status> {
        let kv = &mut clients.kv;
        Ok(match self {
            Self::Range(request) => {
                let mut response = kv.range(request.clone()).await?.into_inner();
                answer::range(request, &mut response);
                Answer::of(&response)
            }
            Self::RangeStream(request) => {
                let chunks = kv.range_stream(request.clone()).await?.into_inner();
                Answer::of(&merge(chunks).await?)
            }
            Self::Put(request) => {
                let mut response = kv.put(request.clone()).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::Delete(request) => {
                let mut response = kv.delete_range(request.clone()).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::Txn(request) => {
                let mut response = kv.txn(request.clone()).await?.into_inner();
                answer::txn(request, &mut response);
                Answer::of(&response)
            }
            Self::Compact(request) => {
                // A watcher that still reads history may or may not be overtaken; give it the time to finish.
                watch.settle().await;
                let mut response = kv.compact(*request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            _ => unreachable!("sent by the caller"),
        })
    }

    async fn lease(&self, clients: &mut Clients) -> Result<Answer, Status> {
        let lease = &mut clients.lease;
        Ok(match self {
            Self::Grant(request) => {
                let mut response = lease.lease_grant(*request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::Revoke(request) => {
                let mut response = lease.lease_revoke(*request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::TimeToLive(request) => {
                let mut response = lease.lease_time_to_live(*request).await?.into_inner();
                answer::header(&mut response.header);
                // Remaining whole seconds may be off by the time between the two servers.
                if response.ttl >= 0 {
                    response.ttl = 0;
                }
                response.keys.sort();
                Answer::of(&response)
            }
            Self::Leases => {
                let request = pb::LeaseLeasesRequest {};
                let mut response = lease.lease_leases(request).await?.into_inner();
                answer::header(&mut response.header);
                response.leases.sort_by_key(|lease| lease.id);
                Answer::of(&response)
            }
            Self::KeepAlive(ids) => {
                let requests: Vec<_> = ids
                    .iter()
                    .map(|id| pb::LeaseKeepAliveRequest { id: *id })
                    .collect();
                let stream = lease.lease_keep_alive(tokio_stream::iter(requests)).await?;
                let mut stream = stream.into_inner();
                let mut responses = Vec::new();
                while let Some(mut response) = stream.message().await? {
                    answer::header(&mut response.header);
                    responses.push(response);
                }
                Answer::of(&responses)
            }
            _ => unreachable!("sent by the caller"),
        })
    }

    async fn maintenance(&self, clients: &mut Clients) -> Result<Answer, Status> {
        let maintenance = &mut clients.maintenance;
        Ok(match self {
            Self::HashKv(revision) => {
                let request = pb::HashKvRequest {
                    revision: *revision,
                };
                let mut response = maintenance.hash_kv(request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::Status => {
                let response = maintenance.status(pb::StatusRequest {}).await?;
                let mut response = response.into_inner();
                answer::header(&mut response.header);
                response.raft_term = response.raft_term.min(1);
                response.raft_index = response.raft_index.min(1);
                response.raft_applied_index = response.raft_applied_index.min(1);
                response.db_size = response.db_size.min(1);
                response.db_size_in_use = response.db_size_in_use.min(1);
                Answer::of(&response)
            }
            Self::Alarms(alarm) => {
                let request = pb::AlarmRequest {
                    action: 0,
                    member_id: 0,
                    alarm: *alarm,
                };
                let mut response = maintenance.alarm(request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            Self::Members(linearizable) => {
                let request = pb::MemberListRequest {
                    linearizable: *linearizable,
                };
                let mut response = clients.cluster.member_list(request).await?.into_inner();
                answer::header(&mut response.header);
                Answer::of(&response)
            }
            _ => unreachable!("sent by the caller"),
        })
    }
}

/// One answer out of the chunks of a stream.
async fn merge(
    mut chunks: Streaming<pb::RangeStreamResponse>,
) -> Result<pb::RangeResponse, Status> {
    let mut whole = pb::RangeResponse::default();
    let mut headers = 0;
    while let Some(chunk) = chunks.message().await? {
        let chunk = chunk.range_response.unwrap_or_default();
        headers += usize::from(chunk.header.is_some());
        whole.header = chunk.header.or(whole.header);
        whole.kvs.extend(chunk.kvs);
        whole.more |= chunk.more;
        whole.count += chunk.count;
    }
    if headers != 1 {
        return Err(Status::internal(format!("{headers} chunks had a header")));
    }
    answer::header(&mut whole.header);
    Ok(whole)
}

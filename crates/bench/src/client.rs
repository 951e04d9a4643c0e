//! A small client: connections, filling a database, and answers that are read but not decoded.

use std::time::Duration;

use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op};
use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::Error;

/// Puts per transaction when a database is filled; etcd allows 128.
const BATCH: usize = 100;
/// Transactions in flight when a database is filled.
const WRITERS: usize = 8;

/// Opens one connection.
pub async fn connect(endpoint: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    Ok(endpoint.connect().await?)
}

/// Waits until a linearizable read is answered.
pub async fn wait_for_reads(endpoint: &str, limit: Duration) -> Result<(), Error> {
    let end = std::time::Instant::now() + limit;
    loop {
        let result = match connect(endpoint).await {
            Ok(channel) => {
                let request = RangeRequest {
                    key: Bytes::from_static(b"a"),
                    ..Default::default()
                };
                KvClient::new(channel)
                    .range(request)
                    .await
                    .map(drop)
                    .map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error) if std::time::Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// A value of `len` bytes that does not compress and does not repeat.
pub fn value(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

/// Puts `count` keys `<prefix><number>` with values of `len` bytes.
pub async fn fill(endpoint: &str, prefix: &str, count: usize, len: usize) -> Result<(), Error> {
    let channel = connect(endpoint).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = KvClient::new(channel.clone());
        let prefix = prefix.to_owned();
        tasks.spawn(async move {
            for start in (writer * BATCH..count).step_by(WRITERS * BATCH) {
                let success = (start..(start + BATCH).min(count))
                    .map(|i| put_op(format!("{prefix}{i:08}"), value(i as u64, len)))
                    .collect();
                client
                    .txn(TxnRequest {
                        success,
                        ..Default::default()
                    })
                    .await?;
            }
            Ok::<(), Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|_| Error::Ended)??;
    }
    Ok(())
}

/// Puts one key.
pub async fn put(endpoint: &str, key: &str, value: Bytes) -> Result<(), Error> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = PutRequest {
        key,
        value,
        ..Default::default()
    };
    KvClient::new(connect(endpoint).await?).put(put).await?;
    Ok(())
}

fn put_op(key: String, value: Bytes) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value,
        ..Default::default()
    };
    RequestOp {
        request: Some(request_op::Request::RequestPut(put)),
    }
}

/// Lists all keys of a prefix and throws the answer away undecoded, so that the client's work does not
/// compete with the server's. Returns its length in bytes.
pub async fn list_discarding(channel: Channel, prefix: &str) -> Result<usize, Error> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await?;
    let request = RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: prefix_end(prefix),
        ..Default::default()
    };
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let answer = grpc
        .unary(tonic::Request::new(request), path, DiscardCodec)
        .await?;
    Ok(answer.into_inner())
}

/// The end of the range of all keys with a prefix.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // prefixes here are ASCII
    }
    end.into()
}

/// Encodes range requests and counts the bytes of the answers.
struct DiscardCodec;

struct DiscardDecoder;

impl Codec for DiscardCodec {
    type Encode = RangeRequest;
    type Decode = usize;
    type Encoder = tonic_prost::ProstEncoder<RangeRequest>;
    type Decoder = DiscardDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        tonic_prost::ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        DiscardDecoder
    }
}

impl Decoder for DiscardDecoder {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let length = src.remaining();
        src.advance(length);
        Ok(Some(length))
    }
}

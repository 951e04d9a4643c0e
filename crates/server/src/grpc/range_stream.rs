//! RangeStream: a Range in chunks that read one revision.

use std::sync::Arc;

use api::Error;
use api::etcdserverpb as pb;
use bytes::{BufMut, Bytes, BytesMut};
use tonic::Status;

use super::call::Call;
use super::services::{Sender, Services, only_message};
use super::validate;
use crate::frontend::Frontend;

/// Most keys of the first chunk.
const FIRST_CHUNK: i64 = 10;

impl<F: Frontend> Services<F> {
    /// All chunks merged are the answer to the same Range. Only the last one has header, `more` and `count`.
    pub(super) async fn range_stream(
        self: Arc<Self>,
        mut call: Call,
        out: Sender,
    ) -> Result<(), Status> {
        let request: pb::RangeRequest = only_message(&mut call, &out.tally).await?;
        validate::range_stream(&request)?;
        let caller = call.caller();
        if request.count_only {
            let response = self.member.range(&caller, request).await?;
            out.send(&pb::RangeStreamResponse {
                range_response: Some(response),
            })
            .await;
            return Ok(());
        }
        let mut reader = Reader::new(request, self.settings.max_request_bytes);
        while let Some(next) = reader.next_request() {
            if self.stop.is_cancelled() {
                return Err(Error::Stopped.into());
            }
            let response = reader.accept(self.member.range(&caller, next).await?);
            let length = out
                .send(&pb::RangeStreamResponse {
                    range_response: Some(response),
                })
                .await;
            reader.sent(length);
        }
        Ok(())
    }
}

/// Where a RangeStream stands.
#[derive(Debug)]
struct Reader {
    /// What to read next, except for the limit.
    request: pb::RangeRequest,
    /// Keys the client still wants; `None` means all there are.
    wanted: Option<i64>,
    /// Keys of the next chunk; `None` means all at once.
    chunk: Option<i64>,
    /// Header of the first chunk: the state the whole answer belongs to.
    header: Option<pb::ResponseHeader>,
    sent: i64,
    done: bool,
    max_request_bytes: usize,
}

impl Reader {
    fn new(mut request: pb::RangeRequest, max_request_bytes: usize) -> Self {
        // Key order is what ranges have anyway; other targets would sort each chunk by itself.
        request.sort_order = 0;
        request.sort_target = 0;
        let wanted = (request.limit > 0).then_some(request.limit);
        let chunk = (request.limit >= 0).then_some(FIRST_CHUNK);
        Self {
            request,
            wanted,
            chunk,
            header: None,
            sent: 0,
            done: false,
            max_request_bytes,
        }
    }

    fn next_request(&self) -> Option<pb::RangeRequest> {
        if self.done {
            return None;
        }
        let limit = match (self.chunk, self.wanted) {
            (None, _) => 0,
            (Some(chunk), None) => chunk,
            (Some(chunk), Some(wanted)) => chunk.min(wanted),
        };
        Some(pb::RangeRequest {
            limit,
            ..self.request.clone()
        })
    }

    /// Takes note of what was read and makes it the chunk to send.
    fn accept(&mut self, mut response: pb::RangeResponse) -> pb::RangeResponse {
        let header = response.header.take();
        if self.header.is_none() {
            if self.request.revision <= 0 {
                self.request.revision = header.map_or(0, |header| header.revision);
            }
            // The revision is fixed now, so the cluster need not be asked again.
            self.request.serializable = true;
            self.header = header;
        }
        let keys = response.kvs.len() as i64;
        if let Some(wanted) = &mut self.wanted {
            *wanted -= keys;
        }
        let last = response
            .kvs
            .last()
            .filter(|_| response.more && self.wanted != Some(0));
        match last {
            Some(last) => {
                self.request.key = successor(last.key_slice());
                response.more = false;
                response.count = 0;
            }
            None => {
                self.done = true;
                response.header = self.header;
                response.count += self.sent;
            }
        }
        self.sent += keys;
        response
    }

    /// Chooses the size of the next chunk by the length of this one.
    fn sent(&mut self, length: usize) {
        if let Some(chunk) = &mut self.chunk {
            if length < self.max_request_bytes / 2 {
                *chunk = chunk.saturating_mul(2);
            } else if length > self.max_request_bytes.saturating_mul(2) {
                *chunk = (*chunk / 2).max(1);
            }
        }
    }
}

/// The key right after this one.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

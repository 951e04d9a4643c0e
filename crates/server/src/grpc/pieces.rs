//! Big answers, encoded piece by piece.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::RawKv;
use api::etcdserverpb as pb;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame;

/// About how many bytes one piece has.
const PIECE: usize = 64 * 1024;
/// Field number of `kvs` in a `RangeResponse`.
const KVS: u32 = 2;

/// A `RangeResponse` on its way out. The pairs stay the store's shared bytes until the transport asks for them, so
/// a list in flight costs one piece beside what the store holds anyway.
#[derive(Debug)]
pub struct Pieces {
    /// Frame header and everything before the pairs.
    head: Option<Bytes>,
    kvs: std::vec::IntoIter<RawKv>,
    /// Everything after the pairs.
    tail: Option<Bytes>,
    /// A big pair whose key and length were just sent.
    pending: Option<Bytes>,
    length: usize,
    /// Whether a piece was given since the last rest.
    busy: bool,
    /// Its share of what may be on its way at once; given back when the list is sent or its client gone.
    share: Option<OwnedSemaphorePermit>,
}

/// How much of long lists is on its way to clients at once.
///
/// Lists compete with everything else for the processors, at the clients as much as here. Beyond the budget they
/// go one after the other. That is a matter of order, not of memory, which a list on its way hardly takes: so a list
/// that has waited for a while, perhaps for a client that does not read, is sent all the same.
#[derive(Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// The budget in bytes.
const BUDGET: usize = 32 << 20;
/// Bytes of one permit.
const PERMIT: usize = 64 << 10;
/// Lists shorter than this do not count.
const COUNTED: usize = 1 << 20;
/// How long a list waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET / PERMIT)))
    }
}

impl Budget {
    /// Waits until the list may go.
    pub async fn admit(&self, pieces: &mut Pieces) {
        if pieces.length < COUNTED {
            return;
        }
        let permits = (pieces.length.min(BUDGET) / PERMIT) as u32;
        let turn = Arc::clone(&self.0).acquire_many_owned(permits);
        if let Ok(Ok(share)) = tokio::time::timeout(PATIENCE, turn).await {
            pieces.share = Some(share);
        }
    }
}

impl Pieces {
    /// Takes a response apart; gives it back when it is small enough to be encoded at once.
    pub fn of(response: pb::RangeResponse) -> Result<Self, pb::RangeResponse> {
        // Lower bound first: counting exactly is only worth it for lists.
        if response
            .kvs
            .iter()
            .map(|kv| kv.encoded().len())
            .sum::<usize>()
            <= PIECE
        {
            return Err(response);
        }
        let length = response.encoded_len();
        let head = pb::RangeResponse {
            header: response.header,
            ..Default::default()
        };
        let tail = pb::RangeResponse {
            more: response.more,
            count: response.count,
            ..Default::default()
        };
        let mut buffer = BytesMut::with_capacity(frame::HEADER + head.encoded_len());
        frame::put_header(&mut buffer, length);
        head.encode_raw(&mut buffer);
        Ok(Self {
            head: Some(buffer.freeze()),
            kvs: response.kvs.into_iter(),
            tail: Some(tail.encode_to_vec().into()),
            pending: None,
            length,
            busy: false,
            share: None,
        })
    }

    /// Length of the whole message without its frame header.
    pub const fn message_length(&self) -> usize {
        self.length
    }

    /// Lets the other clients of this thread go first after each piece.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.busy, false) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The next piece; `None` after the last one.
    pub fn next(&mut self) -> Option<Bytes> {
        let piece = self.encode_next()?;
        self.busy = true;
        Some(piece)
    }

    fn encode_next(&mut self) -> Option<Bytes> {
        if let Some(big) = self.pending.take() {
            return Some(big);
        }
        let mut piece = BytesMut::new();
        if let Some(head) = self.head.take() {
            piece.reserve(PIECE);
            piece.put(head);
        }
        while let Some(kv) = self.kvs.as_slice().first() {
            let length = kv.encoded().len();
            let room = key_len(KVS) + encoded_len_varint(length as u64) + length;
            if piece.is_empty() {
                piece.reserve(room.min(PIECE));
            } else if length < PIECE && piece.len() + room > PIECE {
                return Some(piece.freeze());
            }
            encode_key(KVS, WireType::LengthDelimited, &mut piece);
            encode_varint(length as u64, &mut piece);
            let kv = self.kvs.next()?.into_encoded();
            if length >= PIECE {
                self.pending = Some(kv);
                return Some(piece.freeze());
            }
            piece.put(kv);
        }
        if let Some(tail) = self.tail.take() {
            piece.put(tail);
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(sizes: &[usize]) -> pb::RangeResponse {
        let kvs = sizes
            .iter()
            .map(|size| RawKv::encode(b"key", 1, 2, 3, &vec![b'v'; *size], 0))
            .collect();
        let header = pb::ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 300,
            raft_term: 4,
        };
        pb::RangeResponse {
            header: Some(header),
            kvs,
            more: true,
            count: 1_000_000,
        }
    }

    #[test]
    fn pieces_add_up_to_the_message() {
        let lists: [&[usize]; 6] = [
            &[70_000],
            &[65_500, 10],
            &[10, 200_000, 10],
            &[1_000; 200],
            &[40_000; 5],
            &[0, 65_536, 65_535, 0],
        ];
        for sizes in lists {
            let response = list(sizes);
            let whole = frame::encode(&response);
            let mut pieces = Pieces::of(response).unwrap();
            assert_eq!(pieces.message_length() + frame::HEADER, whole.len());
            let mut joined = BytesMut::new();
            while let Some(piece) = pieces.next() {
                assert!(!piece.is_empty());
                joined.put(piece);
            }
            assert_eq!(joined, whole, "{sizes:?}");
        }
    }

    #[test]
    fn a_list_of_small_pairs_is_cut_into_equal_pieces() {
        let mut pieces = Pieces::of(list(&vec![100; 10_000])).unwrap();
        let mut lengths = Vec::new();
        while let Some(piece) = pieces.next() {
            lengths.push(piece.len());
        }
        let last = lengths.pop();
        assert!(last.is_some());
        assert!(
            lengths
                .iter()
                .all(|length| (PIECE - 200..=PIECE).contains(length)),
            "{lengths:?}"
        );
    }

    #[test]
    fn small_answers_stay_whole() {
        let response = list(&[10, 20]);
        assert_eq!(Pieces::of(response.clone()).unwrap_err(), response);
    }
}

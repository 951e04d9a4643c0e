//! Frames and records, byte for byte. The layout is in `docs/wal-format.md`.
//!
//! A frame is a length word, the record and zeros up to the next multiple of 8. A record is a small
//! protobuf message `{1: type, 2: crc, 3: data}`. Both are encoded by hand straight into the write
//! buffer, because this is the path of every write of the cluster.

use api::raftpb::{Entry, HardState};

/// Kinds of records.
pub(crate) mod kind {
    pub const METADATA: i64 = 1;
    pub const ENTRY: i64 = 2;
    pub const STATE: i64 = 3;
    pub const CRC: i64 = 4;
    pub const SNAPSHOT: i64 = 5;
}

/// Bytes of the length word.
pub(crate) const LENGTH_WORD: usize = 8;

/// The most a varint takes.
const MAX_VARINT: usize = 10;

/// The length word for a record of `len` bytes, and the zeros after the record. The number of zeros
/// stands in the top byte, marked by the sign bit, and only if there are any.
pub(crate) fn length_word(len: usize) -> (u64, usize) {
    let padding = (8 - len % 8) % 8;
    let mut word = len as u64;
    if padding != 0 {
        word |= (0x80 | padding as u64) << 56;
    }
    (word, padding)
}

/// The inverse of [`length_word`] for bytes that nobody vouches for: (record length, padding).
pub(crate) fn parse_length_word(word: u64) -> (u64, u64) {
    let length = word & 0x00FF_FFFF_FFFF_FFFF;
    let padding = if word >> 63 == 1 { (word >> 56) & 7 } else { 0 };
    (length, padding)
}

/// A few bytes built on the stack.
struct Small<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Small<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    fn byte(&mut self, b: u8) {
        self.bytes[self.len] = b;
        self.len += 1;
    }

    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.byte(v as u8 | 0x80);
            v >>= 7;
        }
        self.byte(v as u8);
    }

    fn field(&mut self, tag: u8, v: u64) {
        self.byte(tag);
        self.varint(v);
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends one frame whose data is `head` followed by `tail`, and returns the running checksum after
/// it. The data come in two parts so that the bytes of an entry are copied once.
fn put_frame(buf: &mut Vec<u8>, kind: i64, crc: u32, head: &[u8], tail: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, head), tail);
    let data_len = head.len() + tail.len();
    let mut record = Small::<{ 3 + 2 * MAX_VARINT + 2 }>::new();
    record.field(0x08, kind as u64);
    record.field(0x10, u64::from(crc));
    record.field(0x1a, data_len as u64);
    let len = record.len + data_len;
    let (word, padding) = length_word(len);
    buf.reserve(LENGTH_WORD + len + padding);
    buf.extend_from_slice(&word.to_le_bytes());
    buf.extend_from_slice(record.as_slice());
    buf.extend_from_slice(head);
    buf.extend_from_slice(tail);
    buf.extend_from_slice(&[0; 8][..padding]);
    crc
}

/// Appends a record with data and returns the running checksum after it.
pub(crate) fn put_data(buf: &mut Vec<u8>, kind: i64, crc: u32, data: &[u8]) -> u32 {
    put_frame(buf, kind, crc, data, &[])
}

/// Appends an entry. Fields that are zero are written, as etcd 3.5 and 3.6 do; empty data are left out.
pub(crate) fn put_entry(buf: &mut Vec<u8>, crc: u32, entry: &Entry) -> u32 {
    let mut head = Small::<{ 4 * (1 + MAX_VARINT) }>::new();
    head.field(0x08, entry.r#type as u64);
    head.field(0x10, entry.term);
    head.field(0x18, entry.index);
    if !entry.data.is_empty() {
        head.field(0x22, entry.data.len() as u64);
    }
    put_frame(buf, kind::ENTRY, crc, head.as_slice(), &entry.data)
}

/// Appends a hard state, zeros included.
pub(crate) fn put_state(buf: &mut Vec<u8>, crc: u32, state: &HardState) -> u32 {
    let mut data = Small::<{ 3 * (1 + MAX_VARINT) }>::new();
    data.field(0x08, state.term);
    data.field(0x10, state.vote);
    data.field(0x18, state.commit);
    put_frame(buf, kind::STATE, crc, data.as_slice(), &[])
}

/// Appends the record that carries the running checksum over into a segment. It has no data.
pub(crate) fn put_crc(buf: &mut Vec<u8>, crc: u32) {
    let mut record = Small::<{ 2 * (1 + MAX_VARINT) }>::new();
    record.field(0x08, kind::CRC as u64);
    record.field(0x10, u64::from(crc));
    let (word, padding) = length_word(record.len);
    buf.extend_from_slice(&word.to_le_bytes());
    buf.extend_from_slice(record.as_slice());
    buf.extend_from_slice(&[0; 8][..padding]);
}

/// A record as it lies in the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub kind: i64,
    pub crc: u32,
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Decodes the protobuf message; `None` if it is none. Unknown fields are skipped, of repeated
    /// ones the last counts.
    pub fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut record = Record {
            kind: 0,
            crc: 0,
            data: &[],
        };
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            match (tag >> 3, tag & 7) {
                (1, 0) => record.kind = take_varint(&mut bytes)? as i64,
                (2, 0) => record.crc = take_varint(&mut bytes)? as u32,
                (3, 2) => record.data = take_bytes(&mut bytes)?,
                (0..=3, _) => return None,
                (_, 0) => drop(take_varint(&mut bytes)?),
                (_, 1) => drop(take(&mut bytes, 8)?),
                (_, 2) => drop(take_bytes(&mut bytes)?),
                (_, 5) => drop(take(&mut bytes, 4)?),
                _ => return None,
            }
        }
        Some(record)
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(head)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = usize::try_from(take_varint(bytes)?).ok()?;
    take(bytes, n)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let b = take(bytes, 1)?[0];
        if shift == 63 && b > 1 {
            return None;
        }
        value |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn hex(s: &str) -> Vec<u8> {
        let digits: Vec<u8> = s.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn checksum_is_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    /// The first bytes of a segment that etcd 3.7 wrote.
    #[test]
    fn start_of_a_log_is_as_etcd_writes_it() {
        let mut buf = Vec::new();
        put_crc(&mut buf, 0);
        let metadata = hex("0895e98ab9b0c3d19462 10feaa87e783c0b7cce201");
        let crc = put_data(&mut buf, kind::METADATA, 0, &metadata);
        assert_eq!(crc, 0x6037_a4e9);
        let crc = put_data(&mut buf, kind::SNAPSHOT, crc, &hex("08001000"));
        assert_eq!(crc, 0x2b9c_f244);
        let want = hex("0400000000000084 0804100000000000
             1f00000000000081 080110e9c9de81061a150895e98ab9b0c3d1946210feaa87e783c0b7cce201 00
             0e00000000000082 080510c4e4f3dc021a0408001000 0000");
        assert_eq!(buf, want);
    }

    #[test]
    fn carried_checksum_at_the_start_of_a_later_segment() {
        let mut buf = Vec::new();
        let want = hex("0800000000000000 080410f0d8c69d02");
        let crc = Record::parse(&want[8..]).unwrap().crc;
        put_crc(&mut buf, crc);
        assert_eq!(buf, want);
    }

    #[test]
    fn leader_no_op_is_written_with_its_zero_type() {
        let mut buf = Vec::new();
        let entry = Entry {
            term: 2,
            index: 2,
            ..Entry::default()
        };
        put_entry(&mut buf, 0, &entry);
        let (len, padding) = parse_length_word(u64::from_le_bytes(buf[..8].try_into().unwrap()));
        assert_eq!(8 + len + padding, buf.len() as u64);
        let record = Record::parse(&buf[8..8 + len as usize]).unwrap();
        assert_eq!(record.data, hex("080010021802"));
        assert_eq!(record.crc, crc32c::crc32c(record.data));
    }

    proptest! {
        #[test]
        fn entries_decode_as_prost_decodes_them(
            ty in 0i32..3, term: u64, index: u64, data: Vec<u8>, seed: u32,
        ) {
            use prost::Message;
            let entry = Entry { r#type: ty, term, index, data: Bytes::from(data) };
            let mut buf = Vec::new();
            let crc = put_entry(&mut buf, seed, &entry);
            prop_assert_eq!(buf.len() % 8, 0);
            let (len, padding) = parse_length_word(u64::from_le_bytes(buf[..8].try_into().unwrap()));
            prop_assert_eq!(8 + len + padding, buf.len() as u64);
            let record = Record::parse(&buf[8..8 + len as usize]).unwrap();
            prop_assert_eq!(record.kind, kind::ENTRY);
            prop_assert_eq!(record.crc, crc);
            prop_assert_eq!(crc, crc32c::crc32c_append(seed, record.data));
            prop_assert_eq!(Entry::decode(record.data).unwrap(), entry);
        }

        #[test]
        fn states_decode_as_prost_decodes_them(term: u64, vote: u64, commit: u64) {
            use prost::Message;
            let state = HardState { term, vote, commit };
            let mut buf = Vec::new();
            put_state(&mut buf, 0, &state);
            let (len, _) = parse_length_word(u64::from_le_bytes(buf[..8].try_into().unwrap()));
            let record = Record::parse(&buf[8..8 + len as usize]).unwrap();
            prop_assert_eq!(HardState::decode(record.data).unwrap(), state);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn length_words_survive(len in 0usize..1 << 40) {
            let (word, padding) = length_word(len);
            prop_assert_eq!(parse_length_word(word), (len as u64, padding as u64));
            prop_assert_eq!((len + padding) % 8, 0);
        }
    }
}

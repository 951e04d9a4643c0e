//! Records of bucket `key`: encoded key-value pairs.
//!
//! The encoding is canonical (fields by number, shortest varints, no zero fields): members compare hashes over it.
//! One allocation serves the bucket, the index, the event and the answers to clients.

use api::RawKv;
use bytes::{Buf, Bytes};

use crate::Error;

/// Longest varint of a 64-bit number.
const MAX_VARINT: usize = 10;

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number_len(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + varint_len(number as u64)
    }
}

fn push_number(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        push_varint(out, number as u64);
    }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + varint_len(bytes.len() as u64) + bytes.len()
    }
}

fn push_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        push_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

const KEY: u8 = 0x0a;
const CREATE: u8 = 0x10;
const MOD: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// An encoded record and where its key lies.
pub(crate) struct Encoded {
    /// The whole pair.
    pub kv: RawKv,
    /// The key, sharing the pair's memory.
    pub key: Bytes,
}

/// Encodes a put into an allocation of the exact size.
pub(crate) fn encode_put(
    key: &[u8],
    create: i64,
    modified: i64,
    version: i64,
    value: &[u8],
    lease: i64,
) -> Encoded {
    let size = bytes_len(key)
        + number_len(create)
        + number_len(modified)
        + number_len(version)
        + bytes_len(value)
        + number_len(lease);
    let mut out = Vec::with_capacity(size);
    push_bytes(&mut out, KEY, key);
    let key_end = out.len();
    push_number(&mut out, CREATE, create);
    push_number(&mut out, MOD, modified);
    push_number(&mut out, VERSION, version);
    push_bytes(&mut out, VALUE, value);
    push_number(&mut out, LEASE, lease);
    debug_assert_eq!(out.len(), size, "the size was computed exactly");
    share(out, key.len(), key_end)
}

fn share(out: Vec<u8>, key_len: usize, key_end: usize) -> Encoded {
    let bytes = Bytes::from(out);
    let key = bytes.slice(key_end - key_len..key_end);
    Encoded {
        kv: RawKv::from_encoded(bytes),
        key,
    }
}

/// Encodes a deletion: the event's pair (key and revision), and the stored tombstone (key only), which is its
/// beginning.
pub(crate) fn encode_delete(key: &[u8], modified: i64) -> (Encoded, Bytes) {
    let mut out = Vec::with_capacity(bytes_len(key) + number_len(modified));
    push_bytes(&mut out, KEY, key);
    let key_end = out.len();
    push_number(&mut out, MOD, modified);
    let encoded = share(out, key.len(), key_end);
    let tombstone = encoded.kv.encoded().slice(..key_end);
    (encoded, tombstone)
}

/// The pair without its value.
pub(crate) fn strip_value(kv: &RawKv) -> RawKv {
    let (key, lease) = (kv.key_slice(), kv.lease());
    encode_put(
        key,
        kv.create_revision(),
        kv.mod_revision(),
        kv.version(),
        b"",
        lease,
    )
    .kv
}

/// What the index needs of a stored record. Everything is borrowed or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub key: &'a [u8],
    pub create: i64,
    pub version: i64,
    pub lease: i64,
}

/// Reads a stored record. Fields that are not known are skipped, the last of a repeated field counts.
pub(crate) fn parse(mut rest: &[u8]) -> Result<Parsed<'_>, Error> {
    let mut parsed = Parsed::default();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 2) => parsed.key = chunk(&mut rest)?,
            (2, 0) => parsed.create = varint(&mut rest)? as i64,
            (4, 0) => parsed.version = varint(&mut rest)? as i64,
            (6, 0) => parsed.lease = varint(&mut rest)? as i64,
            (1 | 2 | 4 | 6 | 0, _) => return Err(DAMAGED),
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => skip(&mut rest, 8)?,
            (_, 2) => drop(chunk(&mut rest)?),
            (_, 5) => skip(&mut rest, 4)?,
            _ => return Err(DAMAGED),
        }
    }
    Ok(parsed)
}

const DAMAGED: Error = Error::Damaged("a record that is no key-value pair");

fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut number = 0;
    for (i, byte) in rest.iter().enumerate().take(MAX_VARINT) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            rest.advance(i + 1);
            return Ok(number);
        }
    }
    Err(DAMAGED)
}

fn chunk<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let len = usize::try_from(varint(rest)?).map_err(|_| DAMAGED)?;
    let (bytes, after) = rest.split_at_checked(len).ok_or(DAMAGED)?;
    *rest = after;
    Ok(bytes)
}

fn skip(rest: &mut &[u8], len: usize) -> Result<(), Error> {
    *rest = rest.get(len..).ok_or(DAMAGED)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::mvccpb::KeyValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_put_of_an_empty_store_has_etcds_bytes() {
        let put = encode_put(b"key1", 2, 2, 1, b"val1", 0);
        assert_eq!(
            put.kv.encoded()[..],
            *b"\x0a\x04key1\x10\x02\x18\x02\x20\x01\x2a\x04val1"
        );
        assert_eq!(put.key, "key1");
    }

    #[test]
    fn a_tombstone_holds_the_key_only() {
        let (event, tombstone) = encode_delete(b"key1", 7);
        assert_eq!(tombstone, &b"\x0a\x04key1"[..]);
        assert_eq!(event.kv.mod_revision(), 7);
        assert_eq!(event.key, "key1");
    }

    #[test]
    fn an_empty_record_is_the_empty_key() {
        assert_eq!(parse(b"").unwrap(), Parsed::default());
    }

    proptest! {
        #[test]
        fn records_are_what_protobuf_makes_of_them(
            key in proptest::collection::vec(any::<u8>(), 0..200),
            value in proptest::collection::vec(any::<u8>(), 0..200),
            create in any::<i64>(), modified in any::<i64>(), version in 0..300_i64, lease in any::<i64>(),
        ) {
            let kv = KeyValue {
                key: Bytes::from(key.clone()), create_revision: create, mod_revision: modified, version,
                value: Bytes::from(value.clone()), lease,
            };
            let put = encode_put(&key, create, modified, version, &value, lease);
            prop_assert_eq!(&put.kv, &RawKv::from(&kv));
            prop_assert_eq!(&put.key[..], &key[..]);
            let expected = Parsed { key: &key, create, version, lease };
            prop_assert_eq!(parse(put.kv.encoded()).unwrap(), expected);
            prop_assert_eq!(strip_value(&put.kv).to_kv(), KeyValue { value: Bytes::new(), ..kv });
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}

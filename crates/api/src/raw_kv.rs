//! A key-value pair in the form in which it is stored and sent.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

use crate::mvccpb::KeyValue;

const KEY: u32 = 1;
const CREATE_REVISION: u32 = 2;
const MOD_REVISION: u32 = 3;
const VERSION: u32 = 4;
const VALUE: u32 = 5;
const LEASE: u32 = 6;

/// An encoded [`KeyValue`], shared: what the `key` bucket stores is what a client gets, so a pair goes from the
/// store to the socket without being parsed or copied piece by piece.
///
/// The accessors parse only what they are asked for. Bytes that are not an encoded pair read as zero and empty,
/// like absent fields do; [`RawKv::check`] tells the difference.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RawKv(Bytes);

impl RawKv {
    /// Takes bytes that should be an encoded [`KeyValue`]; they are not looked at.
    pub const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Encodes a pair from its parts without owning them first.
    pub fn encode(
        key: &[u8],
        create: i64,
        modified: i64,
        version: i64,
        value: &[u8],
        lease: i64,
    ) -> Self {
        let mut buffer = BytesMut::with_capacity(key.len() + value.len() + 6 + 5 * 10);
        put_bytes(&mut buffer, KEY, key);
        put_number(&mut buffer, CREATE_REVISION, create);
        put_number(&mut buffer, MOD_REVISION, modified);
        put_number(&mut buffer, VERSION, version);
        put_bytes(&mut buffer, VALUE, value);
        put_number(&mut buffer, LEASE, lease);
        Self(buffer.freeze())
    }

    /// The encoded pair.
    pub const fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Gives the encoded pair away.
    pub fn into_encoded(self) -> Bytes {
        self.0
    }

    /// Whether the bytes are a well-formed message.
    pub fn check(&self) -> Result<(), DecodeError> {
        KeyValue::decode(self.0.clone()).map(drop)
    }

    /// Parses the whole pair; key and value share this pair's memory.
    pub fn to_kv(&self) -> KeyValue {
        KeyValue::decode(self.0.clone()).unwrap_or_default()
    }

    /// The key, sharing memory.
    pub fn key(&self) -> Bytes {
        self.bytes_field(KEY)
    }

    /// The value, sharing memory.
    pub fn value(&self) -> Bytes {
        self.bytes_field(VALUE)
    }

    /// The key, borrowed.
    pub fn key_slice(&self) -> &[u8] {
        self.slice_field(KEY)
    }

    /// The value, borrowed.
    pub fn value_slice(&self) -> &[u8] {
        self.slice_field(VALUE)
    }

    /// Revision of the put that brought the key to life; 0 in a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.number_field(CREATE_REVISION)
    }

    /// Revision of the change this pair describes.
    pub fn mod_revision(&self) -> i64 {
        self.number_field(MOD_REVISION)
    }

    /// Number of puts since the key came to life.
    pub fn version(&self) -> i64 {
        self.number_field(VERSION)
    }

    /// Lease the key is attached to; 0 means none.
    pub fn lease(&self) -> i64 {
        self.number_field(LEASE)
    }

    fn bytes_field(&self, field: u32) -> Bytes {
        self.0.slice_ref(self.slice_field(field))
    }

    fn slice_field(&self, field: u32) -> &[u8] {
        match find(&self.0, field) {
            Some(Field::Bytes(bytes)) => bytes,
            // A subslice, so that `slice_ref` accepts it.
            _ => &self.0[..0],
        }
    }

    fn number_field(&self, field: u32) -> i64 {
        match find(&self.0, field) {
            Some(Field::Number(number)) => number as i64,
            _ => 0,
        }
    }
}

/// A field's content as it lies in the buffer.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The last occurrence of a field, as protobuf wants it. A pair has six fields at most, and long ones are skipped
/// by their length.
fn find(mut rest: &[u8], wanted: u32) -> Option<Field<'_>> {
    let mut found = None;
    while !rest.is_empty() {
        let (tag, field) = next_field(&mut rest)?;
        if tag == wanted {
            found = Some(field);
        }
    }
    found
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Field<'a>)> {
    let (tag, wire) = decode_key(rest).ok()?;
    let field = match wire {
        WireType::Varint => Field::Number(decode_varint(rest).ok()?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Field::Bytes(bytes)
        }
        _ => {
            skip_field(wire, tag, rest, DecodeContext::default()).ok()?;
            Field::Other
        }
    };
    Some((tag, field))
}

fn put_number(buffer: &mut BytesMut, field: u32, number: i64) {
    if number != 0 {
        encode_key(field, WireType::Varint, buffer);
        encode_varint(number as u64, buffer);
    }
}

fn put_bytes(buffer: &mut BytesMut, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        encode_key(field, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.put_slice(bytes);
    }
}

impl From<&KeyValue> for RawKv {
    fn from(kv: &KeyValue) -> Self {
        Self::encode(
            &kv.key,
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            &kv.value,
            kv.lease,
        )
    }
}

impl From<KeyValue> for RawKv {
    fn from(kv: KeyValue) -> Self {
        Self::from(&kv)
    }
}

impl From<RawKv> for KeyValue {
    fn from(raw: RawKv) -> Self {
        raw.to_kv()
    }
}

impl fmt::Debug for RawKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_kv(), f)
    }
}

impl Message for RawKv {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }

    /// Appends the field in wire form. Decoding a canonical message thus gives the same bytes again; a repeated
    /// field stays repeated, and the accessors take its last value.
    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let expected = match tag {
            KEY | VALUE => WireType::LengthDelimited,
            CREATE_REVISION | MOD_REVISION | VERSION | LEASE => WireType::Varint,
            _ => return skip_field(wire, tag, buffer, context),
        };
        prost::encoding::check_wire_type(expected, wire)?;
        let number = decode_varint(buffer)?;
        // Owned alone while a message is being decoded, so this does not copy.
        let mut own = std::mem::take(&mut self.0)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        encode_key(tag, wire, &mut own);
        encode_varint(number, &mut own);
        let result = if expected == WireType::LengthDelimited {
            take_bytes(buffer, number, &mut own)
        } else {
            Ok(())
        };
        self.0 = own.freeze();
        result
    }
}

/// Moves `length` bytes over; refuses lengths beyond what is there before reserving anything.
fn take_bytes(buffer: &mut impl Buf, length: u64, own: &mut BytesMut) -> Result<(), DecodeError> {
    match usize::try_from(length) {
        Ok(length) if length <= buffer.remaining() => {
            own.put(buffer.take(length));
            Ok(())
        }
        // Let prost word the error: a length-delimited field that ends early.
        _ => Bytes::decode(&[0x0a_u8, 0x7f][..]).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcdserverpb::RangeResponse;

    fn any_kv() -> impl Strategy<Value = KeyValue> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let number = || prop_oneof![Just(0_i64), 0..200_i64, any::<i64>()];
        (bytes(), number(), number(), number(), bytes(), number()).prop_map(
            |(key, create_revision, mod_revision, version, value, lease)| KeyValue {
                key,
                create_revision,
                mod_revision,
                version,
                value,
                lease,
            },
        )
    }

    #[test]
    fn first_put_of_an_empty_store_matches_observed_bytes() {
        let raw = RawKv::encode(b"key1", 2, 2, 1, b"val1", 0);
        assert_eq!(
            raw.encoded()[..],
            *b"\x0a\x04key1\x10\x02\x18\x02\x20\x01\x2a\x04val1"
        );
        assert_eq!(raw.key(), "key1");
        assert_eq!(raw.value(), "val1");
    }

    #[test]
    fn fields_out_of_order_or_repeated_take_the_last_value() {
        let raw = RawKv::from_encoded(Bytes::from_static(b"\x18\x09\x0a\x01a\x18\x05\x0a\x01b"));
        assert_eq!(
            (raw.key(), raw.mod_revision()),
            (Bytes::from_static(b"b"), 5)
        );
        assert_eq!(raw.to_kv().key, "b");
    }

    #[test]
    fn a_length_beyond_the_buffer_is_an_error() {
        assert!(RawKv::decode(&b"\x0a\xff\xff\xff\xff\x0fxx"[..]).is_err());
        assert!(RawKv::decode(&b"\x08\x01"[..]).is_err());
    }

    proptest! {
        #[test]
        fn raw_and_parsed_form_agree(kv in any_kv()) {
            let raw = RawKv::from(&kv);
            prop_assert_eq!(&raw.encoded()[..], &kv.encode_to_vec()[..]);
            prop_assert_eq!(raw.to_kv(), kv.clone());
            prop_assert_eq!(raw.key(), &kv.key);
            prop_assert_eq!(raw.value(), &kv.value);
            prop_assert_eq!(raw.create_revision(), kv.create_revision);
            prop_assert_eq!(raw.mod_revision(), kv.mod_revision);
            prop_assert_eq!(raw.version(), kv.version);
            prop_assert_eq!(raw.lease(), kv.lease);
        }

        #[test]
        fn a_response_survives_the_wire(kvs in proptest::collection::vec(any_kv(), 0..5)) {
            let sent = RangeResponse { kvs: kvs.iter().map(RawKv::from).collect(), ..RangeResponse::default() };
            let got = RangeResponse::decode(&sent.encode_to_vec()[..]).unwrap();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = RawKv::decode(&bytes[..]);
            let raw = RawKv::from_encoded(bytes.into());
            let parsed = raw.to_kv();
            if raw.check().is_ok() {
                prop_assert_eq!(raw.key(), parsed.key);
                prop_assert_eq!(raw.mod_revision(), parsed.mod_revision);
                prop_assert_eq!(raw.lease(), parsed.lease);
            }
            let _ = (raw.value(), raw.version(), raw.create_revision());
        }
    }
}

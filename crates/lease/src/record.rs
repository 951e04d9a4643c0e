//! Stored form of a lease: bucket `lease`, key = id as 8 bytes big endian, value = `leasepb.Lease`.

use api::leasepb;
use backend::{Bucket, Writer};
use bytes::Bytes;
use prost::Message;

/// Where lease records go. [`backend::Writer`] is the real one.
pub trait Records {
    /// Stores a record under a key.
    fn put_record(&mut self, key: Bytes, value: Bytes);
    /// Deletes the record of a key.
    fn delete_record(&mut self, key: &[u8]);
}

impl Records for Writer {
    fn put_record(&mut self, key: Bytes, value: Bytes) {
        self.put(Bucket::Lease, key, value);
    }

    fn delete_record(&mut self, key: &[u8]) {
        self.delete(Bucket::Lease, key);
    }
}

/// The key of a lease's record.
pub(crate) fn key(id: i64) -> [u8; 8] {
    id.to_be_bytes()
}

/// The value of a lease's record; times in seconds.
pub(crate) fn encode(id: i64, ttl: i64, remaining_ttl: i64) -> Bytes {
    leasepb::Lease {
        id,
        ttl,
        remaining_ttl,
    }
    .encode_to_vec()
    .into()
}

/// Reads a record back as (id, ttl, remaining ttl); `None` if it is none or lies under another
/// lease's key.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<(i64, i64, i64)> {
    let lease = leasepb::Lease::decode(value).ok()?;
    if key != self::key(lease.id) || lease.id == 0 {
        return None;
    }
    Some((lease.id, lease.ttl, lease.remaining_ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_etcds_bytes() {
        // `etcdctl lease grant` of id 0x1234 with 60 s: field 1 and 2, no third.
        assert_eq!(&encode(0x1234, 60, 0)[..], [0x08, 0xb4, 0x24, 0x10, 0x3c]);
        assert_eq!(&encode(1, 60, 7)[..], [0x08, 0x01, 0x10, 0x3c, 0x18, 0x07]);
        assert_eq!(key(-2), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let value = encode(5, 60, 0);
        assert_eq!(decode(&key(5), &value), Some((5, 60, 0)));
        assert_eq!(decode(&key(6), &value), None);
        assert_eq!(decode(b"", &value), None);
        assert_eq!(decode(&key(5), &[0x08]), None);
        assert_eq!(decode(&key(0), b""), None);
    }
}

//! The parsed form of a key-value pair.

use bytes::Bytes;

/// One revision of a key. See [`crate::RawKv`] for the form in which it is stored and sent.
///
/// Its encoding is canonical (fields by number, no zero fields), which the hashes that members compare rely on.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct KeyValue {
    /// The key; never empty in a stored record.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Revision of the put that brought the key to life; 0 in a tombstone.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// Revision of the change this record describes.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Number of puts since the key came to life, starting at 1; 0 in a tombstone.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// What the client stored.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// Lease the key is attached to; 0 means none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

//! Where in the raft log the content of the database stands.

use bytes::Bytes;

/// Keys of bucket `meta` that only the sealing of a batch writes.
pub(crate) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(crate) const TERM: &[u8] = b"term";
pub(crate) const CONF_STATE: &[u8] = b"confState";
/// Written like any other key, but left out of the maintenance hash.
pub(crate) const STORAGE_VERSION: &[u8] = b"storageVersion";

/// The last raft entry whose effects a state of the database contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry; 0 when unknown (databases older than 3.5 do not say).
    pub term: u64,
}

impl Position {
    /// The records of bucket `meta`. Zeros are not written: index 0 means "never saved" to every reader.
    pub(crate) fn records(self) -> impl Iterator<Item = (&'static [u8], Bytes)> {
        [(CONSISTENT_INDEX, self.index), (TERM, self.term)]
            .into_iter()
            .filter(|(_, number)| *number != 0)
            .map(|(key, number)| (key, Bytes::copy_from_slice(&number.to_be_bytes())))
    }

    /// Reads the records back; `None` if no index was ever saved.
    pub(crate) fn parse(index: Option<&[u8]>, term: Option<&[u8]>) -> Option<Self> {
        let number = |bytes: Option<&[u8]>| {
            bytes
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes)
        };
        let index = number(index).filter(|index| *index != 0)?;
        Some(Self {
            index,
            term: number(term).unwrap_or(0),
        })
    }
}

/// Whether this record may only be written together with a batch's position.
pub(crate) fn is_reserved(bucket: crate::Bucket, key: &[u8]) -> bool {
    bucket == crate::Bucket::Meta && (key == CONSISTENT_INDEX || key == TERM || key == CONF_STATE)
}

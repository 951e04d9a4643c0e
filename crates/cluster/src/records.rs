use std::ops::ControlFlow;

use backend::{Backend, Bucket, Position, View, Writer};
use bytes::Bytes;

pub(crate) const TERM_KEY: &[u8] = b"term";

/// Where records are written; the apply thread's backend writer.
pub trait Records {
    /// Stores a record.
    fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes);
    /// Deletes a record; a missing one is no error.
    fn delete(&mut self, bucket: Bucket, key: &[u8]);
}

/// Reading the backend failed.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Where records are read from at start and after a snapshot.
pub trait Source {
    /// One record.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError>;
    /// All records of a bucket in key order.
    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError>;
}

impl Records for Writer {
    fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        Self::put(self, bucket, key, value);
    }

    fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        Self::delete(self, bucket, key);
    }
}

impl Source for Backend {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        if bucket == Bucket::Meta && key == TERM_KEY {
            return Ok(term_record(self.position()));
        }
        Ok(Self::get(self, bucket, key)?)
    }

    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError> {
        let visit = &mut |key: &[u8], value: &[u8]| {
            visit(key, value);
            ControlFlow::Continue(())
        };
        Ok(Self::for_each(self, bucket, b"", None, visit)?)
    }
}

impl Source for View {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        if bucket == Bucket::Meta && key == TERM_KEY {
            return Ok(term_record(self.position()));
        }
        Ok(Self::get(self, bucket, key)?)
    }

    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError> {
        let visit = &mut |key: &[u8], value: &[u8]| {
            visit(key, value);
            ControlFlow::Continue(())
        };
        Ok(Self::for_each(self, bucket, b"", None, visit)?)
    }
}

/// The term belongs to the position, which a backend keeps apart from its other records.
fn term_record(position: Option<Position>) -> Option<Bytes> {
    position.map(|p| Bytes::copy_from_slice(&p.term.to_be_bytes()))
}

/// Whether an entry's effects still have to reach the backend.
pub enum Persist<'a> {
    /// The entry's index is above the consistent index: write the records.
    Backend(&'a mut dyn Records),
    /// The entry is replayed and its records are already in the backend: only memory follows.
    MemoryOnly,
}

impl Persist<'_> {
    pub(crate) fn put(&mut self, bucket: Bucket, key: String, value: String) {
        if let Self::Backend(records) = self {
            records.put(bucket, Bytes::from(key), Bytes::from(value));
        }
    }

    pub(crate) fn delete(&mut self, bucket: Bucket, key: &str) {
        if let Self::Backend(records) = self {
            records.delete(bucket, key.as_bytes());
        }
    }

    pub(crate) fn is_memory_only(&self) -> bool {
        matches!(self, Self::MemoryOnly)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use super::*;

    /// A backend made of a map.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub(crate) struct MapRecords(pub(crate) BTreeMap<(Bucket, Vec<u8>), Vec<u8>>);

    impl MapRecords {
        pub(crate) fn text(&self, bucket: Bucket, key: &str) -> Option<&str> {
            let value = self.0.get(&(bucket, key.as_bytes().to_vec()))?;
            std::str::from_utf8(value).ok()
        }

        pub(crate) fn set(&mut self, bucket: Bucket, key: &str, value: &[u8]) {
            self.0
                .insert((bucket, key.as_bytes().to_vec()), value.to_vec());
        }
    }

    impl Records for MapRecords {
        fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
            self.0.insert((bucket, key.to_vec()), value.to_vec());
        }

        fn delete(&mut self, bucket: Bucket, key: &[u8]) {
            self.0.remove(&(bucket, key.to_vec()));
        }
    }

    impl Source for MapRecords {
        fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
            Ok(self
                .0
                .get(&(bucket, key.to_vec()))
                .map(|v| Bytes::copy_from_slice(v)))
        }

        fn for_each(
            &self,
            bucket: Bucket,
            visit: &mut dyn FnMut(&[u8], &[u8]),
        ) -> Result<(), SourceError> {
            for ((_, key), value) in self.0.iter().filter(|((b, _), _)| *b == bucket) {
                visit(key, value);
            }
            Ok(())
        }
    }
}

use bytes::Bytes;

/// The backend buckets that membership and versions live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// `cluster`: `clusterVersion`, `downgrade`.
    Cluster,
    /// `members`: hex id → member JSON.
    Members,
    /// `members_removed`: hex id → `removed`.
    MembersRemoved,
    /// `meta`: here only `storageVersion` and `term`.
    Meta,
}

impl Table {
    /// Name of the bucket.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }
}

/// Where records are written; the apply thread's backend writer.
pub trait Records {
    /// Stores a record.
    fn put(&mut self, table: Table, key: Bytes, value: Bytes);
    /// Deletes a record; a missing one is no error.
    fn delete(&mut self, table: Table, key: &[u8]);
}

/// Reading the backend failed.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Where records are read from at start and after a snapshot.
pub trait Source {
    /// One record.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, SourceError>;
    /// All records of a bucket in key order.
    fn for_each(
        &self,
        table: Table,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError>;
}

/// Whether an entry's effects still have to reach the backend.
pub enum Persist<'a> {
    /// The entry's index is above the consistent index: write the records.
    Backend(&'a mut dyn Records),
    /// The entry is replayed and its records are already in the backend: only memory follows.
    MemoryOnly,
}

impl Persist<'_> {
    pub(crate) fn put(&mut self, table: Table, key: String, value: String) {
        if let Self::Backend(records) = self {
            records.put(table, Bytes::from(key), Bytes::from(value));
        }
    }

    pub(crate) fn delete(&mut self, table: Table, key: &str) {
        if let Self::Backend(records) = self {
            records.delete(table, key.as_bytes());
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
    pub(crate) struct MapRecords(pub(crate) BTreeMap<(Table, Vec<u8>), Vec<u8>>);

    impl MapRecords {
        pub(crate) fn text(&self, table: Table, key: &str) -> Option<&str> {
            let value = self.0.get(&(table, key.as_bytes().to_vec()))?;
            std::str::from_utf8(value).ok()
        }

        pub(crate) fn set(&mut self, table: Table, key: &str, value: &[u8]) {
            self.0
                .insert((table, key.as_bytes().to_vec()), value.to_vec());
        }
    }

    impl Records for MapRecords {
        fn put(&mut self, table: Table, key: Bytes, value: Bytes) {
            self.0.insert((table, key.to_vec()), value.to_vec());
        }

        fn delete(&mut self, table: Table, key: &[u8]) {
            self.0.remove(&(table, key.to_vec()));
        }
    }

    impl Source for MapRecords {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
            Ok(self
                .0
                .get(&(table, key.to_vec()))
                .map(|v| Bytes::copy_from_slice(v)))
        }

        fn for_each(
            &self,
            table: Table,
            visit: &mut dyn FnMut(&[u8], &[u8]),
        ) -> Result<(), SourceError> {
            for ((_, key), value) in self.0.iter().filter(|((t, _), _)| *t == table) {
                visit(key, value);
            }
            Ok(())
        }
    }
}

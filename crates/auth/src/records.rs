use std::ops::ControlFlow;

use backend::{Backend, Bucket, View, Writer};
use bytes::Bytes;

/// Where records are written: the apply thread's backend writer.
pub trait Records {
    /// Stores a record.
    fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes);
    /// Deletes a record; a missing one is no error.
    fn delete(&mut self, bucket: Bucket, key: &[u8]);
}

/// Reading the database failed.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Where records are read from, at start and after a snapshot.
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

/// What a database holds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It cannot be read.
    #[error("cannot read users and roles: {0}")]
    Source(#[from] SourceError),
    /// A record is not what etcd writes.
    #[error("record {key:?} in bucket {bucket} is corrupt")]
    Corrupt {
        /// The bucket's name.
        bucket: &'static str,
        /// The record's key, as far as it is text.
        key: String,
    },
}

impl RecoverError {
    pub(crate) fn corrupt(bucket: Bucket, key: &[u8]) -> Self {
        Self::Corrupt {
            bucket: bucket.name(),
            key: String::from_utf8_lossy(key).into_owned(),
        }
    }
}

impl Records for Writer {
    fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        Self::put(self, bucket, key, value);
    }

    fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        Self::delete(self, bucket, key);
    }
}

impl Source for Backend {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(Self::get(self, bucket, key)?)
    }

    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError> {
        Ok(Self::for_each(
            self,
            bucket,
            b"",
            None,
            &mut |key, value| {
                visit(key, value);
                ControlFlow::Continue(())
            },
        )?)
    }
}

impl Source for View {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(Self::get(self, bucket, key)?)
    }

    fn for_each(
        &self,
        bucket: Bucket,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), SourceError> {
        Ok(Self::for_each(
            self,
            bucket,
            b"",
            None,
            &mut |key, value| {
                visit(key, value);
                ControlFlow::Continue(())
            },
        )?)
    }
}

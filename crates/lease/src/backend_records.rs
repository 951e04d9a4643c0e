//! Lease records in the member's database.

use std::ops::ControlFlow;

use backend::{Backend, Bucket, Writer};
use bytes::Bytes;

use crate::error::RecoverError;
use crate::lessor::Lessor;
use crate::record::{self, Records};

impl Records for Writer {
    fn put_record(&mut self, key: Bytes, value: Bytes) {
        self.put(Bucket::Lease, key, value);
    }

    fn delete_record(&mut self, key: &[u8]) {
        self.delete(Bucket::Lease, key);
    }
}

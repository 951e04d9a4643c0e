//! The only place that reads from the file.

use bytes::Bytes;

use crate::{Bucket, Error};

/// Copies a value out of a state of the file. A missing bucket counts as empty, as in etcd.
pub(crate) fn get(tx: &bbolt::ReadTx, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
    let Some(bucket) = tx.bucket(bucket.name().as_bytes())? else {
        return Ok(None);
    };
    Ok(bucket.get(key)?.map(Bytes::copy_from_slice))
}

/// A key and its value.
pub(crate) type Pair<'t> = (&'t [u8], &'t [u8]);

/// Walks a part of a bucket in key order.
pub(crate) struct Scan<'t> {
    cursor: Option<bbolt::Cursor<'t>>,
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
}

impl<'t> Scan<'t> {
    /// From `start` on and before `end`.
    pub fn new(
        tx: &'t bbolt::ReadTx,
        bucket: Bucket,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let cursor = tx
            .bucket(bucket.name().as_bytes())?
            .map(|bucket| bucket.cursor());
        Ok(Self {
            cursor,
            start: Some(start.to_vec()),
            end: end.map(<[u8]>::to_vec),
        })
    }

    /// The next pair. Nested buckets, which etcd never makes, are passed over.
    pub fn next(&mut self) -> Result<Option<Pair<'t>>, Error> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(None);
        };
        loop {
            let item = match self.start.take() {
                Some(start) => cursor.seek(&start)?,
                None => cursor.next()?,
            };
            match item {
                Some((key, _)) if self.end.as_ref().is_some_and(|end| key >= &end[..]) => break,
                Some((key, Some(value))) => return Ok(Some((key, value))),
                Some((_, None)) => {}
                None => break,
            }
        }
        self.cursor = None;
        Ok(None)
    }
}

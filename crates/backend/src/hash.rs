//! The hash of a whole database.

use crate::position::{CONSISTENT_INDEX, STORAGE_VERSION, TERM};
use crate::{Bucket, Error};

/// CRC-32C over the name of each bucket and each key and value, in order. With `skip_local` the records that differ
/// between members of the same content are left out (the maintenance service's hash); without it nothing is (the
/// hash `etcdutl snapshot status` shows).
pub fn hash_database(tx: &bbolt::ReadTx, skip_local: bool) -> Result<u32, Error> {
    let mut crc = 0;
    for name in tx.buckets() {
        let name = name?;
        crc = crc32c::crc32c_append(crc, name);
        let Some(bucket) = tx.bucket(name)? else {
            continue;
        };
        let skips = skip_local && name == Bucket::Meta.name().as_bytes();
        let mut cursor = bucket.cursor();
        let mut item = cursor.first()?;
        while let Some((key, value)) = item {
            if !(skips && is_local(key)) {
                crc = crc32c::crc32c_append(crc, key);
                crc = crc32c::crc32c_append(crc, value.unwrap_or_default());
            }
            item = cursor.next()?;
        }
    }
    Ok(crc)
}

fn is_local(key: &[u8]) -> bool {
    key == CONSISTENT_INDEX || key == TERM || key == STORAGE_VERSION
}

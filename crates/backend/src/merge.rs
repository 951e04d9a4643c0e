//! Walking several layers and the file as if they were one.

use std::iter::Peekable;
use std::ops::ControlFlow;

use crate::file::Scan;
use crate::layer::{Change, Layer};
use crate::{Bucket, Error};

/// Gets key and value; breaking ends the walk.
pub(crate) type Visit<'v, 'f> = &'f mut dyn FnMut(&'v [u8], &'v [u8]) -> ControlFlow<()>;

/// Visits what is in `layers` (newest first) and, below them, in `base`. The newest layer that knows a key decides;
/// deleted keys are not visited.
pub(crate) fn merge<'v>(
    layers: &[&'v Layer],
    base: &'v bbolt::ReadTx,
    bucket: Bucket,
    start: &[u8],
    end: Option<&[u8]>,
    visit: Visit<'v, '_>,
) -> Result<(), Error> {
    let mut file = Scan::new(base, bucket, start, end)?;
    let mut memory: Vec<_> = layers
        .iter()
        .map(|layer| layer.range(bucket, start, end).peekable())
        .filter_map(|mut range| range.peek().is_some().then_some(range))
        .collect();
    let mut stored = file.next()?;
    while let Some(key) = lowest(&mut memory) {
        // Everything in the file before the next change in memory comes first.
        while let Some((k, v)) = stored.filter(|(k, _)| *k < key) {
            if visit(k, v).is_break() {
                return Ok(());
            }
            stored = file.next()?;
        }
        if stored.is_some_and(|(k, _)| k == key) {
            stored = file.next()?;
        }
        if let Some(value) = newest(&mut memory, key)
            && visit(key, value).is_break()
        {
            return Ok(());
        }
    }
    while let Some((k, v)) = stored {
        if visit(k, v).is_break() {
            return Ok(());
        }
        stored = file.next()?;
    }
    Ok(())
}

fn lowest<'a, I>(memory: &mut [Peekable<I>]) -> Option<&'a [u8]>
where
    I: Iterator<Item = (&'a [u8], &'a Change)>,
{
    memory
        .iter_mut()
        .filter_map(|range| range.peek().map(|(key, _)| *key))
        .min()
}

/// Takes `key` out of all layers that have it and gives the newest one's value.
fn newest<'a, I>(memory: &mut [Peekable<I>], key: &[u8]) -> Option<&'a [u8]>
where
    I: Iterator<Item = (&'a [u8], &'a Change)>,
{
    let mut found = None;
    for range in memory {
        if let Some((_, change)) = range.next_if(|(k, _)| *k == key) {
            found = found.or(Some(change));
        }
    }
    found.and_then(|change| change.as_deref())
}

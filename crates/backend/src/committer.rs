//! The thread that brings sealed batches into the file.

use std::sync::Arc;
use std::time::Instant;

use crate::control::Task;
use crate::layers::Batch;
use crate::shared::{Shared, Store};
use crate::{Bucket, Error};

/// Revisions are appended in order and pages of the past hardly change, so they are filled up, as etcd does.
const FILL_PERCENT: f64 = 0.9;

/// Runs until the backend is closed or a commit fails.
pub(crate) fn run(shared: &Shared) {
    let _stopped = Stopped(shared);
    loop {
        match shared.control.next_task(shared.config.batch_interval) {
            Task::Commit { position_too } => {
                if commit(shared, position_too).is_err() {
                    break;
                }
            }
            Task::Stop => {
                let _ = commit(shared, true);
                break;
            }
        }
    }
}

/// Tells waiters that nobody will serve them any more, even if the thread ends by a panic.
struct Stopped<'s>(&'s Shared);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.control.stopped();
    }
}

/// One commit of everything that waits.
fn commit(shared: &Shared, position_too: bool) -> Result<(), Error> {
    let start = Instant::now();
    let (frozen, mark) = shared.layers_mut().take(position_too);
    if !frozen.batches.is_empty() {
        let mut store = shared.store();
        let written = write(&mut store, &frozen.batches);
        let (base, parts) = match written {
            Ok(written) => written,
            Err(error) => return Err(shared.fail(&error)),
        };
        if let Some(rewrite) = &mut store.rewrite {
            rewrite.record(&frozen.batches);
        }
        shared.refresh_sizes(&store.db);
        let replaced = shared.layers_mut().committed(mark, base);
        drop(store);
        if let Some(observer) = &shared.config.observer {
            observer.committed(start.elapsed(), &parts);
        }
        drop((replaced, frozen));
    }
    shared.control.committed(mark);
    Ok(())
}

/// Writes batches, oldest first, in one transaction and opens the state after it.
fn write(
    store: &mut Store,
    batches: &[Arc<Batch>],
) -> Result<(bbolt::ReadTx, bbolt::CommitStats), Error> {
    let mut tx = store.db.write()?;
    for bucket in Bucket::ALL {
        if batches
            .iter()
            .all(|batch| batch.layer.bucket(bucket).is_empty())
        {
            continue;
        }
        let mut target = tx
            .bucket(bucket.name().as_bytes())?
            .ok_or(bbolt::Error::BucketNotFound)?;
        if bucket == Bucket::Key {
            target.set_fill_percent(FILL_PERCENT);
        }
        for batch in batches {
            for (key, change) in batch.layer.bucket(bucket) {
                match change {
                    Some(value) => target.put(key, value)?,
                    None => drop(target.delete(key)?),
                }
            }
        }
    }
    let stats = tx.commit()?;
    Ok((store.db.read()?, stats))
}

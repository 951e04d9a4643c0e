//! Going on with another file's content: a database received from the leader.

use std::path::Path;

use crate::open::{create_buckets, read_position};
use crate::shared::Shared;
use crate::{Error, Position};

/// Lets the file at `path` take the place of the present one. On an error before it did, all stays as it was.
pub(crate) fn run(shared: &Shared, path: &Path) -> Result<Option<Position>, Error> {
    // Neither a rewrite of the old file nor half a compaction may end up in the new one.
    let _exclusive = shared.maintenance();
    let db = bbolt::Db::open(shared.fs.clone(), path, shared.config.bbolt.clone())?;
    create_buckets(&db)?;
    let base = db.read()?;
    let position = read_position(&base)?;
    let mut store = loop {
        let mark = shared.layers().mark();
        shared.control.request(mark, mark);
        shared.control.wait(mark)?;
        // A commit that is under way has batches waiting until it lets go of the store.
        let store = shared.store();
        if shared.layers().nothing_waits() {
            break store;
        }
    };
    shared
        .fs
        .rename(path, shared.path())
        .map_err(|e| Error::io(path, e))?;
    // From here on the old file may be gone after a crash, so there is no way back.
    if let Err(error) = shared.fs.sync_dir(&shared.dir()) {
        return Err(shared.fail(&Error::io(path, error)));
    }
    let old = std::mem::replace(&mut store.db, db);
    shared.set_handle(store.db.clone());
    shared.refresh_sizes(&store.db);
    let (replaced, mark) = shared.layers_mut().replace(base, position);
    drop(store);
    shared.control.committed(mark);
    drop((old, replaced));
    Ok(position)
}

//! Rebuilding the index from the records.
//!
//! Records lie in order of revisions, the index is in order of keys. Threads read parts of the bucket and deal the
//! records out by a hash of the key; then each thread builds the histories of its share of the keys, in order of
//! revisions; at the end the shares are sorted and merged. This goes in rounds, so that only the records of one round
//! are in memory at a time.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use backend::{Backend, Bucket, View};
use bytes::Bytes;

use crate::compaction::{FINISHED, SCHEDULED};
use crate::index::Tree;
use crate::record;
use crate::share::{Dealer, Rebuilt, Record, Share};
use crate::state::State;
use crate::{Error, Revision};

/// Parts of the bucket read in one round, per thread.
const PARTS_PER_THREAD: usize = 4;
/// About so many bytes of the file make a part.
const PART_BYTES: u64 = 8 << 20;
const MAX_PARTS: usize = 1 << 16;
/// More threads than this have nothing to win.
const MAX_THREADS: usize = 8;

/// What the database says about compactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// −1 if there was none.
    pub finished: i64,
    /// −1 if there was none; a new store can be compacted at 0.
    pub scheduled: i64,
}

impl Marks {
    /// The compaction that was cut short.
    pub fn unfinished(self) -> Option<i64> {
        (self.scheduled > self.finished).then_some(self.scheduled)
    }
}

/// A store's content, before it is one.
pub(crate) struct Content {
    pub state: State,
    pub leases: Vec<(i64, Bytes)>,
    pub marks: Marks,
}

/// Reads everything.
pub(crate) fn run(backend: Arc<Backend>, cache: usize) -> Result<Content, Error> {
    let view = backend.view();
    let marks = Marks {
        finished: mark(&view, FINISHED)?.unwrap_or(-1),
        scheduled: mark(&view, SCHEDULED)?.unwrap_or(-1),
    };
    let threads = thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, MAX_THREADS);
    let (shares, last) = read_shares(&view, threads, backend.size())?;
    let (tree, leases, revisions) = merge(shares);
    let current = last.max(1).max(marks.finished).max(marks.scheduled);
    let compacted = marks.unfinished().unwrap_or(marks.finished);
    drop(view);
    if marks.finished >= 0 {
        tracing::info!(
            "meta-bucket-name" = "meta",
            "restored-compact-revision" = marks.finished,
            "restored last compact revision"
        );
    }
    tracing::info!("current-rev" = current, "kvstore restored");
    let mut state = State::new(tree, current, compacted, backend, cache);
    state.revisions = revisions;
    Ok(Content {
        state,
        leases,
        marks,
    })
}

fn mark(view: &View, key: &[u8]) -> Result<Option<i64>, Error> {
    let value = view.get(Bucket::Meta, key)?;
    value
        .map(|value| Revision::parse(&value).map(|(revision, _)| revision.main))
        .transpose()
}

/// A part of the bucket, dealt out.
struct Dealt<'v> {
    shares: Vec<Vec<Record<'v>>>,
    last: i64,
}

/// Reads the whole bucket; gives the keys of each share in order, and the last revision.
fn read_shares(view: &View, threads: usize, size: u64) -> Result<(Vec<Vec<Rebuilt>>, i64), Error> {
    let parts = usize::try_from(size / PART_BYTES)
        .unwrap_or(usize::MAX)
        .clamp(threads, MAX_PARTS);
    let cuts = view.split_keys(Bucket::Key, parts)?;
    let starts: Vec<&[u8]> = std::iter::once(&b""[..])
        .chain(cuts.iter().map(|cut| &cut[..]))
        .collect();
    let dealer = Dealer::new(threads);
    let mut shares: Vec<Share> = (0..threads).map(|_| Share::default()).collect();
    let mut last = 0;
    let mut begin = 0;
    while begin < starts.len() {
        let end = (begin + threads * PARTS_PER_THREAD).min(starts.len());
        let dealt = read_round(view, &starts, begin..end, &dealer)?;
        last = dealt.iter().map(|part| part.last).fold(last, i64::max);
        thread::scope(|scope| {
            for (i, share) in shares.iter_mut().enumerate() {
                let dealt = &dealt;
                scope.spawn(move || dealt.iter().for_each(|part| share.take_in(&part.shares[i])));
            }
        });
        begin = end;
    }
    let sorted = thread::scope(|scope| {
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(|| share.finish()))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Error::Closed))
            .collect::<Result<_, _>>()
    })?;
    Ok((sorted, last))
}

/// Reads some parts with all threads; the results are in the order of the parts.
fn read_round<'v>(
    view: &'v View,
    starts: &[&[u8]],
    parts: Range<usize>,
    dealer: &Dealer,
) -> Result<Vec<Dealt<'v>>, Error> {
    let next = AtomicUsize::new(parts.start);
    let work = || {
        let mut done = Vec::new();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts.end {
                return Ok(done);
            }
            let end = starts.get(part + 1).copied();
            done.push((part, read_part(view, starts[part], end, dealer)?));
        }
    };
    let results: Vec<Result<Vec<_>, Error>> = thread::scope(|scope| {
        let running: Vec<_> = (0..dealer.shares()).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(Error::Closed)))
            .collect()
    });
    let mut dealt = Vec::new();
    for result in results {
        dealt.extend(result?);
    }
    dealt.sort_unstable_by_key(|(part, _)| *part);
    Ok(dealt.into_iter().map(|(_, dealt)| dealt).collect())
}

fn read_part<'v>(
    view: &'v View,
    start: &[u8],
    end: Option<&[u8]>,
    dealer: &Dealer,
) -> Result<Dealt<'v>, Error> {
    let mut dealt = Dealt {
        shares: (0..dealer.shares()).map(|_| Vec::new()).collect(),
        last: 0,
    };
    let mut result = Ok(());
    view.for_each(Bucket::Key, start, end, &mut |key, value| {
        result = read_record(key, value, dealer, &mut dealt);
        if result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    result.map(|()| dealt)
}

fn read_record<'v>(
    key: &[u8],
    value: &'v [u8],
    dealer: &Dealer,
    dealt: &mut Dealt<'v>,
) -> Result<(), Error> {
    let (revision, tombstone) = Revision::parse(key)?;
    let (share, record) = dealer.deal(revision, tombstone, record::parse(value)?);
    dealt.last = dealt.last.max(revision.main);
    dealt.shares[share].push(record);
    Ok(())
}

/// Merges the shares into one tree. Also gives the lease attachments and the number of changes.
fn merge(shares: Vec<Vec<Rebuilt>>) -> (Tree, Vec<(i64, Bytes)>, usize) {
    let mut leases = Vec::new();
    let mut revisions = 0;
    let mut rest: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
    let entries = std::iter::from_fn(|| {
        let heads = rest
            .iter()
            .enumerate()
            .filter_map(|(i, share)| Some((share.as_slice().first()?.entry.key(), i)));
        let (_, lowest) = heads.min()?;
        let Rebuilt { entry, lease, .. } = rest[lowest].next()?;
        if lease != 0 && entry.is_live() {
            leases.push((lease, Bytes::copy_from_slice(entry.key())));
        }
        revisions += entry.len();
        Some(entry)
    });
    let tree = Tree::from_sorted(entries);
    (tree, leases, revisions)
}

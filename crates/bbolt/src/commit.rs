//! Bringing a write transaction to the disk.
#![allow(clippy::disallowed_methods)] // the clock is read for metrics only

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::{File, Map};

use crate::changes::{Changes, ROOT_BUCKET, Root};
use crate::db::{Shared, Writer};
use crate::encode;
use crate::error::{Error, corrupt};
use crate::format::{
    FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, Header, Meta, NO_FREELIST, PAGE_HEADER, PageId,
};
use crate::freelist::Span;
use crate::nodes::Entries;
use crate::open;
use crate::spill::{self, Allocator, Plan};

/// Pages that lie side by side are written together, up to this many bytes.
const WRITE_CHUNK: usize = 1 << 20;

/// A mapping of at most this size makes the file grow to the mapping's size; a larger one lets it grow by
/// this much.
const GROW_STEP: u64 = 16 << 20;

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Number of the state that was committed; that of the state before if there was nothing to commit.
    pub txid: u64,
    /// Time taken for joining small nodes.
    pub rebalance: Duration,
    /// Time taken for cutting nodes and finding pages for them.
    pub spill: Duration,
    /// Time taken for writing pages, without syncs.
    pub write: Duration,
    /// Time taken by syncs.
    pub sync: Duration,
    /// Pages written, the meta page included.
    pub pages: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// What is going to be written, and where.
struct Layout {
    plans: Vec<Plan>,
    took: Vec<Span>,
    freelist: Option<(Span, Vec<PageId>)>,
    meta: Meta,
}

pub(crate) fn commit(
    shared: &Shared,
    writer: &mut Writer,
    base: &Meta,
    changes: &mut Changes,
) -> Result<CommitStats, Error> {
    let mut stats = CommitStats {
        txid: base.txid,
        ..CommitStats::default()
    };
    let page_size = shared.page_size as usize;
    let started = Instant::now();
    spill::rebalance(changes, page_size)?;
    stats.rebalance = started.elapsed();
    let started = Instant::now();
    let mut allocator = Allocator {
        freelist: &mut writer.freelist,
        high_water: base.high_water,
        took: Vec::new(),
    };
    let mut plans = Vec::new();
    let spilled = spill::spill(changes, &mut allocator, page_size, &mut plans);
    let (took, high_water) = (allocator.took, allocator.high_water);
    let mut layout = Layout {
        plans,
        took,
        freelist: None,
        meta: Meta {
            high_water,
            ..*base
        },
    };
    let prepared = spilled.and_then(|changed| {
        if changed {
            lay_out(shared, writer, changes, &mut layout)?;
        }
        Ok(changed)
    });
    stats.spill = started.elapsed();
    let map = match prepared {
        Ok(true) => make_room(shared, writer, base, &layout.meta),
        Ok(false) => return Ok(stats),
        Err(e) => Err(e),
    };
    let map = match map {
        Ok(map) => map,
        Err(e) => {
            undo(writer, base, &layout.took);
            return Err(e);
        }
    };
    if let Err(e) = write(shared, &mut writer.scratch, changes, &layout, &mut stats) {
        // What has reached the disk is not known, and a later sync that succeeds would prove nothing.
        shared.set_poison(&e);
        undo(writer, base, &layout.took);
        return Err(e);
    }
    stats.txid = layout.meta.txid;
    writer.freelist.settle();
    writer.freelist_page = layout.freelist.as_ref().map(|(span, _)| *span);
    shared.publish(
        writer,
        layout.meta,
        map,
        &layout.took,
        &changes.freed,
        stats,
    );
    Ok(stats)
}

/// Gives the allocated pages back.
fn undo(writer: &mut Writer, base: &Meta, took: &[Span]) {
    writer.freelist.settle();
    for span in took.iter().filter(|span| span.start < base.high_water) {
        writer.freelist.insert(*span);
    }
}

/// Decides on the freelist page and the new meta.
fn lay_out(
    shared: &Shared,
    writer: &mut Writer,
    changes: &mut Changes,
    layout: &mut Layout,
) -> Result<(), Error> {
    let Root::Page(root) = changes.buckets[ROOT_BUCKET].root else {
        return Err(corrupt(0, "root bucket without a page"));
    };
    changes.freed.extend(writer.freelist_page);
    if !shared.options.no_freelist_sync {
        let freed: u64 = changes.freed.iter().map(|span| span.len).sum();
        let list = &writer.freelist;
        // Taking pages for the list makes it shorter, never longer. One number more holds its length
        // when that is too large for the header.
        let most = list.free_pages() + list.pending_pages() + freed + 1;
        let bytes = PAGE_HEADER as u64 + 8 * most;
        let mut allocator = Allocator {
            freelist: &mut writer.freelist,
            high_water: layout.meta.high_water,
            took: std::mem::take(&mut layout.took),
        };
        let span = allocator.allocate(bytes.div_ceil(u64::from(shared.page_size)));
        layout.meta.high_water = allocator.high_water;
        layout.took = allocator.took;
        let mut ids = writer.freelist.all();
        ids.extend(changes.freed.iter().flat_map(|span| span.start..span.end()));
        ids.sort_unstable();
        layout.freelist = Some((span, ids));
    }
    layout.meta.root = root;
    layout.meta.sequence = changes.buckets[ROOT_BUCKET].sequence;
    layout.meta.freelist = layout
        .freelist
        .as_ref()
        .map_or(NO_FREELIST, |(span, _)| span.start);
    layout.meta.txid += 1;
    Ok(())
}

/// Makes the file long enough for the new pages, and maps more of it if need be.
fn make_room(
    shared: &Shared,
    writer: &mut Writer,
    base: &Meta,
    meta: &Meta,
) -> Result<Arc<Map>, Error> {
    let (_, map) = shared.committed();
    if meta.high_water == base.high_water {
        return Ok(map);
    }
    // One page more than needed, as bbolt counts: file sizes then come out as its own.
    let target = (meta.high_water + 1) * u64::from(shared.page_size);
    let map_len = map.len() as u64;
    let remap = target > map_len;
    let map_len = if remap {
        open::map_len(&shared.options, target)
    } else {
        map_len
    };
    if target > writer.file_len {
        let len = if map_len <= GROW_STEP {
            map_len
        } else {
            target + GROW_STEP
        };
        let file: &dyn File = shared.file.as_ref();
        file.set_len(len).map_err(Error::io("grow database"))?;
        if !shared.options.no_sync
            && let Err(e) = file.sync_all().map_err(Error::io("sync grown database"))
        {
            shared.set_poison(&e);
            return Err(e);
        }
        writer.file_len = len;
    }
    if remap {
        // Readers keep the mapping that they have; only new ones use this.
        let map = open::map(
            shared.file.as_ref(),
            &shared.options,
            target,
            writer.file_len,
        )?;
        return Ok(Arc::new(map));
    }
    Ok(map)
}

/// Writes the pages, then, after a sync, the meta page that makes them count.
fn write(
    shared: &Shared,
    scratch: &mut Vec<u8>,
    changes: &Changes,
    layout: &Layout,
    stats: &mut CommitStats,
) -> Result<(), Error> {
    let started = Instant::now();
    write_pages(shared, scratch, changes, layout, stats)?;
    stats.write = started.elapsed();
    sync(shared, stats)?;
    let id = layout.meta.txid % 2;
    let page = layout.meta.encode_page(id);
    let started = Instant::now();
    let offset = id * u64::from(shared.page_size);
    shared
        .file
        .write_all_at(&page, offset)
        .map_err(Error::io("write meta page"))?;
    stats.write += started.elapsed();
    stats.pages += 1;
    stats.bytes += page.len() as u64;
    sync(shared, stats)
}

fn sync(shared: &Shared, stats: &mut CommitStats) -> Result<(), Error> {
    if shared.options.no_sync {
        return Ok(());
    }
    let started = Instant::now();
    shared
        .file
        .sync_data()
        .map_err(Error::io("sync database"))?;
    stats.sync += started.elapsed();
    Ok(())
}

fn write_pages(
    shared: &Shared,
    scratch: &mut Vec<u8>,
    changes: &Changes,
    layout: &Layout,
    stats: &mut CommitStats,
) -> Result<(), Error> {
    let page_size = shared.page_size as usize;
    let mut out = Run {
        shared,
        buf: scratch,
        used: 0,
        start: 0,
        stats,
    };
    let mut order: Vec<&Plan> = layout.plans.iter().collect();
    order.sort_unstable_by_key(|plan| plan.span.start);
    for plan in order {
        let page = out.room(plan.span, page_size)?;
        encode_plan(changes, plan, page)?;
    }
    if let Some((span, ids)) = &layout.freelist {
        let page = out.room(*span, page_size)?;
        encode_freelist(*span, ids, page)?;
    }
    out.flush()
}

/// Consecutive pages that are written together.
struct Run<'a> {
    shared: &'a Shared,
    /// Longer than what is used of it; kept from commit to commit.
    buf: &'a mut Vec<u8>,
    used: usize,
    start: PageId,
    stats: &'a mut CommitStats,
}

impl Run<'_> {
    /// Room for the pages of a span, behind those of the run if they are neighbours. All of it must be
    /// overwritten.
    fn room(&mut self, span: Span, page_size: usize) -> Result<&mut [u8], Error> {
        let len = span.len as usize * page_size;
        let next = self.start + (self.used / page_size) as u64;
        if span.start != next || self.used + len > WRITE_CHUNK {
            self.flush()?;
            self.start = span.start;
        }
        let at = self.used;
        self.used += len;
        if self.buf.len() < self.used {
            self.buf.resize(self.used, 0);
        }
        self.stats.pages += span.len;
        Ok(&mut self.buf[at..self.used])
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.used == 0 {
            return Ok(());
        }
        let offset = self.start * u64::from(self.shared.page_size);
        let bytes = &self.buf[..self.used];
        self.shared
            .file
            .write_all_at(bytes, offset)
            .map_err(Error::io("write pages"))?;
        self.stats.bytes += self.used as u64;
        self.used = 0;
        Ok(())
    }
}

impl Drop for Run<'_> {
    /// One big value must not make the buffer big for ever.
    fn drop(&mut self) {
        if self.buf.len() > WRITE_CHUNK {
            self.buf.truncate(WRITE_CHUNK);
            self.buf.shrink_to_fit();
        }
    }
}

fn encode_plan(changes: &Changes, plan: &Plan, page: &mut [u8]) -> Result<(), Error> {
    let space = changes.space();
    let (start, end) = (plan.start, plan.end);
    let header = |flags| Header {
        id: plan.span.start,
        flags,
        count: (end - start) as u16,
        overflow: (plan.span.len - 1) as u32,
    };
    match &changes.nodes.get(plan.node).entries {
        Entries::Leaf(entries) => {
            encode::leaf(&space, &entries[start..end], header(FLAG_LEAF), page)
        }
        Entries::Branch(entries) => {
            encode::branch(&space, &entries[start..end], header(FLAG_BRANCH), page)
        }
    }
}

fn encode_freelist(span: Span, ids: &[PageId], page: &mut [u8]) -> Result<(), Error> {
    let long = ids.len() >= 0xFFFF;
    let count = if long { 0xFFFF } else { ids.len() as u16 };
    let overflow = (span.len - 1) as u32;
    Header {
        id: span.start,
        flags: FLAG_FREELIST,
        count,
        overflow,
    }
    .encode(page);
    let length = long.then_some(ids.len() as u64);
    let mut words = page[PAGE_HEADER..].chunks_exact_mut(8);
    for id in length.iter().chain(ids) {
        let word = words
            .next()
            .ok_or(corrupt(span.start, "freelist longer than planned"))?;
        word.copy_from_slice(&id.to_le_bytes());
    }
    words.for_each(|word| word.fill(0));
    Ok(())
}

//! Finding the pages that a state of the file uses, before anything is written to the others.

use crate::error::{Error, corrupt};
use crate::format::{
    BUCKET_HEADER, BucketHeader, ELEMENT_BUCKET, FLAG_FREELIST, Meta, NO_FREELIST, PageId,
};
use crate::freelist::{Freelist, Span};
use crate::page::Page;
use crate::space::Space;

/// A set of page numbers.
#[derive(Debug)]
pub(crate) struct PageSet {
    bits: Vec<u64>,
    len: PageId,
}

impl PageSet {
    /// A set for pages below `len`. The caller has checked that the file has that many.
    pub(crate) fn new(len: PageId) -> Self {
        Self {
            bits: vec![0; (len as usize).div_ceil(64)],
            len,
        }
    }

    pub(crate) fn contains(&self, id: PageId) -> bool {
        id < self.len && self.bits[(id / 64) as usize] >> (id % 64) & 1 == 1
    }

    /// Adds a page; false if it is there already or out of bounds.
    pub(crate) fn insert(&mut self, id: PageId) -> bool {
        if id >= self.len || self.contains(id) {
            return false;
        }
        self.bits[(id / 64) as usize] |= 1 << (id % 64);
        true
    }

    /// The pages from `from` on that are not in the set.
    pub(crate) fn gaps(&self, from: PageId) -> Vec<Span> {
        let mut gaps: Vec<Span> = Vec::new();
        let mut id = from;
        while id < self.len {
            // Whole words of used pages are passed over at once.
            if id.is_multiple_of(64) && self.bits[(id / 64) as usize] == u64::MAX {
                id += 64;
                continue;
            }
            if !self.contains(id) {
                match gaps.last_mut() {
                    Some(last) if last.end() == id => last.len += 1,
                    _ => gaps.push(Span { start: id, len: 1 }),
                }
            }
            id += 1;
        }
        gaps
    }
}

/// What an opener for writing learns about the file.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) freelist: Freelist,
    /// The pages of a persisted list of free pages, which the next commit gives up.
    pub(crate) freelist_page: Option<Span>,
}

/// Visits every page of the state and works out the free ones. A persisted freelist is not believed:
/// writing to a page that it wrongly calls free would destroy data.
///
/// Fails when a page is reached twice, lies out of bounds or is of the wrong kind.
pub(crate) fn inventory(space: Space<'_>, meta: &Meta) -> Result<Inventory, Error> {
    let mut used = PageSet::new(space.high_water());
    let mut freelist_page = None;
    if meta.freelist != NO_FREELIST {
        let header = space.header(meta.freelist)?;
        if header.flags != FLAG_FREELIST {
            return Err(corrupt(meta.freelist, "invalid type: not a freelist"));
        }
        let span = Span {
            start: header.id,
            len: u64::from(header.overflow) + 1,
        };
        mark(&mut used, span)?;
        freelist_page = Some(span);
    }
    // In a sound file no page is in here twice, so its length is bounded by the number of pages.
    let mut todo = vec![meta.root];
    while let Some(id) = todo.pop() {
        let page = space.page(id)?;
        mark(
            &mut used,
            Span {
                start: id,
                len: (page.len() / space.page_size()) as u64,
            },
        )?;
        if page.is_leaf() {
            nested_roots(&page, &mut todo)?;
            continue;
        }
        if page.count() == 0 {
            return Err(corrupt(id, "branch without children"));
        }
        for i in (0..page.count()).rev() {
            todo.push(page.child(i)?);
        }
        if todo.len() as u64 > space.high_water() {
            return Err(corrupt(id, "multiple references"));
        }
    }
    let mut freelist = Freelist::default();
    for gap in used.gaps(2) {
        freelist.insert(gap);
    }
    Ok(Inventory {
        freelist,
        freelist_page,
    })
}

fn mark(used: &mut PageSet, span: Span) -> Result<(), Error> {
    for id in span.start..span.end() {
        if !used.insert(id) {
            return Err(corrupt(id, "multiple references"));
        }
    }
    Ok(())
}

/// Collects the root pages of the buckets in a leaf.
fn nested_roots(page: &Page<'_>, roots: &mut Vec<PageId>) -> Result<(), Error> {
    for i in 0..page.count() {
        if page.flags(i)? & ELEMENT_BUCKET == 0 {
            continue;
        }
        let element = page.element(i)?;
        let header = BucketHeader::decode(element.value)
            .ok_or(corrupt(page.id(), "bucket value shorter than its header"))?;
        if header.root != 0 {
            roots.push(header.root);
            continue;
        }
        let inline = Page::inline(&element.value[BUCKET_HEADER..], element.place)?;
        for j in 0..inline.count() {
            if inline.flags(j)? & ELEMENT_BUCKET != 0 {
                return Err(corrupt(page.id(), "bucket inside of an inline bucket"));
            }
        }
    }
    Ok(())
}

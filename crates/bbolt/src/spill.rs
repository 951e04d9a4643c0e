//! From changed nodes to pages: merging what became too small, cutting what became too big, and finding
//! a place in the file for each piece. Nothing is written here.

use crate::changes::{BucketId, Changes, ROOT_BUCKET, Root};
use crate::encode;
use crate::error::{Error, corrupt};
use crate::format::{
    BUCKET_HEADER, BucketHeader, ELEMENT, ELEMENT_BUCKET, MAX_DEPTH, MAX_ELEMENTS, PAGE_HEADER,
    PageId,
};
use crate::freelist::{Freelist, Span};
use crate::nodes::{BranchEntry, Child, Entries, Node, NodeId};
use crate::page::Place;

/// A piece of a node that becomes a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) span: Span,
    pub(crate) node: NodeId,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Gives out pages: free ones, then new ones at the end.
#[derive(Debug)]
pub(crate) struct Allocator<'f> {
    pub(crate) freelist: &'f mut Freelist,
    pub(crate) high_water: PageId,
    pub(crate) took: Vec<Span>,
}

impl Allocator<'_> {
    pub(crate) fn allocate(&mut self, len: u64) -> Span {
        let start = self.freelist.allocate(len).unwrap_or_else(|| {
            let start = self.high_water;
            self.high_water += len;
            start
        });
        let span = Span { start, len };
        self.took.push(span);
        span
    }
}

/// Merges small nodes in all changed buckets; the first of the two steps.
pub(crate) fn rebalance(changes: &mut Changes, page_size: usize) -> Result<(), Error> {
    for id in changes.live_buckets() {
        // Nodes are about to be joined; the leaf that was used last may be no more.
        changes.forget_hint(id);
        let Root::Node(mut root) = changes.buckets[id].root else {
            continue;
        };
        Merger { changes, page_size }.settle(root, 0)?;
        // A root with one child is not needed.
        while let Entries::Branch(entries) = &changes.nodes.get(root).entries {
            match entries.as_slice() {
                [] => changes.nodes.get_mut(root).entries = Entries::Leaf(Vec::new()),
                [only] => match only.child {
                    Child::Node(node) => {
                        root = node;
                        changes.buckets[id].root = Root::Node(node);
                    }
                    Child::Page(page) => {
                        changes.buckets[id].root = Root::Page(page);
                        break;
                    }
                },
                _ => break,
            }
        }
    }
    Ok(())
}

struct Merger<'t> {
    changes: &'t mut Changes,
    page_size: usize,
}

impl Merger<'_> {
    /// Removes emptied nodes below `node` and joins those that became small with a neighbour.
    fn settle(&mut self, node: NodeId, depth: usize) -> Result<(), Error> {
        if self.changes.nodes.get(node).is_leaf() {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(corrupt(0, "tree too deep"));
        }
        let entries = std::mem::take(self.changes.nodes.branch_mut(node)?);
        let before = entries.len();
        let mut kept: Vec<BranchEntry> = Vec::with_capacity(before);
        // The last one kept is small: the next one is joined to it, whatever its size.
        let mut hungry = false;
        for entry in entries {
            let Child::Node(child) = entry.child else {
                if hungry {
                    self.join(&mut kept, entry)?;
                    hungry = self.last_is_small(&kept);
                } else {
                    kept.push(entry);
                }
                continue;
            };
            self.settle(child, depth + 1)?;
            if self.changes.nodes.get(child).len() == 0 {
                continue;
            }
            let small = self.is_small(child);
            if !kept.is_empty() && (small || hungry) {
                self.join(&mut kept, entry)?;
            } else {
                kept.push(entry);
            }
            hungry = self.last_is_small(&kept);
        }
        let shrunk = kept.len() < before;
        let node = self.changes.nodes.get_mut(node);
        node.entries = Entries::Branch(kept);
        node.shrunk |= shrunk;
        Ok(())
    }

    /// Whether something was removed from a node and it should not stay alone.
    fn is_small(&self, node: NodeId) -> bool {
        let node = self.changes.nodes.get(node);
        let least = if node.is_leaf() { 1 } else { 2 };
        let limit = self.page_size / 4;
        node.shrunk && (node.len() < least || size_of(&node.entries, limit) <= limit)
    }

    fn last_is_small(&self, kept: &[BranchEntry]) -> bool {
        matches!(kept.last(), Some(BranchEntry { child: Child::Node(node), .. }) if self.is_small(*node))
    }

    /// Appends a child's elements to the last one kept.
    fn join(&mut self, kept: &mut [BranchEntry], entry: BranchEntry) -> Result<(), Error> {
        let Some(last) = kept.last_mut() else {
            return Ok(());
        };
        let left = self.own(last.child)?;
        last.child = Child::Node(left);
        let right = self.own(entry.child)?;
        let moved = std::mem::replace(
            &mut self.changes.nodes.get_mut(right).entries,
            Entries::Leaf(Vec::new()),
        );
        let left = self.changes.nodes.get_mut(left);
        left.shrunk = true;
        match (&mut left.entries, moved) {
            (Entries::Leaf(left), Entries::Leaf(right)) => left.extend(right),
            (Entries::Branch(left), Entries::Branch(right)) => left.extend(right),
            _ => return Err(corrupt(0, "children of different kinds")),
        }
        Ok(())
    }

    fn own(&mut self, child: Child) -> Result<NodeId, Error> {
        match child {
            Child::Node(node) => Ok(node),
            Child::Page(page) => self.changes.own_page(page),
        }
    }
}

/// Bytes of a page with these elements; counting stops when `limit` is passed.
fn size_of(entries: &Entries, limit: usize) -> usize {
    let mut size = PAGE_HEADER;
    match entries {
        Entries::Leaf(entries) => {
            for entry in entries {
                size += ELEMENT + entry.key_len as usize + entry.value_len as usize;
                if size > limit {
                    break;
                }
            }
        }
        Entries::Branch(entries) => {
            for entry in entries {
                size += ELEMENT + entry.key_len as usize;
                if size > limit {
                    break;
                }
            }
        }
    }
    size
}

/// Plans the pages of all changed nodes; the second step. Returns false if nothing has changed.
pub(crate) fn spill(
    changes: &mut Changes,
    allocator: &mut Allocator<'_>,
    page_size: usize,
    plans: &mut Vec<Plan>,
) -> Result<bool, Error> {
    Spiller {
        changes,
        allocator,
        page_size,
        plans,
    }
    .bucket(ROOT_BUCKET)
}

struct Spiller<'t, 'f> {
    changes: &'t mut Changes,
    allocator: &'t mut Allocator<'f>,
    page_size: usize,
    plans: &'t mut Vec<Plan>,
}

impl Spiller<'_, '_> {
    /// Plans a bucket after the buckets in it, whose values it holds.
    fn bucket(&mut self, id: BucketId) -> Result<bool, Error> {
        let children = std::mem::take(&mut self.changes.buckets[id].children);
        for (name, child) in &children {
            if self.bucket(*child)? {
                let value = self.bucket_value(*child)?;
                self.changes.put_element(id, name, &value, ELEMENT_BUCKET)?;
            }
        }
        self.changes.buckets[id].children = children;
        let state = &self.changes.buckets[id];
        if !state.dirty {
            return Ok(false);
        }
        if let Root::Node(root) = state.root
            && (id == ROOT_BUCKET || !self.fits_inline(root))
        {
            let fill = state.fill_percent;
            let page = self.root(root, fill)?;
            self.changes.buckets[id].root = Root::Page(page);
        }
        Ok(true)
    }

    /// Whether a bucket consists of one small leaf without buckets in it.
    fn fits_inline(&self, root: NodeId) -> bool {
        let limit = self.page_size / 4;
        let node = self.changes.nodes.get(root);
        match &node.entries {
            Entries::Leaf(entries) => {
                size_of(&node.entries, limit) <= limit
                    && entries.iter().all(|e| e.flags & ELEMENT_BUCKET == 0)
            }
            Entries::Branch(_) => false,
        }
    }

    /// The value that stands for a bucket in the bucket around it.
    fn bucket_value(&self, id: BucketId) -> Result<Vec<u8>, Error> {
        let state = &self.changes.buckets[id];
        let page = if let Root::Page(page) = state.root {
            page
        } else {
            0
        };
        let mut value = BucketHeader {
            root: page,
            sequence: state.sequence,
        }
        .encode()
        .to_vec();
        match state.root {
            Root::Page(_) => {}
            Root::Inline(place, len) => {
                value.extend_from_slice(self.changes.space().bytes(place, len));
            }
            Root::Node(node) => {
                let entries = &self.changes.nodes.get(node).entries;
                let Entries::Leaf(leaf) = entries else {
                    return Err(corrupt(0, "branch in an inline bucket"));
                };
                value.resize(BUCKET_HEADER + size_of(entries, usize::MAX), 0);
                encode::inline(&self.changes.space(), leaf, &mut value[BUCKET_HEADER..])?;
            }
        }
        Ok(value)
    }

    /// Plans a tree; returns its root page. Cutting the root makes a new one above the pieces.
    fn root(&mut self, mut node: NodeId, fill: f64) -> Result<PageId, Error> {
        loop {
            let pieces = self.node(node, fill)?;
            match pieces.as_slice() {
                [] => return Err(corrupt(0, "node without pages")),
                [
                    BranchEntry {
                        child: Child::Page(page),
                        ..
                    },
                ] => return Ok(*page),
                _ => {}
            }
            node = self.changes.nodes.add(Node {
                entries: Entries::Branch(pieces),
                shrunk: false,
            });
        }
    }

    /// Plans a node after its children; returns what stands for it in its parent. The key of a page in
    /// its parent must be its first key, byte for byte: bbolt finds the parent's element by it.
    fn node(&mut self, node: NodeId, fill: f64) -> Result<Vec<BranchEntry>, Error> {
        if !self.changes.nodes.get(node).is_leaf() {
            let entries = std::mem::take(self.changes.nodes.branch_mut(node)?);
            let mut planned = Vec::with_capacity(entries.len());
            for entry in entries {
                match entry.child {
                    Child::Page(_) => planned.push(entry),
                    Child::Node(child) => planned.extend(self.node(child, fill)?),
                }
            }
            *self.changes.nodes.branch_mut(node)? = planned;
        }
        let entries = &self.changes.nodes.get(node).entries;
        let mut pieces = Vec::new();
        let mut start = 0;
        for (end, size) in cut(entries, self.page_size, fill) {
            let (place, key_len) = first_key(entries, start);
            let span = self
                .allocator
                .allocate(size.div_ceil(self.page_size) as u64);
            self.plans.push(Plan {
                span,
                node,
                start,
                end,
            });
            pieces.push(BranchEntry {
                place,
                key_len,
                child: Child::Page(span.start),
            });
            start = end;
        }
        Ok(pieces)
    }
}

/// The key that stands for the elements from `start` on; an empty root has none, and no parent either.
fn first_key(entries: &Entries, start: usize) -> (Place, u32) {
    let none = (
        Place {
            chunk: 0,
            offset: 0,
        },
        0,
    );
    match entries {
        Entries::Leaf(entries) => entries.get(start).map_or(none, |e| (e.place, e.key_len)),
        Entries::Branch(entries) => entries.get(start).map_or(none, |e| (e.place, e.key_len)),
    }
}

/// Where to cut a node: for each piece its end and its size in bytes.
fn cut(entries: &Entries, page_size: usize, fill: f64) -> Vec<(usize, usize)> {
    match entries {
        Entries::Leaf(entries) => {
            let size = |i: usize| ELEMENT + (entries[i].key_len + entries[i].value_len) as usize;
            cut_by(entries.len(), size, page_size, fill, 1)
        }
        Entries::Branch(entries) => cut_by(
            entries.len(),
            |i| ELEMENT + entries[i].key_len as usize,
            page_size,
            fill,
            2,
        ),
    }
}

/// A leaf with fewer bytes than this many pages gets a second element even if that needs more pages:
/// alone, elements of a bit more than a page would waste nearly half of their space.
const LONE_ELEMENT_PAGES: usize = 4;

/// Cuts `count` elements into pieces that fill `fill` of a page, until the rest fits into one page. A
/// piece has at least `least` elements (1 or 2; 2 makes a tree narrower upwards) if there are as many.
fn cut_by(
    count: usize,
    size: impl Fn(usize) -> usize,
    page_size: usize,
    fill: f64,
    least: usize,
) -> Vec<(usize, usize)> {
    let limit = (page_size as f64 * fill.clamp(0.1, 1.0)) as usize;
    let mut rest: usize = PAGE_HEADER + (0..count).map(&size).sum::<usize>();
    let mut pieces = Vec::new();
    let mut start = 0;
    while start + least < count && (rest > page_size || count - start > MAX_ELEMENTS) {
        let (mut end, mut used) = (start + 1, PAGE_HEADER + size(start));
        while end < count && end - start < MAX_ELEMENTS {
            let full = if end - start == 1 {
                least == 1 && used >= LONE_ELEMENT_PAGES * page_size
            } else {
                used + size(end) > limit
            };
            if full {
                break;
            }
            used += size(end);
            end += 1;
        }
        if end < count && count - end < least {
            if end - start > least {
                end -= 1;
                used -= size(end);
            } else {
                break;
            }
        }
        if end == count {
            break;
        }
        pieces.push((end, used));
        rest -= used - PAGE_HEADER;
        start = end;
    }
    pieces.push((count, rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(sizes: &[usize], fill: f64, least: usize) -> Vec<usize> {
        let pieces = cut_by(sizes.len(), |i| sizes[i], 4096, fill, least);
        let mut start = 0;
        let mut out = Vec::new();
        for (end, size) in pieces {
            assert_eq!(size, PAGE_HEADER + sizes[start..end].iter().sum::<usize>());
            out.push(end - start);
            start = end;
        }
        assert_eq!(start, sizes.len());
        out
    }

    #[test]
    fn what_fits_into_a_page_is_not_cut() {
        assert_eq!(lens(&[], 0.5, 1), [0]);
        assert_eq!(lens(&[1020; 4], 0.1, 1), [4]);
    }

    #[test]
    fn pieces_are_filled_as_asked_until_the_rest_fits() {
        assert_eq!(lens(&[102; 41], 0.5, 1), [19, 22]);
        assert_eq!(lens(&[102; 100], 0.9, 1), [35, 35, 30]);
        assert_eq!(lens(&[102; 100], 1.0, 2), [40, 40, 20]);
    }

    #[test]
    fn big_elements_stand_alone_and_middling_ones_in_pairs() {
        assert_eq!(lens(&[20_000; 3], 0.5, 1), [1, 1, 1]);
        assert_eq!(lens(&[5_000; 5], 0.5, 1), [2, 2, 1]);
        assert_eq!(lens(&[100_000], 0.5, 1), [1]);
    }

    #[test]
    fn no_branch_is_left_with_one_child() {
        assert_eq!(lens(&[2_000; 5], 0.5, 2), [2, 3]);
        assert_eq!(lens(&[1_000; 7], 1.0, 2), [4, 3]);
        assert_eq!(lens(&[1_360; 4], 1.0, 2), [2, 2]);
        assert_eq!(lens(&[30_000; 3], 0.5, 2), [3]);
        assert_eq!(lens(&[30_000; 2], 0.5, 2), [2]);
    }
}

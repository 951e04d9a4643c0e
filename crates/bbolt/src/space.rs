//! The one place that turns the mapping into slices.

use disk::Map;

use crate::error::{Error, corrupt};
use crate::format::{Header, PAGE_HEADER, PageId};
use crate::nodes::{Child, Entries, NodeId, Nodes};
use crate::page::{Element, Page, Place};

/// Everything a transaction can see: the pages of its state of the file and, in a write transaction,
/// the nodes it has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space<'a> {
    map: &'a Map,
    page_size: u64,
    high_water: PageId,
    nodes: Option<&'a Nodes>,
}

/// Which node of the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeRef<'a> {
    /// A page of the file.
    Page(PageId),
    /// A changed node.
    Node(NodeId),
    /// The page image inside of an inline bucket's value.
    Inline(Page<'a>),
}

impl From<Child> for NodeRef<'_> {
    fn from(child: Child) -> Self {
        match child {
            Child::Page(id) => NodeRef::Page(id),
            Child::Node(id) => NodeRef::Node(id),
        }
    }
}

impl<'a> Space<'a> {
    /// Views the state of the file whose pages are below `high_water`.
    ///
    /// # Safety
    ///
    /// For all of `'a`
    ///
    /// * the file is at least `high_water * page_size` bytes long, and
    /// * no page that can be reached from the roots handed to this space is written. For a transaction
    ///   this holds while it is registered (read) or open (write): the commit writes only pages that no
    ///   open transaction's state contains, and the tree was walked when the file was opened for
    ///   writing, so that no page can be both in the tree and free.
    pub(crate) unsafe fn new(
        map: &'a Map,
        page_size: u32,
        high_water: PageId,
        nodes: Option<&'a Nodes>,
    ) -> Space<'a> {
        Space {
            map,
            page_size: u64::from(page_size),
            high_water,
            nodes,
        }
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size as usize
    }

    pub(crate) fn high_water(&self) -> PageId {
        self.high_water
    }

    /// Bytes of the file. The range is checked against the mapping and the high-water mark.
    fn mapped(&self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let end = offset.checked_add(len)?;
        let limit = self
            .high_water
            .checked_mul(self.page_size)?
            .min(self.map.len() as u64);
        if end > limit {
            return None;
        }
        // SAFETY: the range lies inside the mapping and, being below the high-water mark, inside the
        // file, so reading it cannot fault. It belongs to a page reached from this space's root, which
        // by the contract of `new` is not written during `'a`.
        Some(unsafe {
            std::slice::from_raw_parts(self.map.as_ptr().add(offset as usize), len as usize)
        })
    }

    /// Header of page `id`, which must name itself.
    pub(crate) fn header(&self, id: PageId) -> Result<Header, Error> {
        if id < 2 || id >= self.high_water {
            return Err(corrupt(id, "out of bounds"));
        }
        let header = self
            .mapped(id * self.page_size, PAGE_HEADER as u64)
            .and_then(Header::decode)
            .ok_or(corrupt(id, "out of bounds"))?;
        if header.id != id {
            return Err(corrupt(id, "page identifies itself as another one"));
        }
        if u64::from(header.overflow) >= self.high_water - id {
            return Err(corrupt(id, "overflow out of bounds"));
        }
        Ok(header)
    }

    /// Bytes of the page with this header, overflow included.
    pub(crate) fn run(&self, header: Header) -> Result<&'a [u8], Error> {
        let pages = u64::from(header.overflow) + 1;
        self.mapped(header.id * self.page_size, pages * self.page_size)
            .ok_or(corrupt(header.id, "out of bounds"))
    }

    /// Branch or leaf page `id`.
    pub(crate) fn page(&self, id: PageId) -> Result<Page<'a>, Error> {
        let header = self.header(id)?;
        let place = Place {
            chunk: 0,
            offset: id * self.page_size,
        };
        Page::new(self.run(header)?, place, header)
    }

    /// Bytes at a place that came out of this space.
    pub(crate) fn bytes(&self, place: Place, len: usize) -> &'a [u8] {
        match (place.chunk, self.nodes) {
            (0, _) => self.mapped(place.offset, len as u64).unwrap_or(&[]),
            (_, Some(nodes)) => nodes.arena.get(place, len),
            (_, None) => &[],
        }
    }

    pub(crate) fn view(&self, node: NodeRef<'a>) -> Result<View<'a>, Error> {
        match (node, self.nodes) {
            (NodeRef::Page(id), _) => Ok(View::Page(self.page(id)?)),
            (NodeRef::Inline(page), _) => Ok(View::Page(page)),
            (NodeRef::Node(id), Some(nodes)) => Ok(View::Node(*self, &nodes.get(id).entries)),
            (NodeRef::Node(_), None) => Err(corrupt(0, "changed node in a read transaction")),
        }
    }
}

/// A node of the tree, wherever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    Page(Page<'a>),
    Node(Space<'a>, &'a Entries),
}

impl<'a> View<'a> {
    pub(crate) fn count(&self) -> usize {
        match self {
            View::Page(page) => page.count(),
            View::Node(_, Entries::Leaf(entries)) => entries.len(),
            View::Node(_, Entries::Branch(entries)) => entries.len(),
        }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        match self {
            View::Page(page) => page.is_leaf(),
            View::Node(_, entries) => matches!(entries, Entries::Leaf(_)),
        }
    }

    /// Number of the page, 0 for a changed node.
    pub(crate) fn page_id(&self) -> PageId {
        match self {
            View::Page(page) => page.id(),
            View::Node(..) => 0,
        }
    }

    pub(crate) fn key(&self, index: usize) -> Result<&'a [u8], Error> {
        let (space, place, len) = match self {
            View::Page(page) => return Ok(page.key(index)?.0),
            View::Node(space, Entries::Leaf(entries)) => {
                (space, entries[index].place, entries[index].key_len)
            }
            View::Node(space, Entries::Branch(entries)) => {
                (space, entries[index].place, entries[index].key_len)
            }
        };
        Ok(space.bytes(place, len as usize))
    }

    pub(crate) fn child(&self, index: usize) -> Result<NodeRef<'a>, Error> {
        match self {
            View::Page(page) => Ok(NodeRef::Page(page.child(index)?)),
            View::Node(_, Entries::Branch(entries)) => Ok(entries[index].child.into()),
            View::Node(_, Entries::Leaf(_)) => Err(corrupt(0, "leaf in the place of a branch")),
        }
    }

    pub(crate) fn element(&self, index: usize) -> Result<Element<'a>, Error> {
        match self {
            View::Page(page) => page.element(index),
            View::Node(space, Entries::Leaf(entries)) => {
                let entry = &entries[index];
                let (key_len, value_len) = (entry.key_len as usize, entry.value_len as usize);
                Ok(Element {
                    flags: entry.flags,
                    key: space.bytes(entry.place, key_len),
                    value: space.bytes(entry.place.plus(key_len), value_len),
                    place: entry.place,
                })
            }
            View::Node(_, Entries::Branch(_)) => Err(corrupt(0, "branch in the place of a leaf")),
        }
    }

    /// Index of the first key that is not less than `key`, and whether it is equal.
    pub(crate) fn search(&self, key: &[u8]) -> Result<(usize, bool), Error> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let mid = usize::midpoint(low, high);
            match self.key(mid)?.cmp(key) {
                std::cmp::Ordering::Less => low = mid + 1,
                std::cmp::Ordering::Equal => return Ok((mid, true)),
                std::cmp::Ordering::Greater => high = mid,
            }
        }
        Ok((low, false))
    }

    /// Index of the child whose subtree contains `key`: the last one whose key is not greater.
    pub(crate) fn search_child(&self, key: &[u8]) -> Result<usize, Error> {
        let (index, exact) = self.search(key)?;
        Ok(if exact {
            index
        } else {
            index.saturating_sub(1)
        })
    }
}

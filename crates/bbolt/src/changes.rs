//! What a write transaction has changed so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use disk::Map;

use crate::bucket::Bucket;
use crate::error::{Error, corrupt};
use crate::format::{
    BUCKET_HEADER, BucketHeader, ELEMENT_BUCKET, FLAG_LEAF, Header, MAX_DEPTH, MAX_KEY_LEN,
    MAX_VALUE_LEN, Meta, PAGE_HEADER, PageId,
};
use crate::freelist::Span;
use crate::nodes::{BranchEntry, Child, Entries, LeafEntry, Node, NodeId, Nodes};
use crate::page::{Page, Place};
use crate::space::{NodeRef, Space};

/// Index of a bucket that the transaction has touched; 0 is the one that holds all others.
pub(crate) type BucketId = usize;
pub(crate) const ROOT_BUCKET: BucketId = 0;

/// A leaf in memory that is longer is cut in two before something is inserted into its middle, so that
/// inserting in random order stays cheap. Appending does not move anything and needs no cut.
const MAX_LEAF_INSERT: usize = 512;

/// Where a bucket's tree begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root {
    /// Unchanged page.
    Page(PageId),
    /// Unchanged page image inside of the bucket's value.
    Inline(Place, usize),
    /// Changed node.
    Node(NodeId),
}

#[derive(Debug)]
pub(crate) struct BucketState {
    pub(crate) root: Root,
    pub(crate) sequence: u64,
    pub(crate) fill_percent: f64,
    /// Nested buckets that have been touched.
    pub(crate) children: BTreeMap<Box<[u8]>, BucketId>,
    pub(crate) dirty: bool,
    hint: Option<Hint>,
}

/// The leaf of the last change and the range of keys that belong into it: changes that come in order find
/// their leaf without a descent.
#[derive(Clone, Copy, Debug)]
struct Hint {
    leaf: NodeId,
    low: Option<(Place, u32)>,
    high: Option<(Place, u32)>,
}

/// Changed nodes and buckets over an unchanged state of the file.
#[derive(Debug)]
pub(crate) struct Changes {
    map: Arc<Map>,
    page_size: u32,
    high_water: PageId,
    fill_percent: f64,
    pub(crate) nodes: Nodes,
    pub(crate) buckets: Vec<BucketState>,
    /// Pages of the unchanged state that have been replaced.
    pub(crate) freed: Vec<Span>,
}

impl Changes {
    pub(crate) fn new(map: Arc<Map>, meta: &Meta, fill_percent: f64) -> Changes {
        let mut changes = Changes {
            map,
            page_size: meta.page_size,
            high_water: meta.high_water,
            fill_percent,
            nodes: Nodes::default(),
            buckets: Vec::new(),
            freed: Vec::new(),
        };
        changes.add_bucket(Root::Page(meta.root), meta.sequence);
        changes
    }

    fn add_bucket(&mut self, root: Root, sequence: u64) -> BucketId {
        self.buckets.push(BucketState {
            root,
            sequence,
            fill_percent: self.fill_percent,
            children: BTreeMap::new(),
            dirty: false,
            hint: None,
        });
        self.buckets.len() - 1
    }

    pub(crate) fn space(&self) -> Space<'_> {
        // SAFETY: these are the pages of the committed state that the write transaction began with, whose
        // high-water mark lies inside the file. While the transaction is open no other one commits, and
        // its own commit writes only pages that this state does not contain.
        unsafe {
            Space::new(
                &self.map,
                self.page_size,
                self.high_water,
                Some(&self.nodes),
            )
        }
    }

    /// A bucket for reading, with all changes.
    pub(crate) fn view(&self, id: BucketId) -> Result<Bucket<'_>, Error> {
        let space = self.space();
        let state = &self.buckets[id];
        let root = match state.root {
            Root::Page(page) => NodeRef::Page(page),
            Root::Node(node) => NodeRef::Node(node),
            Root::Inline(place, len) => {
                NodeRef::Inline(Page::inline(space.bytes(place, len), place)?)
            }
        };
        Ok(Bucket::new(space, root, state.sequence).in_changes(self, id))
    }

    /// All buckets that have been touched and not been removed.
    pub(crate) fn live_buckets(&self) -> Vec<BucketId> {
        let mut live = vec![ROOT_BUCKET];
        let mut next = 0;
        while let Some(id) = live.get(next) {
            live.extend(self.buckets[*id].children.values());
            next += 1;
        }
        live
    }

    pub(crate) fn forget_hint(&mut self, id: BucketId) {
        self.buckets[id].hint = None;
    }

    /// A nested bucket that has been touched.
    pub(crate) fn loaded(&self, id: BucketId, name: &[u8]) -> Option<BucketId> {
        self.buckets[id].children.get(name).copied()
    }

    /// Finds a nested bucket.
    pub(crate) fn bucket(&mut self, id: BucketId, name: &[u8]) -> Result<Option<BucketId>, Error> {
        if let Some(child) = self.loaded(id, name) {
            return Ok(Some(child));
        }
        let Some(element) = self.view(id)?.element(name)? else {
            return Ok(None);
        };
        if element.flags & ELEMENT_BUCKET == 0 {
            return Ok(None);
        }
        let header = BucketHeader::decode(element.value)
            .ok_or(corrupt(0, "bucket value shorter than its header"))?;
        let root = if header.root == 0 {
            let place = element.place.plus(element.key.len() + BUCKET_HEADER);
            let image = &element.value[BUCKET_HEADER..];
            Page::inline(image, place)?;
            Root::Inline(place, image.len())
        } else {
            Root::Page(header.root)
        };
        let child = self.add_bucket(root, header.sequence);
        self.buckets[id].children.insert(name.into(), child);
        Ok(Some(child))
    }

    /// Creates a nested bucket.
    pub(crate) fn create_bucket(&mut self, id: BucketId, name: &[u8]) -> Result<BucketId, Error> {
        if name.is_empty() {
            return Err(Error::BucketNameRequired);
        }
        if name.len() > MAX_KEY_LEN {
            return Err(Error::KeyTooLarge);
        }
        match self.view(id)?.element(name)? {
            Some(element) if element.flags & ELEMENT_BUCKET != 0 => {
                return Err(Error::BucketExists);
            }
            Some(_) => return Err(Error::IncompatibleValue),
            None => {}
        }
        let mut value = [0; BUCKET_HEADER + PAGE_HEADER];
        let header = Header {
            id: 0,
            flags: FLAG_LEAF,
            count: 0,
            overflow: 0,
        };
        header.encode(&mut value[BUCKET_HEADER..]);
        self.put_element(id, name, &value, ELEMENT_BUCKET)?;
        let node = self.nodes.add(Node::leaf());
        let child = self.add_bucket(Root::Node(node), 0);
        self.buckets[child].dirty = true;
        self.buckets[id].children.insert(name.into(), child);
        Ok(child)
    }

    /// Removes a nested bucket with all in it.
    pub(crate) fn delete_bucket(&mut self, id: BucketId, name: &[u8]) -> Result<(), Error> {
        let Some(child) = self.bucket(id, name)? else {
            let exists = self.view(id)?.element(name)?.is_some();
            return Err(if exists {
                Error::IncompatibleValue
            } else {
                Error::BucketNotFound
            });
        };
        let freed = self.pages_of(child)?;
        self.remove_element(id, name)?;
        self.buckets[id].children.remove(name);
        self.freed.extend(freed);
        Ok(())
    }

    /// The unchanged pages that a bucket and the buckets in it consist of.
    fn pages_of(&mut self, id: BucketId) -> Result<Vec<Span>, Error> {
        let mut spans = Vec::new();
        let mut buckets = vec![id];
        while let Some(bucket) = buckets.pop() {
            let mut nested: Vec<Box<[u8]>> = Vec::new();
            let mut todo = match self.buckets[bucket].root {
                Root::Page(page) => vec![NodeRef::Page(page)],
                Root::Node(node) => vec![NodeRef::Node(node)],
                // An inline bucket has no pages and no buckets.
                Root::Inline(..) => continue,
            };
            while let Some(node) = todo.pop() {
                let space = self.space();
                let view = space.view(node)?;
                if let crate::space::View::Page(page) = view {
                    let len = (page.len() / space.page_size()) as u64;
                    spans.push(Span {
                        start: page.id(),
                        len,
                    });
                }
                for i in 0..view.count() {
                    if !view.is_leaf() {
                        todo.push(match view.child(i)? {
                            NodeRef::Page(page) => NodeRef::Page(page),
                            NodeRef::Node(node) => NodeRef::Node(node),
                            NodeRef::Inline(_) => continue,
                        });
                        continue;
                    }
                    let element = view.element(i)?;
                    if element.flags & ELEMENT_BUCKET != 0 {
                        nested.push(element.key.into());
                    }
                }
            }
            for name in nested {
                buckets.extend(self.bucket(bucket, &name)?);
            }
        }
        Ok(spans)
    }

    /// Puts a value.
    pub(crate) fn put(&mut self, id: BucketId, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if key.is_empty() {
            return Err(Error::KeyRequired);
        }
        if key.len() > MAX_KEY_LEN {
            return Err(Error::KeyTooLarge);
        }
        if value.len() > MAX_VALUE_LEN {
            return Err(Error::ValueTooLarge);
        }
        self.put_element(id, key, value, 0)
    }

    /// Puts an element of either kind; it must not replace one of the other kind.
    pub(crate) fn put_element(
        &mut self,
        id: BucketId,
        key: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Error> {
        let mut leaf = self.leaf_for(id, key)?;
        let (mut index, exact) = self.position(leaf, key)?;
        let len = self.nodes.get(leaf).len();
        if !exact && index < len && len >= MAX_LEAF_INSERT {
            self.cut_leaf(id, key)?;
            leaf = self.leaf_for(id, key)?;
            index = self.position(leaf, key)?.0;
        }
        let entries = self.nodes.leaf_mut(leaf)?;
        if exact && entries[index].flags != flags {
            return Err(Error::IncompatibleValue);
        }
        let place = self.nodes.arena.add([key, value]);
        let (key_len, value_len) = (key.len() as u32, value.len() as u32);
        let entry = LeafEntry {
            place,
            key_len,
            value_len,
            flags,
        };
        let entries = self.nodes.leaf_mut(leaf)?;
        if exact {
            entries[index] = entry;
        } else {
            entries.insert(index, entry);
        }
        Ok(())
    }

    /// Deletes a value; says whether there was one.
    pub(crate) fn delete(&mut self, id: BucketId, key: &[u8]) -> Result<bool, Error> {
        // Looking first keeps a delete of nothing from changing pages.
        if self.hinted(id, key).is_none() && self.view(id)?.element(key)?.is_none() {
            return Ok(false);
        }
        let leaf = self.leaf_for(id, key)?;
        let (index, exact) = self.position(leaf, key)?;
        if !exact {
            return Ok(false);
        }
        let entries = self.nodes.leaf_mut(leaf)?;
        if entries[index].flags & ELEMENT_BUCKET != 0 {
            return Err(Error::IncompatibleValue);
        }
        entries.remove(index);
        self.nodes.get_mut(leaf).shrunk = true;
        Ok(true)
    }

    fn remove_element(&mut self, id: BucketId, key: &[u8]) -> Result<(), Error> {
        let leaf = self.leaf_for(id, key)?;
        let (index, exact) = self.position(leaf, key)?;
        if exact {
            self.nodes.leaf_mut(leaf)?.remove(index);
            self.nodes.get_mut(leaf).shrunk = true;
        }
        Ok(())
    }

    /// Where in a leaf a key is or belongs. Keys that come in order are found with one comparison.
    fn position(&self, leaf: NodeId, key: &[u8]) -> Result<(usize, bool), Error> {
        let view = self.space().view(NodeRef::Node(leaf))?;
        let len = view.count();
        if len == 0 || view.key(len - 1)? < key {
            Ok((len, false))
        } else {
            view.search(key)
        }
    }

    /// The leaf of the last change, if the key belongs into it.
    fn hinted(&self, id: BucketId, key: &[u8]) -> Option<NodeId> {
        let hint = self.buckets[id].hint?;
        let space = self.space();
        let bytes = |(place, len): (Place, u32)| space.bytes(place, len as usize);
        let inside = hint.low.is_none_or(|low| bytes(low) <= key)
            && hint.high.is_none_or(|high| key < bytes(high));
        inside.then_some(hint.leaf)
    }

    /// The changed leaf that a key is in or belongs into.
    fn leaf_for(&mut self, id: BucketId, key: &[u8]) -> Result<NodeId, Error> {
        if let Some(leaf) = self.hinted(id, key) {
            return Ok(leaf);
        }
        let mut hint = Hint {
            leaf: self.own_root(id)?,
            low: None,
            high: None,
        };
        for _ in 0..MAX_DEPTH {
            let view = self.space().view(NodeRef::Node(hint.leaf))?;
            if view.is_leaf() {
                self.buckets[id].hint = Some(hint);
                return Ok(hint.leaf);
            }
            let index = view.search_child(key)?;
            let entries = self.nodes.branch_mut(hint.leaf)?;
            if index > 0 {
                hint.low = entries.get(index).map(|e| (e.place, e.key_len));
            }
            if let Some(next) = entries.get(index + 1) {
                hint.high = Some((next.place, next.key_len));
            }
            hint.leaf = self.own_child(hint.leaf, index)?;
        }
        Err(corrupt(0, "tree too deep"))
    }

    /// Makes a bucket's root a changed node.
    fn own_root(&mut self, id: BucketId) -> Result<NodeId, Error> {
        let node = match self.buckets[id].root {
            Root::Node(node) => return Ok(node),
            Root::Page(page) => self.own_page(page)?,
            Root::Inline(place, len) => {
                let image = Page::inline(self.space().bytes(place, len), place)?;
                let node = Node::from_page(&image)?;
                self.nodes.add(node)
            }
        };
        self.buckets[id].root = Root::Node(node);
        // The pages that changed nodes replace are given up by the commit, so it must write the nodes,
        // whatever became of the change that they were needed for.
        self.buckets[id].dirty = true;
        Ok(node)
    }

    /// Makes a child a changed node.
    pub(crate) fn own_child(&mut self, parent: NodeId, index: usize) -> Result<NodeId, Error> {
        let child = self.nodes.branch_mut(parent)?.get(index).map(|e| e.child);
        match child.ok_or(corrupt(0, "branch without children"))? {
            Child::Node(node) => Ok(node),
            Child::Page(page) => {
                let node = self.own_page(page)?;
                self.nodes.branch_mut(parent)?[index].child = Child::Node(node);
                Ok(node)
            }
        }
    }

    /// Takes a page's elements over into a changed node that replaces it.
    pub(crate) fn own_page(&mut self, id: PageId) -> Result<NodeId, Error> {
        let page = self.space().page(id)?;
        let len = (page.len() / self.page_size as usize) as u64;
        let node = Node::from_page(&page)?;
        self.freed.push(Span { start: id, len });
        Ok(self.nodes.add(node))
    }

    /// Cuts the changed leaf that a key belongs into in two halves.
    fn cut_leaf(&mut self, id: BucketId, key: &[u8]) -> Result<(), Error> {
        let mut node = self.own_root(id)?;
        if self.nodes.get(node).is_leaf() {
            // The root stays a node of its own; the leaf becomes its only child.
            let first = self.nodes.leaf_mut(node)?[0];
            let (place, key_len) = (first.place, first.key_len);
            let entry = BranchEntry {
                place,
                key_len,
                child: Child::Node(node),
            };
            node = self.nodes.add(Node {
                entries: Entries::Branch(vec![entry]),
                shrunk: false,
            });
            self.buckets[id].root = Root::Node(node);
        }
        for _ in 0..MAX_DEPTH {
            let index = self.space().view(NodeRef::Node(node))?.search_child(key)?;
            let child = self.own_child(node, index)?;
            if !self.nodes.get(child).is_leaf() {
                node = child;
                continue;
            }
            let entries = self.nodes.leaf_mut(child)?;
            let right = entries.split_off(entries.len() / 2);
            let Some(first) = right.first().copied() else {
                return Ok(());
            };
            let right = self.nodes.add(Node {
                entries: Entries::Leaf(right),
                shrunk: false,
            });
            let (place, key_len) = (first.place, first.key_len);
            let entry = BranchEntry {
                place,
                key_len,
                child: Child::Node(right),
            };
            self.nodes.branch_mut(node)?.insert(index + 1, entry);
            self.buckets[id].hint = None;
            return Ok(());
        }
        Err(corrupt(0, "tree too deep"))
    }
}

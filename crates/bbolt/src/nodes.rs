//! The part of the tree that a write transaction has changed, kept in memory until the commit.

use crate::error::{Error, corrupt};
use crate::format::PageId;
use crate::page::{Page, Place};

/// Index of a changed node in its transaction.
pub(crate) type NodeId = u32;

/// A child of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    /// Unchanged, in the file.
    Page(PageId),
    /// Changed, in memory.
    Node(NodeId),
}

/// An element of a leaf; the value follows the key directly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafEntry {
    pub(crate) place: Place,
    pub(crate) key_len: u32,
    pub(crate) value_len: u32,
    pub(crate) flags: u32,
}

/// An element of a branch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchEntry {
    pub(crate) place: Place,
    pub(crate) key_len: u32,
    pub(crate) child: Child,
}

/// The elements of a node.
#[derive(Clone, Debug)]
pub(crate) enum Entries {
    Leaf(Vec<LeafEntry>),
    Branch(Vec<BranchEntry>),
}

/// A changed node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) entries: Entries,
    /// Something was removed: the node may have become too small to stay alone.
    pub(crate) shrunk: bool,
}

impl Node {
    pub(crate) fn leaf() -> Node {
        Node {
            entries: Entries::Leaf(Vec::new()),
            shrunk: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.entries {
            Entries::Leaf(entries) => entries.len(),
            Entries::Branch(entries) => entries.len(),
        }
    }

    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self.entries, Entries::Leaf(_))
    }

    /// Takes over the elements of a page. Their keys must ascend, or searches would go astray and the
    /// damage would spread with the next commit.
    pub(crate) fn from_page(page: &Page<'_>) -> Result<Node, Error> {
        let mut last: &[u8] = &[];
        let mut ordered = |index: usize, key| {
            if index > 0 && key <= last {
                return Err(corrupt(page.id(), "keys out of order"));
            }
            last = key;
            Ok(())
        };
        // The count has been checked against the length of the page.
        let entries = if page.is_leaf() {
            let mut entries = Vec::with_capacity(page.count() + 1);
            for i in 0..page.count() {
                let element = page.element(i)?;
                ordered(i, element.key)?;
                entries.push(LeafEntry {
                    place: element.place,
                    key_len: element.key.len() as u32,
                    value_len: element.value.len() as u32,
                    flags: element.flags,
                });
            }
            Entries::Leaf(entries)
        } else {
            let mut entries = Vec::with_capacity(page.count() + 1);
            for i in 0..page.count() {
                let (key, place) = page.key(i)?;
                ordered(i, key)?;
                let child = Child::Page(page.child(i)?);
                entries.push(BranchEntry {
                    place,
                    key_len: key.len() as u32,
                    child,
                });
            }
            Entries::Branch(entries)
        };
        Ok(Node {
            entries,
            shrunk: false,
        })
    }
}

/// Bytes put by a transaction, in chunks that never move.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
}

/// Chunks start small, for transactions that change one key, and double. They end below the size from which
/// allocators ask the system for fresh memory every time.
const MIN_CHUNK: usize = 4 << 10;
const MAX_CHUNK: usize = 64 << 10;

impl Arena {
    /// Copies `parts` one behind the other.
    pub(crate) fn add(&mut self, parts: [&[u8]; 2]) -> Place {
        let len = parts[0].len() + parts[1].len();
        let fits = self
            .chunks
            .last()
            .is_some_and(|c| c.capacity() - c.len() >= len);
        if !fits {
            let grown = self
                .chunks
                .last()
                .map_or(MIN_CHUNK, |c| (c.capacity() * 2).min(MAX_CHUNK));
            self.chunks.push(Vec::with_capacity(grown.max(len)));
        }
        let number = self.chunks.len();
        let chunk = &mut self.chunks[number - 1];
        let offset = chunk.len() as u64;
        chunk.extend_from_slice(parts[0]);
        chunk.extend_from_slice(parts[1]);
        Place {
            chunk: number as u32,
            offset,
        }
    }

    /// The bytes at a place that [`Arena::add`] returned.
    pub(crate) fn get(&self, place: Place, len: usize) -> &[u8] {
        let start = place.offset as usize;
        &self.chunks[place.chunk as usize - 1][start..start + len]
    }
}

/// All changed nodes of a transaction and the bytes they refer to.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) arena: Arena,
    nodes: Vec<Node>,
}

impl Nodes {
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    pub(crate) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Elements of a node that is known to be a leaf.
    pub(crate) fn leaf_mut(&mut self, id: NodeId) -> Result<&mut Vec<LeafEntry>, Error> {
        match &mut self.nodes[id as usize].entries {
            Entries::Leaf(entries) => Ok(entries),
            Entries::Branch(_) => Err(corrupt(0, "branch in the place of a leaf")),
        }
    }

    /// Elements of a node that is known to be a branch.
    pub(crate) fn branch_mut(&mut self, id: NodeId) -> Result<&mut Vec<BranchEntry>, Error> {
        match &mut self.nodes[id as usize].entries {
            Entries::Branch(entries) => Ok(entries),
            Entries::Leaf(_) => Err(corrupt(0, "leaf in the place of a branch")),
        }
    }
}

//! Building a tree from sorted entries.

use crate::index::sorted::Sorted;
use crate::index::tree::{Child, Node};
use crate::index::{Entry, Tree};

/// How full nodes are made, so that the first insertions do not split them all.
const FILL: usize = 48;

impl Tree {
    /// Builds a tree from entries in ascending key order without duplicates.
    pub fn from_sorted(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut leaves = Vec::new();
        let mut leaf = Vec::with_capacity(FILL);
        for entry in entries {
            if leaf.len() == FILL {
                leaves.push(leaf_of(std::mem::replace(
                    &mut leaf,
                    Vec::with_capacity(FILL),
                )));
            }
            leaf.push(entry);
        }
        leaves.push(leaf_of(leaf));
        // Keys that come later and are lower than all these belong into the first leaf, too.
        leaves[0].low = Box::default();
        let mut level = leaves;
        while level.len() > 1 {
            let mut upper = Vec::with_capacity(level.len().div_ceil(FILL));
            let mut rest = level.into_iter().peekable();
            while rest.peek().is_some() {
                let children: Vec<_> = rest.by_ref().take(FILL).collect();
                let low = children[0].low.clone();
                upper.push(summarised(low, Node::Inner(Sorted::new(children))));
            }
            level = upper;
        }
        level
            .pop()
            .map(|root| Self::from_root(root.node))
            .unwrap_or_default()
    }
}

fn leaf_of(entries: Vec<Entry>) -> Child {
    let low = entries
        .first()
        .map(|entry| entry.key().into())
        .unwrap_or_default();
    summarised(low, Node::Leaf(Sorted::new(entries)))
}

fn summarised(low: Box<[u8]>, node: Node) -> Child {
    let (live, newest) = node.summary();
    Child {
        low,
        live,
        newest,
        node,
    }
}

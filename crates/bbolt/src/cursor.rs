use smallvec::SmallVec;

use crate::error::{Error, corrupt};
use crate::format::{ELEMENT_BUCKET, MAX_DEPTH};
use crate::page::Element;
use crate::space::{NodeRef, Space, View};

/// A key and its value; a nested bucket has no value.
pub type Item<'a> = (&'a [u8], Option<&'a [u8]>);

/// Walks the keys of a bucket in ascending or descending order.
///
/// At the end, `next` returns nothing and stays; `prev` at the start does the same. A new cursor stands
/// nowhere: call `first`, `last` or `seek` before `next` or `prev`, which return nothing until then.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    space: Space<'a>,
    root: NodeRef<'a>,
    stack: SmallVec<[Frame<'a>; 6]>,
}

#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    view: View<'a>,
    index: usize,
}

/// Which way down a step into a subtree goes.
#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(space: Space<'a>, root: NodeRef<'a>) -> Self {
        Self {
            space,
            root,
            stack: SmallVec::new(),
        }
    }

    /// Moves to the least key.
    pub fn first(&mut self) -> Result<Option<Item<'a>>, Error> {
        self.start_at(Edge::First)
    }

    /// Moves to the greatest key.
    pub fn last(&mut self) -> Result<Option<Item<'a>>, Error> {
        self.start_at(Edge::Last)
    }

    /// Moves to the least key that is not less than `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Item<'a>>, Error> {
        self.stack.clear();
        let mut node = self.root;
        loop {
            let view = self.space.view(node)?;
            if view.is_leaf() {
                let (index, _) = view.search(key)?;
                self.push(view, index)?;
                break;
            }
            let index = view.search_child(key)?;
            self.push(view, index)?;
            node = child(view, index)?;
        }
        let leaf = self.stack[self.stack.len() - 1];
        if leaf.index < leaf.view.count() {
            return self.item();
        }
        // Past the end of this leaf: the next key is the first one of the next leaf.
        if leaf.index > 0 {
            let end = self.stack.len() - 1;
            self.stack[end].index -= 1;
        }
        self.next()
    }

    /// Moves to the next key.
    #[allow(clippy::should_implement_trait)] // an iterator could not go back
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Error> {
        let Some(leaf) = self.stack.last_mut() else {
            return Ok(None);
        };
        if leaf.index + 1 < leaf.view.count() {
            leaf.index += 1;
            return self.item();
        }
        let Some(level) = self
            .stack
            .iter()
            .rposition(|f| f.index + 1 < f.view.count())
        else {
            return Ok(None);
        };
        let before = self.current()?.map(|e| e.key);
        self.stack.truncate(level + 1);
        self.stack[level].index += 1;
        self.descend(Edge::First)?;
        let element = self.current()?;
        match (before, element) {
            // Keys that ascend also mean that no page is met twice: every walk comes to an end.
            (Some(before), Some(element)) if element.key <= before => {
                Err(corrupt(self.page_id(), "keys out of order"))
            }
            _ => Ok(element.map(item_of)),
        }
    }

    /// Moves to the previous key.
    pub fn prev(&mut self) -> Result<Option<Item<'a>>, Error> {
        let Some(leaf) = self.stack.last_mut() else {
            return Ok(None);
        };
        if leaf.index > 0 {
            leaf.index -= 1;
            return self.item();
        }
        let Some(level) = self.stack.iter().rposition(|f| f.index > 0) else {
            return Ok(None);
        };
        let before = self.current()?.map(|e| e.key);
        self.stack.truncate(level + 1);
        self.stack[level].index -= 1;
        self.descend(Edge::Last)?;
        let element = self.current()?;
        match (before, element) {
            (Some(before), Some(element)) if element.key >= before => {
                Err(corrupt(self.page_id(), "keys out of order"))
            }
            _ => Ok(element.map(item_of)),
        }
    }

    /// What the cursor stands on.
    pub fn item(&self) -> Result<Option<Item<'a>>, Error> {
        Ok(self.current()?.map(item_of))
    }

    fn start_at(&mut self, edge: Edge) -> Result<Option<Item<'a>>, Error> {
        self.stack.clear();
        let view = self.space.view(self.root)?;
        self.push_edge(view, edge)?;
        self.descend(edge)?;
        self.item()
    }

    /// Goes down from the top frame to a leaf. A write transaction can have emptied leaves, which only
    /// its commit removes: they are passed over.
    fn descend(&mut self, edge: Edge) -> Result<(), Error> {
        while let Some(top) = self.stack.last().copied() {
            if !top.view.is_leaf() {
                let view = self.space.view(child(top.view, top.index)?)?;
                if view.count() == 0 && matches!(view, View::Page(_)) {
                    return Err(corrupt(view.page_id(), "empty page"));
                }
                self.push_edge(view, edge)?;
                continue;
            }
            if top.view.count() > 0 || self.stack.len() == 1 {
                break;
            }
            let room = |f: &Frame<'_>| match edge {
                Edge::First => f.index + 1 < f.view.count(),
                Edge::Last => f.index > 0,
            };
            let Some(level) = self.stack.iter().rposition(room) else {
                break;
            };
            self.stack.truncate(level + 1);
            match edge {
                Edge::First => self.stack[level].index += 1,
                Edge::Last => self.stack[level].index -= 1,
            }
        }
        Ok(())
    }

    fn push_edge(&mut self, view: View<'a>, edge: Edge) -> Result<(), Error> {
        let index = match edge {
            Edge::First => 0,
            Edge::Last => view.count().saturating_sub(1),
        };
        self.push(view, index)
    }

    fn push(&mut self, view: View<'a>, index: usize) -> Result<(), Error> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(corrupt(view.page_id(), "tree too deep"));
        }
        self.stack.push(Frame { view, index });
        Ok(())
    }

    fn current(&self) -> Result<Option<Element<'a>>, Error> {
        match self.stack.last() {
            Some(leaf) if leaf.index < leaf.view.count() => leaf.view.element(leaf.index).map(Some),
            _ => Ok(None),
        }
    }

    fn page_id(&self) -> u64 {
        self.stack.last().map_or(0, |f| f.view.page_id())
    }
}

fn child(view: View<'_>, index: usize) -> Result<NodeRef<'_>, Error> {
    if view.count() == 0 {
        return Err(corrupt(view.page_id(), "branch without children"));
    }
    view.child(index)
}

fn item_of(element: Element<'_>) -> Item<'_> {
    let is_bucket = element.flags & ELEMENT_BUCKET != 0;
    (element.key, (!is_bucket).then_some(element.value))
}

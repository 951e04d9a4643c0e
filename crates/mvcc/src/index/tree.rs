//! A B+tree of entries that knows, for each subtree, how many of its keys live and when it last changed.
//!
//! With the two numbers the count of a range at revision `at` needs no walk: a subtree inside the range that has not
//! changed since `at` gives its number of living keys; only subtrees that have changed are looked into. At the present
//! revision that is none but the two at the ends of the range.

use std::ops::ControlFlow;

use crate::index::Entry;
use crate::index::sorted::{Keyed, Sorted};
use crate::span::Span;

/// Entries of a leaf, and children of an inner node.
pub(super) const MAX: usize = 64;

#[derive(Debug)]
pub(super) enum Node {
    Leaf(Sorted<Entry>),
    Inner(Sorted<Child>),
}

impl Keyed for Entry {
    const SKIP: usize = 0;

    fn key(&self) -> &[u8] {
        Entry::key(self)
    }
}

/// The first child takes everything below the second.
impl Keyed for Child {
    const SKIP: usize = 1;

    fn key(&self) -> &[u8] {
        &self.low
    }
}

/// A subtree.
#[derive(Debug)]
pub(super) struct Child {
    /// No key of the subtree is lower, and all keys of the subtree before it are.
    pub low: Box<[u8]>,
    /// How many keys of the subtree live.
    pub live: usize,
    /// No change in the subtree is newer. May be too high after keys have gone.
    pub newest: i64,
    pub node: Node,
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    /// Recomputes the two numbers from what is directly below.
    pub(super) fn summary(&self) -> (usize, i64) {
        match self {
            Self::Leaf(entries) => {
                let entries = entries.items();
                let live = entries.iter().filter(|entry| entry.is_live()).count();
                (
                    live,
                    entries
                        .iter()
                        .map(|entry| entry.head().main)
                        .max()
                        .unwrap_or(0),
                )
            }
            Self::Inner(children) => {
                let children = children.items();
                let live = children.iter().map(|child| child.live).sum();
                (
                    live,
                    children.iter().map(|child| child.newest).max().unwrap_or(0),
                )
            }
        }
    }

    fn into_child(self, low: Box<[u8]>) -> Child {
        let (live, newest) = self.summary();
        Child {
            low,
            live,
            newest,
            node: self,
        }
    }
}

/// The child in whose part of the key space `key` lies.
fn child_of(children: &Sorted<Child>, key: &[u8]) -> usize {
    match children.search(key) {
        Ok(i) => i,
        Err(i) => i.saturating_sub(1),
    }
}

/// Changes the entry of a key, or makes it (from `None`) if there is none.
type Change<'c> = &'c mut dyn FnMut(Option<&mut Entry>) -> Option<Entry>;

/// What an insertion did to a subtree.
struct Effect {
    live: isize,
    newest: i64,
    split: Option<Child>,
}

/// All keys with their histories, in key order.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Child,
}

impl Default for Tree {
    fn default() -> Self {
        Self::from_root(Node::Leaf(Sorted::new(Vec::new())))
    }
}

impl Tree {
    pub(super) fn from_root(node: Node) -> Self {
        Self {
            root: node.into_child(Box::default()),
        }
    }

    /// How many keys live.
    pub fn live(&self) -> usize {
        self.root.live
    }

    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Inner(children) => node = &children.items()[child_of(children, key)].node,
                Node::Leaf(entries) => {
                    return entries.search(key).ok().and_then(|i| entries.get(i));
                }
            }
        }
    }

    /// Changes the entry of a key in ways that leave its life and its newest change alone.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let mut node = &mut self.root.node;
        loop {
            match node {
                Node::Inner(children) => {
                    let i = child_of(children, key);
                    node = &mut children.at_mut(i).node;
                }
                Node::Leaf(entries) => return entries.search(key).ok().map(|i| entries.at_mut(i)),
            }
        }
    }

    /// Changes or makes the entry of a key.
    pub fn upsert(&mut self, key: &[u8], change: Change<'_>) {
        let effect = upsert(&mut self.root.node, key, change);
        note(&mut self.root, &effect);
        if let Some(right) = effect.split {
            let empty = Node::Inner(Sorted::new(Vec::new())).into_child(Box::default());
            let mut left = std::mem::replace(&mut self.root, empty);
            left.live -= right.live;
            let mut children = Vec::with_capacity(MAX);
            children.extend([left, right]);
            let children = Sorted::new(children);
            self.root = Node::Inner(children).into_child(Box::default());
        }
    }

    /// Visits the entries of a span in key order until `visit` breaks.
    pub fn visit<'t>(
        &'t self,
        span: Span<'_>,
        visit: &mut dyn FnMut(&'t Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if span.is_empty() {
            ControlFlow::Continue(())
        } else {
            walk(&self.root.node, span, visit)
        }
    }

    /// Hands the leaf in whose part of the key space `from` lies to `sweep`, entries before `from` included, and
    /// removes the entries it does not keep. Returns where the next leaf begins.
    pub fn sweep_leaf(
        &mut self,
        from: &[u8],
        sweep: &mut dyn FnMut(&mut Entry) -> bool,
    ) -> Option<Box<[u8]>> {
        let next = sweep_leaf(&mut self.root, from, None, sweep);
        while let Node::Inner(children) = &mut self.root.node
            && children.len() == 1
        {
            if let Some(only) = children.pop() {
                self.root = only;
            }
        }
        next
    }

    /// Continues a count; see [`Counter`].
    pub fn count(&self, counter: &mut Counter<'_>) {
        counter.resume = None;
        if !counter.span.is_empty() {
            let _ = counter.child(&self.root, None);
        }
    }
}

fn note(child: &mut Child, effect: &Effect) {
    child.live = child.live.saturating_add_signed(effect.live);
    child.newest = child.newest.max(effect.newest);
}

fn upsert(node: &mut Node, key: &[u8], change: Change<'_>) -> Effect {
    match node {
        Node::Leaf(entries) => upsert_leaf(entries, key, change),
        Node::Inner(children) => {
            let i = child_of(children, key);
            let child = children.at_mut(i);
            let effect = upsert(&mut child.node, key, change);
            note(child, &effect);
            let Effect {
                live,
                newest,
                split,
            } = effect;
            let Some(right) = split else {
                return Effect {
                    live,
                    newest,
                    split: None,
                };
            };
            child.live -= right.live;
            children.insert(i + 1, right);
            let split = (children.len() > MAX).then(|| {
                let right = children.split_off(split_point(children.len(), i + 1));
                let low = right.items()[0].low.clone();
                Node::Inner(right).into_child(low)
            });
            Effect {
                live,
                newest,
                split,
            }
        }
    }
}

fn upsert_leaf(entries: &mut Sorted<Entry>, key: &[u8], change: Change<'_>) -> Effect {
    match entries.search(key) {
        Ok(i) => {
            let entry = entries.at_mut(i);
            let before = isize::from(entry.is_live());
            let made = change(Some(entry));
            debug_assert!(made.is_none(), "there is an entry already");
            let live = isize::from(entry.is_live()) - before;
            Effect {
                live,
                newest: entry.head().main,
                split: None,
            }
        }
        Err(i) => {
            let Some(entry) = change(None) else {
                return Effect {
                    live: 0,
                    newest: 0,
                    split: None,
                };
            };
            let (live, newest) = (isize::from(entry.is_live()), entry.head().main);
            entries.insert(i, entry);
            let split = (entries.len() > MAX).then(|| {
                let right = entries.split_off(split_point(entries.len(), i));
                let low = right.items()[0].key().into();
                Node::Leaf(right).into_child(low)
            });
            Effect {
                live,
                newest,
                split,
            }
        }
    }
}

/// In the middle; but keys that come in order fill the left node and go on in the right one.
fn split_point(len: usize, inserted: usize) -> usize {
    if inserted + 1 == len {
        len - 1
    } else {
        len / 2
    }
}

fn walk<'t>(
    node: &'t Node,
    span: Span<'_>,
    visit: &mut dyn FnMut(&'t Entry) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match node {
        Node::Leaf(entries) => {
            let first = entries.search(span.start).unwrap_or_else(|i| i);
            for entry in &entries.items()[first..] {
                if !span.before_end(entry.key()) {
                    return ControlFlow::Break(());
                }
                visit(entry)?;
            }
        }
        Node::Inner(children) => {
            for child in &children.items()[child_of(children, span.start)..] {
                if !span.before_end(&child.low) {
                    return ControlFlow::Break(());
                }
                walk(&child.node, span, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

fn sweep_leaf(
    child: &mut Child,
    from: &[u8],
    upper: Option<&[u8]>,
    sweep: &mut dyn FnMut(&mut Entry) -> bool,
) -> Option<Box<[u8]>> {
    let next = match &mut child.node {
        Node::Leaf(entries) => {
            entries.retain(sweep);
            upper.map(Into::into)
        }
        Node::Inner(children) => {
            let i = child_of(children, from);
            let upper: Option<Box<[u8]>> = children
                .get(i + 1)
                .map(|next| next.low.clone())
                .or(upper.map(Into::into));
            let next = sweep_leaf(children.at_mut(i), from, upper.as_deref(), sweep);
            tidy(children, i);
            next
        }
    };
    (child.live, child.newest) = child.node.summary();
    next
}

/// Removes child `i` if it is empty and merges it with a neighbour if the two are small.
fn tidy(children: &mut Sorted<Child>, i: usize) {
    let len = |i: usize| children.get(i).map_or(MAX, |child| child.node.len());
    if children.len() > 1 && len(i) == 0 {
        if i == 0 {
            // What lies below the second child is now its own.
            let gone = children.remove(0);
            children.at_mut(0).low = gone.low;
        } else {
            // Goes to the child before.
            children.remove(i);
        }
        return;
    }
    for left in [i.checked_sub(1), Some(i)].into_iter().flatten() {
        if len(left) + len(left + 1) <= MAX / 2 {
            let right = children.remove(left + 1);
            merge(children.at_mut(left), right);
            return;
        }
    }
}

fn merge(left: &mut Child, right: Child) {
    left.live += right.live;
    left.newest = left.newest.max(right.newest);
    match (&mut left.node, right.node) {
        (Node::Leaf(entries), Node::Leaf(more)) => entries.append(more),
        (Node::Inner(children), Node::Inner(more)) => children.append(more),
        _ => debug_assert!(false, "neighbours are of one height"),
    }
}

/// Counts the keys of a span that live at some revision, in steps of bounded length.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    pub span: Span<'a>,
    pub at: i64,
    /// Living keys found so far.
    pub count: usize,
    /// How many more entries this step may look at.
    pub budget: usize,
    /// Where the next step has to start; `None` when the count is complete.
    pub resume: Option<Box<[u8]>>,
}

impl Counter<'_> {
    /// `upper`: all keys of the child are lower.
    fn child(&mut self, child: &Child, upper: Option<&[u8]>) -> ControlFlow<()> {
        let ends_inside = match (upper, self.span.end) {
            (_, None) => true,
            (Some(upper), Some(end)) => upper <= end,
            (None, Some(_)) => false,
        };
        if child.newest <= self.at && self.span.start <= &*child.low && ends_inside {
            self.count += child.live;
            return ControlFlow::Continue(());
        }
        match &child.node {
            Node::Leaf(entries) => self.leaf(entries),
            Node::Inner(children) => {
                let first = child_of(children, self.span.start);
                for (i, child) in children.items().iter().enumerate().skip(first) {
                    if !self.span.before_end(&child.low) {
                        return ControlFlow::Break(());
                    }
                    let upper = children.get(i + 1).map(|next| &*next.low).or(upper);
                    self.child(child, upper)?;
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn leaf(&mut self, entries: &Sorted<Entry>) -> ControlFlow<()> {
        let first = entries.search(self.span.start).unwrap_or_else(|i| i);
        for entry in &entries.items()[first..] {
            if !self.span.before_end(entry.key()) {
                return ControlFlow::Break(());
            }
            if self.budget == 0 {
                self.resume = Some(entry.key().into());
                return ControlFlow::Break(());
            }
            self.budget -= 1;
            self.count += usize::from(entry.at(self.at).is_some());
        }
        ControlFlow::Continue(())
    }
}

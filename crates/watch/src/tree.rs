//! Intervals of keys, searchable for all that contain a key.
//!
//! A treap ordered by (begin, end); each node knows the largest end below it, so a search skips
//! every subtree that ends too early. Equal intervals share a node. Searching costs
//! O(log n + answers), changing O(log n).

use std::cmp::Ordering;

use bytes::Bytes;

const NIL: u32 = u32::MAX;

/// Upper end of an interval; `None` has no end and is larger than any.
type End = Option<Bytes>;

#[derive(Debug)]
struct Node {
    begin: Bytes,
    end: End,
    /// Largest end in this subtree.
    max_end: End,
    priority: u64,
    left: u32,
    right: u32,
    members: Vec<u32>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    seed: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

fn compare_ends(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

fn ends_after(end: Option<&Bytes>, key: &[u8]) -> bool {
    end.is_none_or(|end| &end[..] > key)
}

impl Tree {
    /// The members of an interval's node, which is made if it is missing.
    pub(crate) fn members_or_new(&mut self, begin: &Bytes, end: Option<&Bytes>) -> &mut Vec<u32> {
        let node = match self.find(begin, end) {
            NIL => {
                let node = self.new_node(begin.clone(), end.cloned());
                self.root = self.insert(self.root, node);
                node
            }
            node => node,
        };
        &mut self.nodes[node as usize].members
    }

    /// The members of an interval's node.
    pub(crate) fn members(&mut self, begin: &Bytes, end: Option<&Bytes>) -> Option<&mut Vec<u32>> {
        match self.find(begin, end) {
            NIL => None,
            node => Some(&mut self.nodes[node as usize].members),
        }
    }

    /// Removes an interval's node.
    pub(crate) fn remove(&mut self, begin: &Bytes, end: Option<&Bytes>) {
        self.root = self.remove_below(self.root, begin, end);
    }

    /// Appends the members of all intervals that contain the key.
    pub(crate) fn search(&self, key: &[u8], found: &mut Vec<u32>) {
        self.search_below(self.root, key, found);
    }

    fn search_below(&self, at: u32, key: &[u8], found: &mut Vec<u32>) {
        if at == NIL {
            return;
        }
        let node = &self.nodes[at as usize];
        if !ends_after(node.max_end.as_ref(), key) {
            return;
        }
        self.search_below(node.left, key, found);
        if &node.begin[..] > key {
            return;
        }
        if ends_after(node.end.as_ref(), key) {
            found.extend_from_slice(&node.members);
        }
        self.search_below(node.right, key, found);
    }

    fn new_node(&mut self, begin: Bytes, end: End) -> u32 {
        // xorshift: the shape of a treap only needs priorities that do not follow the keys.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let node = Node {
            begin,
            max_end: end.clone(),
            end,
            priority: self.seed,
            left: NIL,
            right: NIL,
            members: Vec::new(),
        };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn order(&self, begin: &Bytes, end: Option<&Bytes>, at: u32) -> Ordering {
        let node = &self.nodes[at as usize];
        begin
            .cmp(&node.begin)
            .then_with(|| compare_ends(end, node.end.as_ref()))
    }

    fn find(&self, begin: &Bytes, end: Option<&Bytes>) -> u32 {
        let mut at = self.root;
        while at != NIL {
            match self.order(begin, end, at) {
                Ordering::Less => at = self.nodes[at as usize].left,
                Ordering::Greater => at = self.nodes[at as usize].right,
                Ordering::Equal => break,
            }
        }
        at
    }

    /// Recomputes what a node knows about its subtree.
    fn update(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut max = node.end.as_ref();
        for child in [node.left, node.right] {
            if child != NIL {
                let end = self.nodes[child as usize].max_end.as_ref();
                if compare_ends(end, max) == Ordering::Greater {
                    max = end;
                }
            }
        }
        let max = max.cloned();
        self.nodes[at as usize].max_end = max;
    }

    fn insert(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        let (begin, end) = {
            let node = &self.nodes[new as usize];
            (node.begin.clone(), node.end.clone())
        };
        if self.nodes[new as usize].priority > self.nodes[at as usize].priority {
            let (left, right) = self.split(at, &begin, end.as_ref());
            let node = &mut self.nodes[new as usize];
            (node.left, node.right) = (left, right);
            self.update(new);
            return new;
        }
        if self.order(&begin, end.as_ref(), at) == Ordering::Less {
            let child = self.insert(self.nodes[at as usize].left, new);
            self.nodes[at as usize].left = child;
        } else {
            let child = self.insert(self.nodes[at as usize].right, new);
            self.nodes[at as usize].right = child;
        }
        self.update(at);
        at
    }

    /// Splits a subtree into what is smaller and what is larger than an interval not in it.
    fn split(&mut self, at: u32, begin: &Bytes, end: Option<&Bytes>) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.order(begin, end, at) == Ordering::Less {
            let (left, right) = self.split(self.nodes[at as usize].left, begin, end);
            self.nodes[at as usize].left = right;
            self.update(at);
            (left, at)
        } else {
            let (left, right) = self.split(self.nodes[at as usize].right, begin, end);
            self.nodes[at as usize].right = left;
            self.update(at);
            (at, right)
        }
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let child = self.join(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = child;
            self.update(left);
            left
        } else {
            let child = self.join(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = child;
            self.update(right);
            right
        }
    }

    fn remove_below(&mut self, at: u32, begin: &Bytes, end: Option<&Bytes>) -> u32 {
        if at == NIL {
            return NIL;
        }
        let (left, right) = {
            let node = &self.nodes[at as usize];
            (node.left, node.right)
        };
        match self.order(begin, end, at) {
            Ordering::Less => {
                let child = self.remove_below(left, begin, end);
                self.nodes[at as usize].left = child;
            }
            Ordering::Greater => {
                let child = self.remove_below(right, begin, end);
                self.nodes[at as usize].right = child;
            }
            Ordering::Equal => {
                let node = &mut self.nodes[at as usize];
                (node.begin, node.end, node.max_end) = (Bytes::new(), None, None);
                node.members = Vec::new();
                self.free.push(at);
                return self.join(left, right);
            }
        }
        self.update(at);
        at
    }
}

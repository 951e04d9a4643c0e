use crate::changes::{BucketId, Changes};
use crate::cursor::Cursor;
use crate::error::{Error, corrupt};
use crate::format::{BUCKET_HEADER, BucketHeader, ELEMENT_BUCKET, MAX_DEPTH};
use crate::page::{Element, Page};
use crate::space::{NodeRef, Space};

/// A bucket as a transaction sees it, for reading. What it returns lives as long as the transaction.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    space: Space<'a>,
    root: NodeRef<'a>,
    sequence: u64,
    /// In a write transaction, where the changes to nested buckets are.
    changed: Option<(&'a Changes, BucketId)>,
}

impl<'a> Bucket<'a> {
    pub(crate) fn new(space: Space<'a>, root: NodeRef<'a>, sequence: u64) -> Self {
        Self {
            space,
            root,
            sequence,
            changed: None,
        }
    }

    pub(crate) fn in_changes(self, changes: &'a Changes, id: BucketId) -> Self {
        Self {
            changed: Some((changes, id)),
            ..self
        }
    }

    /// Reads a bucket's value: the header, and the page that may follow inline.
    pub(crate) fn from_value(space: Space<'a>, element: Element<'a>) -> Result<Self, Error> {
        let header = BucketHeader::decode(element.value)
            .ok_or(corrupt(0, "bucket value shorter than its header"))?;
        let root = if header.root == 0 {
            let place = element.place.plus(element.key.len() + BUCKET_HEADER);
            NodeRef::Inline(Page::inline(&element.value[BUCKET_HEADER..], place)?)
        } else {
            NodeRef::Page(header.root)
        };
        Ok(Self::new(space, root, header.sequence))
    }

    /// The element of `key`, be it a value or a bucket.
    pub(crate) fn element(&self, key: &[u8]) -> Result<Option<Element<'a>>, Error> {
        let mut node = self.root;
        for _ in 0..MAX_DEPTH {
            let view = self.space.view(node)?;
            if view.is_leaf() {
                let (index, exact) = view.search(key)?;
                return if exact {
                    view.element(index).map(Some)
                } else {
                    Ok(None)
                };
            }
            if view.count() == 0 {
                return Err(corrupt(view.page_id(), "branch without children"));
            }
            node = view.child(view.search_child(key)?)?;
        }
        Err(corrupt(0, "tree too deep"))
    }

    /// The value of a key; none for a missing key or a nested bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>, Error> {
        let element = self.element(key)?;
        Ok(element
            .filter(|e| e.flags & ELEMENT_BUCKET == 0)
            .map(|e| e.value))
    }

    /// A nested bucket.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a>>, Error> {
        if let Some((changes, id)) = self.changed
            && let Some(child) = changes.loaded(id, name)
        {
            return changes.view(child).map(Some);
        }
        match self.element(name)? {
            Some(element) if element.flags & ELEMENT_BUCKET != 0 => {
                Bucket::from_value(self.space, element).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A cursor over all keys, nested buckets included.
    pub fn cursor(&self) -> Cursor<'a> {
        Cursor::new(self.space, self.root)
    }

    /// A number that the owner of the bucket may keep with it; etcd leaves it at 0.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many keys (nested buckets included, their content not) there are. Reads every leaf.
    pub fn key_count(&self) -> Result<u64, Error> {
        let mut cursor = self.cursor();
        let mut count = 0;
        let mut item = cursor.first()?;
        while item.is_some() {
            count += 1;
            item = cursor.next()?;
        }
        Ok(count)
    }

    /// Keys that cut the bucket into at most `parts` ranges of roughly equal numbers of pages, ascending,
    /// for reading them in parallel: part 0 ends before the first of them, the last part begins at the last
    /// of them. A small bucket gives fewer keys or none.
    pub fn split_keys(&self, parts: usize) -> Result<Vec<&'a [u8]>, Error> {
        let mut level = vec![(self.root, None)];
        for _ in 0..MAX_DEPTH {
            if level.len() >= parts.saturating_mul(4) {
                break;
            }
            let mut below: Vec<(NodeRef<'a>, Option<&'a [u8]>)> = Vec::new();
            for (node, _) in &level {
                let view = self.space.view(*node)?;
                if view.is_leaf() {
                    break;
                }
                for i in 0..view.count() {
                    below.push((view.child(i)?, Some(view.key(i)?)));
                }
            }
            if below.len() <= level.len() {
                break;
            }
            level = below;
        }
        let parts = parts.clamp(1, level.len());
        let keys = (1..parts).filter_map(|part| level[part * level.len() / parts].1);
        Ok(keys.collect())
    }

    /// The nested buckets' names.
    pub fn buckets(&self) -> BucketNames<'a> {
        BucketNames {
            cursor: self.cursor(),
            state: Names::Start,
        }
    }
}

/// Iterator over the names of buckets, ascending. It ends after an error.
#[derive(Debug)]
pub struct BucketNames<'a> {
    cursor: Cursor<'a>,
    state: Names,
}

#[derive(Clone, Copy, Debug)]
enum Names {
    Start,
    Middle,
    End,
}

impl<'a> BucketNames<'a> {
    fn step(&mut self) -> Result<Option<&'a [u8]>, Error> {
        loop {
            let item = match std::mem::replace(&mut self.state, Names::Middle) {
                Names::Start => self.cursor.first()?,
                Names::Middle => self.cursor.next()?,
                Names::End => None,
            };
            match item {
                Some((name, None)) => return Ok(Some(name)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

impl<'a> Iterator for BucketNames<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.state = Names::End;
        }
        step.transpose()
    }
}

//! Items sorted by key, searched without touching the keys.
//!
//! Keys of neighbours begin alike (`/registry/pods/…`), and each lies in memory of its own. So a node keeps the common
//! beginning of its keys once, and of each key the eight bytes after it side by side; most searches look at one key
//! only, to confirm.

/// Something with a key.
pub(super) trait Keyed {
    /// How many items at the front are not found by their key: they stand for everything below the next one.
    const SKIP: usize;

    fn key(&self) -> &[u8];
}

/// Items in ascending order of their keys.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    /// All keys begin with this, skipped ones aside.
    prefix: Box<[u8]>,
    /// What follows in each key, as [`head`] has it.
    heads: Vec<u64>,
    items: Vec<T>,
}

/// The first eight bytes as a number that sorts like them. A shorter key sorts like one filled up with zeros, or
/// before it; who finds equal heads compares the keys.
fn head(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<T: Keyed> Sorted<T> {
    /// Takes items that are in order.
    pub fn new(items: Vec<T>) -> Self {
        let mut sorted = Self {
            prefix: Box::default(),
            heads: Vec::new(),
            items,
        };
        sorted.rebuild();
        sorted
    }

    fn rebuild(&mut self) {
        let found = self.items.get(T::SKIP..).unwrap_or_default();
        let prefix = match (found.first(), found.last()) {
            (Some(first), Some(last)) => common_prefix(first.key(), last.key()),
            _ => 0,
        };
        self.prefix = found
            .first()
            .map(|first| first.key()[..prefix].into())
            .unwrap_or_default();
        self.heads.clear();
        self.heads
            .extend(self.items.iter().take(T::SKIP).map(|_| 0));
        self.heads
            .extend(found.iter().map(|item| head(&item.key()[prefix..])));
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn items(&self) -> &[T] {
        &self.items
    }

    pub fn get(&self, i: usize) -> Option<&T> {
        self.items.get(i)
    }

    /// For changes that leave keys as they are.
    pub fn at_mut(&mut self, i: usize) -> &mut T {
        &mut self.items[i]
    }

    /// Where the key is, or where it would have to be put.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let first = T::SKIP.min(self.items.len());
        let Some(rest) = key.strip_prefix(&*self.prefix) else {
            return Err(if *key < *self.prefix {
                first
            } else {
                self.items.len()
            });
        };
        let wanted = head(rest);
        let heads = &self.heads[first..];
        let low = first + heads.partition_point(|head| *head < wanted);
        let equal = self.heads[low..]
            .iter()
            .take_while(|head| **head == wanted)
            .count();
        let candidates = &self.items[low..low + equal];
        match candidates.binary_search_by(|item| item.key().cmp(key)) {
            Ok(i) => Ok(low + i),
            Err(i) => Err(low + i),
        }
    }

    /// Puts an item where [`Sorted::search`] said.
    pub fn insert(&mut self, i: usize, item: T) {
        let head = item.key().strip_prefix(&*self.prefix).map(head);
        self.items.insert(i, item);
        match head {
            Some(head) if self.items.len() > T::SKIP + 1 => self.heads.insert(i, head),
            _ => self.rebuild(),
        }
    }

    pub fn remove(&mut self, i: usize) -> T {
        self.heads.remove(i);
        let item = self.items.remove(i);
        if i < T::SKIP {
            self.rebuild();
        }
        item
    }

    /// Cuts off the items from `i` on.
    pub fn split_off(&mut self, i: usize) -> Self {
        let right = self.items.split_off(i);
        self.rebuild();
        Self::new(right)
    }

    /// Shows each item, for changes that leave keys as they are, and removes those it is not to keep.
    pub fn retain(&mut self, keep: &mut dyn FnMut(&mut T) -> bool) {
        let before = self.items.len();
        self.items.retain_mut(keep);
        if self.items.len() != before {
            self.rebuild();
        }
    }

    /// Appends items whose keys are all higher.
    pub fn append(&mut self, right: Self) {
        self.items.extend(right.items);
        self.rebuild();
    }

    pub fn pop(&mut self) -> Option<T> {
        self.heads.pop();
        self.items.pop()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Keyed for Vec<u8> {
        const SKIP: usize = 0;

        fn key(&self) -> &[u8] {
            self
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(255)];
        (prop::bool::ANY, proptest::collection::vec(byte, 0..14)).prop_map(|(long, mut tail)| {
            if long {
                tail.splice(0..0, *b"/registry/pods/");
            }
            tail
        })
    }

    proptest! {
        #[test]
        fn searching_by_heads_is_searching_by_keys(keys in proptest::collection::vec(key(), 0..80), wanted in proptest::collection::vec(key(), 20), cut in 0..80_usize) {
            let mut sorted = Sorted::new(Vec::new());
            let mut model: Vec<Vec<u8>> = Vec::new();
            for key in keys {
                let place = sorted.search(&key);
                prop_assert_eq!(place, model.binary_search(&key));
                if let Err(i) = place {
                    sorted.insert(i, key.clone());
                    model.insert(i, key);
                }
            }
            for key in wanted.iter().chain(&model) {
                prop_assert_eq!(sorted.search(key), model.binary_search(key));
            }
            let right = sorted.split_off(cut.min(model.len()));
            let model_right = model.split_off(cut.min(model.len()));
            for key in wanted.iter().chain(&model).chain(&model_right) {
                prop_assert_eq!(sorted.search(key), model.binary_search(key));
                prop_assert_eq!(right.search(key), model_right.binary_search(key));
            }
        }
    }
}

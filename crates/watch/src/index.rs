//! All watchers by the keys they want: each event is matched once, whatever their number.

use std::collections::HashMap;

use bytes::Bytes;

use crate::range::{End, KeyRange};
use crate::tree::Tree;

/// Numbers, each with a range of keys. A number stands for a watcher in a table and should be
/// small: there is an array as long as the largest.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Those that want one key.
    single: HashMap<Bytes, Vec<u32>>,
    /// Those that want an interval.
    intervals: Tree,
    /// Where in its list a number stands, so that removing one of thousands is no search.
    position: Vec<u32>,
}

impl Index {
    /// Adds a number that is not in the index.
    pub(crate) fn insert(&mut self, range: &KeyRange, number: u32) {
        let begin = range.begin();
        let list = match range.end() {
            End::Single => self.single.entry(begin.clone()).or_default(),
            End::Before(end) => self.intervals.members_or_new(begin, Some(end)),
            End::Open => self.intervals.members_or_new(begin, None),
        };
        let place = number as usize;
        if self.position.len() <= place {
            self.position.resize(place + 1, 0);
        }
        self.position[place] = list.len() as u32;
        list.push(number);
    }

    /// Removes a number with the range it was added with.
    pub(crate) fn remove(&mut self, range: &KeyRange, number: u32) {
        let begin = range.begin();
        let list = match range.end() {
            End::Single => self.single.get_mut(begin),
            End::Before(end) => self.intervals.members(begin, Some(end)),
            End::Open => self.intervals.members(begin, None),
        };
        let Some(list) = list else { return };
        let position = self.position[number as usize];
        if list.get(position as usize) != Some(&number) {
            return;
        }
        list.swap_remove(position as usize);
        if let Some(&moved) = list.get(position as usize) {
            self.position[moved as usize] = position;
        }
        if list.is_empty() {
            match range.end() {
                End::Single => {
                    self.single.remove(begin);
                }
                End::Before(end) => self.intervals.remove(begin, Some(end)),
                End::Open => self.intervals.remove(begin, None),
            }
        }
    }

    /// Appends all numbers whose range contains the key.
    pub(crate) fn search(&self, key: &[u8], found: &mut Vec<u32>) {
        if let Some(list) = self.single.get(key) {
            found.extend_from_slice(list);
        }
        self.intervals.search(key, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(0..4u8, 0..4).prop_map(Bytes::from)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Insert(Bytes, Bytes),
        Remove(prop::sample::Index),
        Search(Bytes),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (key(), key()).prop_map(|(key, end)| Op::Insert(key, end)),
            1 => any::<prop::sample::Index>().prop_map(Op::Remove),
            3 => key().prop_map(Op::Search),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256, failure_persistence: None, ..ProptestConfig::default()
        })]
        #[test]
        fn a_search_finds_what_asking_every_range_finds(
            ops in prop::collection::vec(op(), 1..200)
        ) {
            let mut index = Index::default();
            let mut model: Vec<(KeyRange, u32)> = Vec::new();
            let mut next = 0;
            for op in ops {
                match op {
                    Op::Insert(key, end) => {
                        if let Some(range) = KeyRange::from_request(&key, &end) {
                            index.insert(&range, next);
                            model.push((range, next));
                            next += 1;
                        }
                    }
                    Op::Remove(which) if !model.is_empty() => {
                        let (range, number) = model.swap_remove(which.index(model.len()));
                        index.remove(&range, number);
                        index.remove(&range, number);
                    }
                    Op::Remove(_) => {}
                    Op::Search(key) => {
                        let mut found = Vec::new();
                        index.search(&key, &mut found);
                        found.sort_unstable();
                        let mut wanted: Vec<u32> = model
                            .iter()
                            .filter(|(range, _)| range.contains(&key))
                            .map(|(_, number)| *number)
                            .collect();
                        wanted.sort_unstable();
                        prop_assert_eq!(found, wanted);
                    }
                }
            }
        }
    }
}

use std::collections::{HashSet, VecDeque};

/// Stands for a user, a password hash and a password that fits it, without giving any of them away.
pub(crate) type Fingerprint = [u8; 32];

/// Passwords that were found right, as of one auth revision: any change of users, roles or permissions empties it.
#[derive(Debug)]
pub(crate) struct Verified {
    capacity: usize,
    revision: u64,
    known: HashSet<Fingerprint>,
    /// `known`, oldest first.
    order: VecDeque<Fingerprint>,
}

impl Verified {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            revision: 0,
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn contains(&mut self, revision: u64, one: &Fingerprint) -> bool {
        self.is_current(revision) && self.known.contains(one)
    }

    pub(crate) fn insert(&mut self, revision: u64, one: Fingerprint) {
        if self.capacity == 0 || !self.is_current(revision) || !self.known.insert(one) {
            return;
        }
        self.order.push_back(one);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Empties the cache when the caller has seen a newer revision; a check that began before a change is too late.
    fn is_current(&mut self, revision: u64) -> bool {
        if revision > self.revision {
            self.clear();
            self.revision = revision;
        }
        revision == self.revision
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_empties_it() {
        let mut cache = Verified::new(10);
        cache.insert(3, [1; 32]);
        assert!(cache.contains(3, &[1; 32]));
        assert!(!cache.contains(3, &[2; 32]));
        assert!(!cache.contains(4, &[1; 32]));
        assert!(
            !cache.contains(3, &[1; 32]),
            "what was seen before the change is gone"
        );
        cache.insert(3, [1; 32]);
        assert!(
            !cache.contains(4, &[1; 32]),
            "a check from before the change comes too late"
        );
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut cache = Verified::new(2);
        for one in 1..=3 {
            cache.insert(1, [one; 32]);
            cache.insert(1, [one; 32]);
        }
        assert!(!cache.contains(1, &[1; 32]));
        assert!(cache.contains(1, &[2; 32]) && cache.contains(1, &[3; 32]));
    }
}

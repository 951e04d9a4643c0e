//! What the index knows about one key.

use std::sync::atomic::{AtomicBool, Ordering};

use api::RawKv;

use crate::Revision;

/// A life of a key that has ended: from its first put to its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generation {
    create: i64,
    version: i64,
    /// Ascending; the last is the deletion.
    revisions: Vec<Revision>,
}

/// Where the part of a history begins that a compaction leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oldest {
    /// With this earlier generation.
    Ended(usize),
    /// With the present generation.
    Present,
    /// Nothing is left.
    None,
}

/// What only keys with a past have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Past {
    /// Changes of the present generation before the newest, ascending.
    revisions: Vec<Revision>,
    /// Earlier generations, oldest first.
    generations: Vec<Generation>,
}

/// Meta data of a key at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The change that made this state.
    pub modified: Revision,
    /// Revision of the put that brought the key to life.
    pub create: i64,
    /// Number of puts since then.
    pub version: i64,
}

/// One key with its history. The common case, a living key with one version, needs no allocation but the key's.
///
/// etcd speaks of a list of generations whose last one is empty after a deletion; here that empty one is implied by
/// `dead`.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Box<[u8]>,
    /// The newest change.
    head: Revision,
    create: i64,
    version: i64,
    past: Option<Box<Past>>,
    /// The newest pair, while it is in the cache.
    value: Option<RawKv>,
    dead: bool,
    /// Looked up since the cache's hand last passed.
    used: AtomicBool,
}

impl Entry {
    /// A key that comes to life.
    pub fn new(key: &[u8], head: Revision) -> Self {
        Self::restored(key, head, head.main, 1)
    }

    /// A living key of which this is the oldest record left.
    pub fn restored(key: &[u8], head: Revision, create: i64, version: i64) -> Self {
        Self {
            key: key.into(),
            head,
            create,
            version,
            past: None,
            value: None,
            dead: false,
            used: AtomicBool::new(false),
        }
    }

    /// A key of which the oldest record left is a deletion.
    pub fn restored_tombstone(key: &[u8], head: Revision) -> Self {
        Self {
            dead: true,
            ..Self::restored(key, head, 0, 1)
        }
    }

    pub fn key(&self) -> &[u8] {
        &self.key
    }

    pub fn is_live(&self) -> bool {
        !self.dead
    }

    /// The newest change.
    pub fn head(&self) -> Revision {
        self.head
    }

    /// Records a put.
    pub fn put(&mut self, revision: Revision) {
        debug_assert!(revision > self.head, "changes come in order");
        if self.dead {
            let revisions = self.take_revisions();
            let ended = Generation {
                create: self.create,
                version: self.version,
                revisions,
            };
            self.past.get_or_insert_default().generations.push(ended);
            self.create = revision.main;
            self.version = 1;
            self.dead = false;
        } else {
            self.past.get_or_insert_default().revisions.push(self.head);
            self.version += 1;
        }
        self.head = revision;
    }

    /// Records a deletion; `false` if there is nothing to delete.
    pub fn tombstone(&mut self, revision: Revision) -> bool {
        debug_assert!(revision > self.head, "changes come in order");
        if self.dead {
            return false;
        }
        self.past.get_or_insert_default().revisions.push(self.head);
        self.version += 1;
        self.head = revision;
        self.dead = true;
        true
    }

    /// All revisions of the present generation, leaving none behind.
    fn take_revisions(&mut self) -> Vec<Revision> {
        let mut revisions = self
            .past
            .as_mut()
            .map(|past| std::mem::take(&mut past.revisions))
            .unwrap_or_default();
        revisions.push(self.head);
        revisions
    }

    fn revisions(&self) -> &[Revision] {
        self.past.as_ref().map_or(&[], |past| &past.revisions)
    }

    fn generations(&self) -> &[Generation] {
        self.past.as_ref().map_or(&[], |past| &past.generations)
    }

    /// The state of the key at revision `at`; `None` if it did not exist then.
    pub fn at(&self, at: i64) -> Option<KeyMeta> {
        if self.head.main <= at {
            let Self {
                head: modified,
                create,
                version,
                ..
            } = *self;
            return self.is_live().then_some(KeyMeta {
                modified,
                create,
                version,
            });
        }
        let revisions = self.revisions();
        if revisions.first().is_some_and(|first| first.main <= at) {
            // The newest change is later than `at`, and so are those after the one found.
            let (i, modified) = newest_until(revisions, at)?;
            let version = self.version - (revisions.len() - i) as i64;
            return Some(KeyMeta {
                modified,
                create: self.create,
                version,
            });
        }
        for generation in self.generations().iter().rev() {
            let revisions = &generation.revisions;
            if revisions.last().is_some_and(|last| last.main <= at) {
                return None;
            }
            if let Some((i, modified)) = newest_until(revisions, at) {
                let version = generation.version - (revisions.len() - 1 - i) as i64;
                return Some(KeyMeta {
                    modified,
                    create: generation.create,
                    version,
                });
            }
        }
        None
    }

    /// The generation a compaction at `at` leaves as the oldest.
    ///
    /// That is the first one that had not ended before `at`; but a later one if it had begun by then. The second half
    /// matters only if a transaction deletes a key and then puts it again: etcd forgets it, and loses the put when
    /// compacted at exactly that revision.
    fn oldest_after(&self, at: i64) -> Oldest {
        let generations = self.generations();
        let ended =
            generations.partition_point(|g| g.revisions.last().is_some_and(|last| last.main < at));
        let begun =
            |revisions: &[Revision]| revisions.first().is_some_and(|first| first.main <= at);
        let later = generations
            .iter()
            .rposition(|g| begun(&g.revisions))
            .filter(|later| *later > ended);
        let present_begun = self.revisions().first().unwrap_or(&self.head).main <= at;
        if ended < generations.len() && !present_begun {
            return Oldest::Ended(later.unwrap_or(ended));
        }
        if self.dead && self.head.main < at {
            Oldest::None
        } else {
            Oldest::Present
        }
    }

    /// The change that a compaction at `at` keeps of this key, and whether it is a deletion.
    fn kept(&self, at: i64) -> Option<(Revision, bool)> {
        match self.oldest_after(at) {
            Oldest::Ended(i) => {
                let revisions = &self.generations()[i].revisions;
                let (i, kept) = newest_until(revisions, at)?;
                Some((kept, i + 1 == revisions.len()))
            }
            Oldest::Present if self.head.main <= at => Some((self.head, self.dead)),
            Oldest::Present => newest_until(self.revisions(), at).map(|(_, kept)| (kept, false)),
            Oldest::None => None,
        }
    }

    /// The change of this key that is part of the state at `at` in the sense of the hash: what a compaction there
    /// would keep, but no deletion.
    pub fn kept_for_hash(&self, at: i64) -> Option<Revision> {
        self.kept(at)
            .filter(|(_, tombstone)| !tombstone)
            .map(|(kept, _)| kept)
    }

    /// Forgets what no reader at `at` or later can see. Returns the change that stays for readers at `at`, and
    /// whether anything is left at all.
    pub fn compact(&mut self, at: i64) -> (Option<Revision>, bool) {
        let kept = self.kept(at).map(|(kept, _)| kept);
        let oldest = self.oldest_after(at);
        if let Some(past) = &mut self.past {
            let revisions = match oldest {
                Oldest::Ended(i) => {
                    past.generations.drain(..i);
                    past.generations
                        .first_mut()
                        .map(|generation| &mut generation.revisions)
                }
                Oldest::Present | Oldest::None => {
                    past.generations = Vec::new();
                    Some(&mut past.revisions)
                }
            };
            if let (Some(kept), Some(revisions)) = (kept, revisions) {
                revisions.retain(|revision| *revision >= kept);
                revisions.shrink_to_fit();
            }
            past.generations.shrink_to_fit();
            if past.revisions.is_empty() && past.generations.is_empty() {
                self.past = None;
            }
        }
        (kept, oldest != Oldest::None)
    }

    /// The newest pair if it is in the cache; notes that it was wanted.
    pub fn cached(&self) -> Option<&RawKv> {
        // Most of the time the flag is set already, and a load does not take the cache line away from other readers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.value.as_ref()
    }

    /// Puts the newest pair into the cache or takes it out; returns what was there.
    pub fn set_cached(&mut self, value: Option<RawKv>) -> Option<RawKv> {
        std::mem::replace(&mut self.value, value)
    }

    /// For the cache's hand: takes the pair out unless it was wanted since the last time.
    pub fn age(&mut self) -> Option<RawKv> {
        if self.value.is_some() && !self.used.swap(false, Ordering::Relaxed) {
            self.value.take()
        } else {
            None
        }
    }

    /// How many changes of the key the index knows.
    pub fn len(&self) -> usize {
        let ended: usize = self
            .generations()
            .iter()
            .map(|generation| generation.revisions.len())
            .sum();
        1 + self.revisions().len() + ended
    }
}

/// Position and value of the last revision that is not after `at`.
fn newest_until(revisions: &[Revision], at: i64) -> Option<(usize, Revision)> {
    let i = revisions
        .partition_point(|revision| revision.main <= at)
        .checked_sub(1)?;
    Some((i, revisions[i]))
}

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;

use crate::permissions::User;

/// Parts the users are kept in: a change copies only one of them.
const SHARDS: usize = 64;

type Shard = HashMap<Bytes, Arc<User>, BuildFnv>;

/// Users by name. A copy shares everything with the original until one of them is changed.
#[derive(Clone, Debug)]
pub(crate) struct UserMap {
    shards: Vec<Arc<Shard>>,
}

impl Default for UserMap {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS],
        }
    }
}

impl UserMap {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.shards[shard_of(name)].get(name)
    }

    pub(crate) fn insert(&mut self, name: Bytes, user: User) {
        let shard = shard_of(&name);
        Arc::make_mut(&mut self.shards[shard]).insert(name, Arc::new(user));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        Arc::make_mut(&mut self.shards[shard_of(name)]).remove(name);
    }
}

fn shard_of(name: &[u8]) -> usize {
    spread(name, SHARDS)
}

/// Chooses one of `count` parts for a key, evenly also where keys differ in their last byte only.
pub(crate) fn spread(key: &[u8], count: usize) -> usize {
    let mut hasher = Fnv::default();
    hasher.write(key);
    (hasher.finish().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % count
}

/// FNV-1a. Nobody can make keys collide: names of users come from root, and tokens that are kept from members.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BuildFnv;

impl BuildHasher for BuildFnv {
    type Hasher = Fnv;

    fn build_hasher(&self) -> Fnv {
        Fnv::default()
    }
}

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
    // The low bits choose the slot within the shard.
    (fnv(name) >> 32) as usize % SHARDS
}

/// FNV-1a. Nobody can make keys collide: names of users come from root, and tokens that are kept from members.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(bytes);
    hasher.finish()
}

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

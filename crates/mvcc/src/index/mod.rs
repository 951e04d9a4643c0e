//! The index: which changes exist of each key, in memory.

mod bulk;
mod entry;
mod sorted;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use entry::Entry;
pub use entry::KeyMeta;
pub(crate) use tree::{Counter, Tree};

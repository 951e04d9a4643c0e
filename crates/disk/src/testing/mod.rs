//! A file system for tests that remembers what was done to it.
//!
//! [`RecordingFs`] works on a real directory, so locks and mappings behave as they do in the product. It
//! records every change in order and can
//!
//! * write the directory as a power failure after any number of operations could have left it
//!   ([`RecordingFs::crash_image`]), and
//! * make the n-th operation of a kind fail ([`RecordingFs::fail`]).
//!
//! The usual shape of a crash test: run the code under test, note [`RecordingFs::op_count`] whenever it
//! acknowledges something, then for every `n` and a few seeds build the image, open it, and compare with
//! what had been acknowledged by `n`.

mod faults;
mod image;
mod recorder;
#[cfg(test)]
mod tests;

pub use faults::{Fault, OpKind};
pub use recorder::RecordingFs;

/// A small deterministic generator (splitmix64), so that a seed always means the same image.
#[derive(Clone, Debug)]
pub(crate) struct Chooser(u64);

impl Chooser {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            0
        } else {
            (self.next() % bound as u64) as usize
        }
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes request ids that no two members and no two runs of a member share.
///
/// The upper 16 bits are the member's, the next 40 the milliseconds at start, the last 8 a counter that
/// may run over into the milliseconds: etcd's own form, so that ids of mixed clusters cannot meet.
#[derive(Debug)]
pub struct IdGenerator {
    prefix: u64,
    suffix: AtomicU64,
}

const SUFFIX_BITS: u32 = 48;
const SUFFIX_MASK: u64 = (1 << SUFFIX_BITS) - 1;

impl IdGenerator {
    /// `unix_millis` is the time of the start; see the type.
    pub fn new(member_id: u64, unix_millis: u64) -> Self {
        Self {
            prefix: (member_id & 0xffff) << SUFFIX_BITS,
            suffix: AtomicU64::new((unix_millis << 8) & SUFFIX_MASK),
        }
    }

    /// The next id.
    pub fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.prefix | (suffix & SUFFIX_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_member_time_and_a_counter_that_starts_at_one() {
        let ids = IdGenerator::new(0xabcd_1234, 0x01_0203_0405);
        assert_eq!(ids.next(), 0x1234_0102_0304_0501);
        assert_eq!(ids.next(), 0x1234_0102_0304_0502);
    }

    #[test]
    fn the_counter_never_reaches_the_members_bits() {
        let ids = IdGenerator::new(7, (1 << 40) - 1);
        for _ in 0..300 {
            assert_eq!(ids.next() >> SUFFIX_BITS, 7);
        }
    }
}

//! The order Go's `sort.Sort` leaves elements in.
//!
//! Go sorts by an unstable, but deterministic method: where elements compare as equal, their order afterwards
//! depends on every comparison and swap it made. Permissions of a role are stored in that order, so members that
//! sorted in another way would hold different records. This is pattern-defeating quicksort with Go's constants (as of
//! Go 1.19, with the generator as corrected in 1.21); `interop/sortcheck` compares the two.

/// Ranges up to this length are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// From this length on, a pivot is the median of three medians, and a nearly sorted range is repaired.
const LONG: usize = 50;
/// Pivots of shorter ranges are taken without looking.
const SAMPLED: usize = 8;
/// All samples of a pivot were out of order: four medians of three swaps.
const ALL_SWAPS: u32 = 12;
/// Out-of-order pairs a nearly sorted range is repaired for before it counts as unsorted.
const REPAIRS: u32 = 5;

/// Sorts as Go's `sort.Sort` does with this `less`.
pub fn sort<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let length = items.len();
    if length > 1 {
        let bad_pivots_allowed = usize::BITS - length.leading_zeros();
        Sorter { items, less }.quicksort(0, length, bad_pivots_allowed);
    }
}

/// What the samples for a pivot say about the range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Rising,
    Falling,
    Unknown,
}

struct Sorter<'a, T, F> {
    items: &'a mut [T],
    less: F,
}

impl<T, F: Fn(&T, &T) -> bool> Sorter<'_, T, F> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(&self.items[a], &self.items[b])
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
    }

    /// Sorts `start..end`; after `bad_pivots_allowed` unbalanced partitions by heap.
    fn quicksort(&mut self, mut start: usize, mut end: usize, mut bad_pivots_allowed: u32) {
        let mut balanced = true;
        let mut was_partitioned = true;
        loop {
            let length = end - start;
            if length <= INSERTION_MAX {
                return self.insertion_sort(start, end);
            }
            if bad_pivots_allowed == 0 {
                return self.heap_sort(start, end);
            }
            if !balanced {
                self.scatter(start, end);
                bad_pivots_allowed -= 1;
            }
            let (mut pivot, mut shape) = self.choose_pivot(start, end);
            if shape == Shape::Falling {
                self.items[start..end].reverse();
                pivot = (end - 1) - (pivot - start);
                shape = Shape::Rising;
            }
            if balanced && was_partitioned && shape == Shape::Rising && self.repair(start, end) {
                return;
            }
            // The element before the range is a lower bound: if the pivot equals it, so does much of the range.
            if start > 0 && !self.less(start - 1, pivot) {
                start = self.partition_equal(start, end, pivot);
                continue;
            }
            let middle;
            (middle, was_partitioned) = self.partition(start, end, pivot);
            let (left, right) = (middle - start, end - middle);
            balanced = left.min(right) >= length / 8;
            // The shorter side first, so that the depth stays logarithmic.
            if left < right {
                self.quicksort(start, middle, bad_pivots_allowed);
                start = middle + 1;
            } else {
                self.quicksort(middle + 1, end, bad_pivots_allowed);
                end = middle;
            }
        }
    }

    fn insertion_sort(&mut self, start: usize, end: usize) {
        for next in start + 1..end {
            self.sink_left(next, start);
        }
    }

    /// Moves an element to the left while it is less than its neighbour, at most to `lowest`.
    fn sink_left(&mut self, from: usize, lowest: usize) {
        let mut at = from;
        while at > lowest && self.less(at, at - 1) {
            self.swap(at, at - 1);
            at -= 1;
        }
    }

    fn heap_sort(&mut self, start: usize, end: usize) {
        let length = end - start;
        for root in (0..=(length - 1) / 2).rev() {
            self.sift_down(root, length, start);
        }
        for last in (0..length).rev() {
            self.swap(start, start + last);
            self.sift_down(0, last, start);
        }
    }

    fn sift_down(&mut self, mut root: usize, length: usize, start: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= length {
                return;
            }
            if child + 1 < length && self.less(start + child, start + child + 1) {
                child += 1;
            }
            if !self.less(start + root, start + child) {
                return;
            }
            self.swap(start + root, start + child);
            root = child;
        }
    }

    /// Swaps three elements around the middle with pseudo-random ones, against inputs made to be slow.
    fn scatter(&mut self, start: usize, end: usize) {
        let length = end - start;
        if length < SAMPLED {
            return;
        }
        let mut state = length as u64;
        let mask = (1_u64 << (u64::BITS - state.leading_zeros())) - 1;
        let first = start + (length / 4) * 2 - 1;
        for step in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut other = (state & mask) as usize;
            if other >= length {
                other -= length;
            }
            self.swap(first + step, start + other);
        }
    }

    fn choose_pivot(&self, start: usize, end: usize) -> (usize, Shape) {
        let length = end - start;
        let quarter = length / 4;
        let mut samples = [start + quarter, start + quarter * 2, start + quarter * 3];
        let mut swaps = 0;
        let mut pivot = samples[1];
        if length >= SAMPLED {
            if length >= LONG {
                samples = samples.map(|at| self.median([at - 1, at, at + 1], &mut swaps));
            }
            pivot = self.median(samples, &mut swaps);
        }
        let shape = match swaps {
            0 => Shape::Rising,
            ALL_SWAPS => Shape::Falling,
            _ => Shape::Unknown,
        };
        (pivot, shape)
    }

    /// The place of the median of three elements; counts how often two had to change places for it.
    fn median(&self, [mut a, mut b, mut c]: [usize; 3], swaps: &mut u32) -> usize {
        let mut order = |low: &mut usize, high: &mut usize| {
            if self.less(*high, *low) {
                *swaps += 1;
                std::mem::swap(low, high);
            }
        };
        order(&mut a, &mut b);
        order(&mut b, &mut c);
        order(&mut a, &mut b);
        b
    }

    /// Sorts a range in which few elements are out of place; whether that worked.
    fn repair(&mut self, start: usize, end: usize) -> bool {
        let mut at = start + 1;
        for _ in 0..REPAIRS {
            while at < end && !self.less(at, at - 1) {
                at += 1;
            }
            if at == end {
                return true;
            }
            if end - start < LONG {
                return false;
            }
            self.swap(at, at - 1);
            if at - start >= 2 {
                // Not bounded by the range: what is before it is not greater.
                self.sink_left(at - 1, 0);
            }
            if end - at >= 2 {
                let mut right = at + 1;
                while right < end && self.less(right, right - 1) {
                    self.swap(right, right - 1);
                    right += 1;
                }
            }
        }
        false
    }

    /// Brings what is less than the pivot before it and the rest behind it; where the pivot is then, and whether
    /// nothing had to move.
    fn partition(&mut self, start: usize, end: usize, pivot: usize) -> (usize, bool) {
        self.swap(start, pivot);
        // `low..high` is what has not been looked at.
        let (mut low, mut high) = (start + 1, end);
        let mut moved = false;
        loop {
            while low < high && self.less(low, start) {
                low += 1;
            }
            while low < high && !self.less(high - 1, start) {
                high -= 1;
            }
            if low >= high {
                break;
            }
            self.swap(low, high - 1);
            moved = true;
            low += 1;
            high -= 1;
        }
        self.swap(high - 1, start);
        (high - 1, !moved)
    }

    /// Brings what equals the pivot to the front of a range without lesser elements; where the others begin.
    fn partition_equal(&mut self, start: usize, end: usize, pivot: usize) -> usize {
        self.swap(start, pivot);
        let (mut low, mut high) = (start + 1, end);
        loop {
            while low < high && !self.less(start, low) {
                low += 1;
            }
            while low < high && self.less(start, high - 1) {
                high -= 1;
            }
            if low >= high {
                return low;
            }
            self.swap(low, high - 1);
            low += 1;
            high -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort;

    #[test]
    fn sorts() {
        for length in 0..200_u64 {
            for modulus in [2, 7, 1000] {
                let mut items: Vec<u64> = (0..length)
                    .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % modulus)
                    .collect();
                let mut expected = items.clone();
                expected.sort_unstable();
                sort(&mut items, |a, b| a < b);
                assert_eq!(items, expected);
            }
        }
    }

    /// With a comparison that is no order nothing panics, and nothing gets lost.
    #[test]
    fn survives_a_comparison_without_sense() {
        for length in [13, 50, 51, 300, 1000] {
            let mut items: Vec<u32> = (0..length).collect();
            let state = std::cell::Cell::new(1_u32);
            sort(&mut items, |a, b| {
                state.set(state.get().wrapping_mul(1_664_525).wrapping_add(a ^ b));
                state.get() & 0x1_0000 != 0
            });
            items.sort_unstable();
            assert_eq!(items, (0..length).collect::<Vec<_>>());
        }
    }
}

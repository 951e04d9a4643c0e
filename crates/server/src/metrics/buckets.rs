//! Upper bounds of histograms; each series doubles.

/// Syncs and commits: 1 ms to 8 s.
pub const DISK: &[f64] = &doubling::<14>(0.001);
/// Reception of a database: 0.1 s to 51 s.
pub const SNAPSHOT_SAVE: &[f64] = &doubling::<10>(0.1);
/// Applying and reading: 0.1 ms to 52 s.
pub const COMMIT: &[f64] = &doubling::<20>(0.0001);
/// Hashes: 10 ms to 164 s.
pub const HASH: &[f64] = &doubling::<15>(0.01);
/// Sending a database: 10 ms to 11 min.
pub const SNAPSHOT: &[f64] = &doubling::<17>(0.01);
/// Defragmentation: 0.1 s to 7 min.
pub const DEFRAG: &[f64] = &doubling::<13>(0.1);
/// TTLs: 1 s to 97 days.
pub const TTL: &[f64] = &doubling::<24>(1.0);

const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * 2.0;
        at += 1;
    }
    bounds
}

//! Waiting for a condition with a bound.

use std::time::{Duration, Instant};

/// Calls `probe` every few milliseconds until it gives a value; `None` when `limit` has passed.
pub fn until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a test waits for something that normally takes milliseconds before it calls it missing. Generous:
/// the machines that run tests are often busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

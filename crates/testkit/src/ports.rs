//! Loopback ports that no other test uses.
//!
//! Asking the kernel for a free port and closing it again races with every other test of the machine. Here a port
//! is reserved by a lock file, which all test processes respect and which the kernel drops with its holder.

use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range Linux takes ephemeral ports from, so that outgoing connections never collide.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A reserved port; free again when dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port nobody listens on at 127.0.0.1.
    ///
    /// # Panics
    /// When none is left, or the lock directory cannot be made.
    pub fn reserve() -> Self {
        let dir = std::env::temp_dir().join("stele-test-ports");
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        let start = (std::process::id() as u16).wrapping_mul(37) % COUNT;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + step) % COUNT;
            let Ok(lock) = File::create(dir.join(number.to_string())) else {
                continue;
            };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

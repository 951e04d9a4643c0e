//! Whether another member can be reached.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gotext::Hex;

use crate::Observer;

/// Pause between two lines about dropped messages to one member.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// One member, as the connections to and from it tell.
pub(crate) struct Activity {
    id: u64,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    drop_logged: Option<Instant>,
}

impl Activity {
    /// Unreachable at first.
    pub fn new(id: u64, observer: Arc<dyn Observer>) -> Self {
        Self {
            id,
            observer,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was made, or a message got through.
    pub fn activate(&self) {
        let mut state = self.lock();
        if state.since.is_none() {
            state.since = Some(Instant::now());
            drop(state);
            tracing::info!("peer-id" = %Hex(self.id), "peer became active");
            self.observer.active(self.id, true);
        }
    }

    /// Something failed: `failed to <action> <id> on <place> (<cause>)`.
    pub fn deactivate(&self, action: &str, place: &str, cause: &str) {
        let id = Hex(self.id);
        let error = format!("failed to {action} {id} on {place} ({cause})");
        let was_active = self.lock().since.take().is_some();
        if was_active {
            tracing::warn!("peer-id" = %id, error, "peer became inactive (message send to peer failed)");
            self.observer.active(self.id, false);
        } else {
            tracing::debug!("peer-id" = %id, error, "peer deactivated again");
        }
    }

    /// Since when it can be reached; `None` if it cannot.
    pub fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    /// Whether a dropped message deserves a line, being the first in a while.
    pub fn may_log_drop(&self) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let due = state
            .drop_logged
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY);
        if due {
            state.drop_logged = Some(now);
        }
        due
    }
}

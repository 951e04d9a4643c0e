//! Waiting until something is durable.

use std::sync::Arc;

use crate::Error;
use crate::control::Control;
use crate::layers::Mark;

/// Stands for changes that are on their way to the file.
#[derive(Clone, Debug)]
#[must_use = "changes are durable only after `wait`"]
pub struct Ticket {
    control: Arc<Control>,
    mark: Mark,
}

impl Ticket {
    pub(crate) fn new(control: Arc<Control>, mark: Mark) -> Self {
        Self { control, mark }
    }

    /// Blocks until the changes are synced. A ticket drawn inside of an entry waits for the end of that entry, so
    /// the thread that applies must not wait before it has ended it.
    ///
    /// Fails if a commit failed or the backend was closed first.
    pub fn wait(&self) -> Result<(), Error> {
        self.control.wait(self.mark)
    }

    /// Whether [`Ticket::wait`] would return at once.
    pub fn is_done(&self) -> bool {
        self.control.is_done(self.mark)
    }
}

//! The threads of the transport.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The threads that talk to other members, called `peer`. Everything that is made for them ends with them.
#[derive(Debug)]
pub struct PeerRuntime {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl PeerRuntime {
    /// Starts so many threads.
    pub fn start(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("peer")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        })
    }

    /// How many threads suit this machine: half of its cores, at most four.
    pub fn default_threads() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores / 2).clamp(1, 4)
    }

    /// For whatever else should run on these threads.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future and waits for it. Not to be called from a runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Ends the threads, waiting for what blocks at most for `limit`. Not to be called from a runtime.
    pub fn stop(&self, limit: Duration) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(limit);
        }
    }
}

impl Drop for PeerRuntime {
    fn drop(&mut self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

/// Runs a future on a runtime; dropping the result's future stops it.
pub(crate) async fn run_on<T: Send + 'static>(
    handle: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    struct Abort<T>(JoinHandle<T>);
    impl<T> Drop for Abort<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = Abort(handle.spawn(future));
    // Fails when the runtime ends meanwhile.
    (&mut task.0).await.ok()
}

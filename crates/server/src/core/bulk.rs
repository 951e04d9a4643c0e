use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Threads that build long lists.
const THREADS: usize = 2;
/// Lists that may wait for one; more are refused.
const QUEUE: usize = 4096;
/// How far these threads stand back behind everything else when cores are scarce.
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for reads that take long enough to hold up a frontend's other clients: long lists.
///
/// They have a lower priority than everything on the way of a write, so that a client that lists all keys slows down
/// its own list and nobody's put.
#[derive(Debug)]
pub struct Bulk {
    jobs: SyncSender<Job>,
}

impl Bulk {
    /// Starts the threads; they end when the value is dropped.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(QUEUE);
        let todo = Arc::new(Mutex::new(todo));
        for number in 0..THREADS {
            let todo = Arc::clone(&todo);
            std::thread::Builder::new()
                .name(format!("bulk-{number}"))
                .spawn(move || work(&todo))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` on one of the threads and waits for its result.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, api::Error> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // A client that is gone needs no list.
            if !done.is_closed() {
                let _ = done.send(work());
            }
        });
        self.jobs
            .try_send(job)
            .map_err(|_| api::Error::TooManyRequests)?;
        result.await.map_err(|_| api::Error::Stopped)
    }
}

fn work(todo: &Mutex<Receiver<Job>>) {
    // Without the permission to stand back, the threads compete like any other.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_elsewhere_and_its_result_comes_back() {
        let bulk = Bulk::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let here = std::thread::current().id();
        let there = runtime
            .block_on(bulk.run(move || std::thread::current().id()))
            .unwrap();
        assert_ne!(here, there);
    }
}

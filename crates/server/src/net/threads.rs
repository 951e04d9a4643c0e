//! The threads and what is handed to them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Handler, Options, connection};

/// What a thread does next, on its runtime.
type Job = Box<dyn FnOnce() + Send>;

/// Connections that may wait for a busy thread; more wait in the kernel.
const QUEUE: usize = 64;
/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tasks that run between two looks at the sockets. A task that sends a piece of a list takes some 50 µs.
const EVENT_INTERVAL: u32 = 8;

/// Threads that serve connections. See the module.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    joins: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queues: Vec<mpsc::Sender<Job>>,
    next: AtomicUsize,
    /// Cancelled when no more requests are taken.
    stop: CancellationToken,
    /// Cancelled when nobody waits for answers any more.
    abort: CancellationToken,
    connections: TaskTracker,
}

impl Threads {
    /// Starts `count` threads, at least one. `stop` ends everything that is served, gracefully.
    pub fn start(count: usize, stop: CancellationToken) -> io::Result<Self> {
        let (queues, jobs): (Vec<_>, Vec<_>) =
            (0..count.max(1)).map(|_| mpsc::channel(QUEUE)).unzip();
        let shared = Arc::new(Shared {
            queues,
            next: AtomicUsize::new(0),
            stop,
            abort: CancellationToken::new(),
            connections: TaskTracker::new(),
        });
        let mut joins = Vec::new();
        for (number, jobs) in jobs.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                // Look at the sockets often: what others wait for is behind them.
                .event_interval(EVENT_INTERVAL)
                .enable_all()
                .build()?;
            let abort = shared.abort.clone();
            let run = move || runtime.block_on(run(jobs, abort));
            joins.push(
                Builder::new()
                    .name(format!("frontend-{number}"))
                    .spawn(run)?,
            );
        }
        Ok(Self { shared, joins })
    }

    /// Serves a listener from now on.
    pub fn serve(
        &self,
        listener: TcpListener,
        handler: impl Handler,
        options: Options,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let shared = Arc::clone(&self.shared);
        let job: Job = Box::new(move || {
            tokio::spawn(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, shared, handler, options).await,
                    Err(error) => tracing::error!(%error, "listener failed"),
                }
            });
        });
        self.shared
            .queue()
            .try_send(job)
            .map_err(|_| io::Error::other("the threads are gone or busy"))
    }

    /// Stops: no more connections, no more requests; waits for the answers under way, at most for `limit`, and for
    /// the threads. Blocks; not to be called on a runtime.
    pub fn stop(self, limit: Duration) {
        self.shared.stop.cancel();
        self.shared.connections.close();
        let (done, ended) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let job: Job = Box::new(move || {
            tokio::spawn(async move {
                shared.connections.wait().await;
                // Whoever waited may have given up.
                let _ = done.send(());
            });
        });
        if self.shared.queue().try_send(job).is_ok() && ended.recv_timeout(limit).is_err() {
            tracing::warn!("some connections were closed before all their requests were answered");
        }
        self.shared.abort.cancel();
        for join in self.joins {
            // A panic there was reported by its own thread.
            let _ = join.join();
        }
    }
}

impl Shared {
    /// The queue whose turn it is.
    fn queue(&self) -> &mpsc::Sender<Job> {
        &self.queues[self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len()]
    }
}

async fn run(mut jobs: mpsc::Receiver<Job>, abort: CancellationToken) {
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => job(),
                None => return,
            },
            () = abort.cancelled() => return,
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    handler: impl Handler,
    options: Options,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let handed = match accepted {
            Ok((stream, _)) => hand_over(stream, &shared, handler.clone(), options).await,
            Err(error) => Err(error),
        };
        if let Err(error) = handed {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Gives a connection to the next thread.
async fn hand_over(
    stream: TcpStream,
    shared: &Arc<Shared>,
    handler: impl Handler,
    options: Options,
) -> io::Result<()> {
    // A client that is gone already is noticed when its connection is served.
    let _ = stream.set_nodelay(true);
    let stream = stream.into_std()?;
    let for_job = Arc::clone(shared);
    let job: Job = Box::new(move || match TcpStream::from_std(stream) {
        Ok(stream) => {
            let stop = for_job.stop.clone();
            let serve = connection::serve(stream, options.builder(), handler, stop);
            for_job.connections.spawn(serve);
        }
        Err(error) => tracing::warn!(%error, "cannot serve a connection"),
    });
    // The queues live as long as `shared`; a thread that ended drops what it gets.
    let _ = shared.queue().send(job).await;
    Ok(())
}

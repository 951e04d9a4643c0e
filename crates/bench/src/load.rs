//! Puts at a fixed rate, whatever the server does: an open loop.
//!
//! A thread wakes when a put is due and hands over the moment it was due; latency counts from there. So a
//! server that stands still for a second is charged for every put of that second, not for one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use api::etcdserverpb::PutRequest;
use api::etcdserverpb::kv_client::KvClient;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use crate::Error;
use crate::client;

/// Connections that share the load.
const CONNECTIONS: usize = 8;
/// Keys the puts go to.
const KEYS: u64 = 10_000;
/// Size of their values.
const VALUE: usize = 256;
/// Puts that may be due and not sent; more are counted as failed.
const BACKLOG: usize = 65_536;
/// Longest latency that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 120_000_000;
/// How long to wait for the last answers.
const GRACE: Duration = Duration::from_secs(10);

/// What became of the puts.
#[derive(Debug)]
pub struct Outcome {
    /// Microseconds from due to answered.
    pub latency: Histogram<u64>,
    /// Puts that failed or were never answered.
    pub failed: u64,
}

impl Outcome {
    /// A percentile in milliseconds.
    pub fn millis(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1000.0
    }
}

/// Puts at `rate` per second for `time`. Blocks; the load has a thread and a runtime of its own.
pub fn run(endpoint: &str, rate: u32, time: Duration) -> Result<Outcome, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (due, queue) = mpsc::channel(BACKLOG);
    let connections = runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            all.push(KvClient::new(client::connect(endpoint).await?));
        }
        Ok::<_, Error>(all)
    })?;
    let total = (f64::from(rate) * time.as_secs_f64()) as u64;
    let pacer = std::thread::Builder::new()
        .name("pacer".into())
        .spawn(move || {
            let start = Instant::now();
            let mut dropped = 0;
            for i in 0..total {
                let at = start + Duration::from_secs_f64(i as f64 / f64::from(rate));
                if let Some(wait) = at.checked_duration_since(Instant::now()) {
                    std::thread::sleep(wait);
                }
                dropped += u64::from(due.try_send(at).is_err());
            }
            dropped
        })?;
    let local = tokio::task::LocalSet::new();
    let mut outcome = local.block_on(&runtime, drive(connections, queue))?;
    outcome.failed += pacer.join().unwrap_or(total);
    Ok(outcome)
}

/// Sends each put when it is due and collects the answers.
async fn drive(
    connections: Vec<KvClient<tonic::transport::Channel>>,
    mut queue: mpsc::Receiver<Instant>,
) -> Result<Outcome, Error> {
    let latency = Histogram::new_with_bounds(1, LONGEST, 3)
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    let outcome = Rc::new(RefCell::new(Outcome { latency, failed: 0 }));
    let mut tasks = tokio::task::JoinSet::new();
    let mut next = 0u64;
    while let Some(at) = queue.recv().await {
        let mut connection = connections[next as usize % connections.len()].clone();
        let key = format!("load/{:08}", next.wrapping_mul(2_654_435_761) % KEYS);
        let value = client::value(next, VALUE);
        next += 1;
        let outcome = Rc::clone(&outcome);
        tasks.spawn_local(async move {
            let put = PutRequest {
                key: key.into(),
                value,
                ..Default::default()
            };
            let result = connection.put(put).await;
            let micros = at.elapsed().as_micros() as u64;
            let mut outcome = outcome.borrow_mut();
            match result {
                Ok(_) => outcome.latency.saturating_record(micros.max(1)),
                Err(_) => outcome.failed += 1,
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(GRACE, all).await.is_ok();
    let unanswered = if in_time { 0 } else { tasks.len() as u64 };
    tasks.shutdown().await;
    let outcome = Rc::into_inner(outcome).ok_or(Error::Ended)?;
    let mut outcome = outcome.into_inner();
    outcome.failed += unanswered;
    Ok(outcome)
}

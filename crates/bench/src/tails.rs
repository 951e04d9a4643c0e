//! Latency of puts while something heavy goes on beside them.

use std::sync::atomic::{AtomicU64, Ordering};

use testkit::Server;

use crate::args::Args;
use crate::background::{self, Work};
use crate::pair::{Programs, order};
use crate::report::{Column, Table};
use crate::{Error, client, load, process};

const COLUMNS: [Column; 9] = [
    Column {
        name: "p50 ms",
        digits: 2,
    },
    Column {
        name: "p99 ms",
        digits: 2,
    },
    Column {
        name: "p99.9 ms",
        digits: 2,
    },
    Column {
        name: "p99.9 / idle",
        digits: 1,
    },
    Column {
        name: "max ms",
        digits: 1,
    },
    Column {
        name: "failed",
        digits: 0,
    },
    Column {
        name: "CPU %",
        digits: 0,
    },
    Column {
        name: "RSS MiB",
        digits: 0,
    },
    Column {
        name: "pieces of background work/s",
        digits: 2,
    },
];

/// Where p99.9 stands among the columns.
const P999: usize = 2;

/// Puts at a fixed rate on both servers in turn, once per kind of background work and round.
pub fn run(args: &Args, programs: &Programs) -> Result<Vec<Table>, Error> {
    let note = format!(
        "{} puts/s of 256 bytes in an open loop beside {} keys of {} bytes; latency counts from the moment a put \
         was due. `p99.9 / idle` compares with the same server's row *nothing*.",
        args.rate,
        background::KEYS,
        background::VALUE
    );
    let mut table = Table::new("Tails", note, &COLUMNS);
    let pair = programs.start_both()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for side in order(0) {
        let endpoint = pair.get(side).endpoint();
        let filling = client::fill(
            &endpoint,
            background::PREFIX,
            background::KEYS,
            background::VALUE,
        );
        runtime.block_on(filling)?;
    }
    for work in Work::ALL
        .into_iter()
        .filter(|w| w.name().contains(&args.filter))
    {
        for round in 0..args.rounds() {
            for side in order(round) {
                let idle = table.median(Work::Nothing.name(), side, P999);
                let result = measure(args, &runtime, pair.get(side), work, idle);
                table.add(work.name(), side, round, result);
            }
        }
    }
    Ok(vec![table])
}

fn measure(
    args: &Args,
    runtime: &tokio::runtime::Runtime,
    server: &Server,
    work: Work,
    idle: Option<f64>,
) -> Result<Vec<Option<f64>>, Error> {
    let endpoint = server.endpoint();
    let done = std::sync::Arc::new(AtomicU64::new(0));
    let beside = {
        let (endpoint, done) = (endpoint.clone(), std::sync::Arc::clone(&done));
        runtime.spawn(async move { work.run(&endpoint, &done).await })
    };
    let before = process::sample(server.pid())?;
    let start = std::time::Instant::now();
    let outcome = load::run(&endpoint, args.rate, args.tail_time());
    let took = start.elapsed().as_secs_f64();
    let after = process::sample(server.pid())?;
    // It works until it is stopped; if it has ended, it failed.
    if beside.is_finished() {
        runtime.block_on(beside).map_err(|_| Error::Ended)??;
        return Err(Error::Ended);
    }
    beside.abort();
    let outcome = outcome?;
    Ok(vec![
        Some(outcome.millis(50.0)),
        Some(outcome.millis(99.0)),
        Some(outcome.millis(99.9)),
        idle.filter(|_| work != Work::Nothing)
            .map(|idle| outcome.millis(99.9) / idle),
        Some(outcome.latency.max() as f64 / 1000.0),
        Some(outcome.failed as f64),
        Some(after.cpu_since(&before).as_secs_f64() * 100.0 / took),
        Some(after.rss as f64 / f64::from(1 << 20)),
        (work != Work::Nothing).then(|| done.load(Ordering::Relaxed) as f64 / took),
    ])
}

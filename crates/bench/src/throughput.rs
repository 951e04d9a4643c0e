//! Closed loops: upstream's tool as fast as it goes.

use std::time::Duration;

use crate::args::Args;
use crate::pair::{Pair, Programs, Side, order};
use crate::report::{Column, Table};
use crate::upstream::{self, Summary};
use crate::{Error, client, process};

const COLUMNS: [Column; 7] = [
    Column {
        name: "op/s",
        digits: 0,
    },
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
        name: "CPU µs/op",
        digits: 1,
    },
    Column {
        name: "RSS MiB",
        digits: 0,
    },
    Column {
        name: "KiB written/op",
        digits: 2,
    },
];

/// Operations of the run that finds out how long a run has to be.
const PROBE: u64 = 2000;

/// One kind of load.
struct Workload {
    name: &'static str,
    /// Arguments of the tool; the number of operations comes behind `total`.
    args: &'static str,
    total: &'static str,
    /// How many operations each counted request is.
    fan_out: u64,
    /// Operations of the first, short run.
    probe: u64,
}

/// A workload whose requests are its operations.
const fn plain(name: &'static str, args: &'static str) -> Workload {
    Workload {
        name,
        args,
        total: "--total",
        fan_out: 1,
        probe: PROBE,
    }
}

const WORKLOADS: [Workload; 8] = [
    Workload {
        probe: 300,
        ..plain(
            "put, 1 client",
            "put --clients=1 --conns=1 --val-size=256 --key-space-size=100000",
        )
    },
    plain(
        "put, 200 clients",
        "put --clients=200 --conns=20 --val-size=256 --key-space-size=100000",
    ),
    plain(
        "txn-put, 200 clients",
        "txn-put --clients=200 --conns=20 --val-size=256 --key-space-size=100000",
    ),
    plain(
        "linearizable range, 200 clients",
        "range one --consistency=l --clients=200 --conns=20",
    ),
    plain(
        "serializable range, 200 clients",
        "range one --consistency=s --clients=200 --conns=20",
    ),
    Workload {
        probe: 200,
        ..plain(
            "list of 1,000 keys of 1 KiB, 20 clients",
            "range list/ --prefix --consistency=l --clients=20 --conns=20",
        )
    },
    plain(
        "lease keepalive, 200 clients",
        "lease-keepalive --clients=200 --conns=20",
    ),
    Workload {
        name: "watch, each put to 100 watchers (events)",
        args: "watch --streams=20 --watch-per-stream=50 --watched-key-total=10 --put-rate=2000 --clients=20 --conns=20",
        total: "--put-total",
        fan_out: 100,
        probe: 200,
    },
];

/// Runs all workloads on both servers in turn.
pub fn run(args: &Args, programs: &Programs) -> Result<Vec<Table>, Error> {
    let note = "Load: upstream's `benchmark` tool, one member, values of 256 bytes unless said otherwise. \
        CPU is the server's user and system time. Each row of a watch is an event delivered.";
    let mut table = Table::new("Throughput", note.to_owned(), &COLUMNS);
    let pair = programs.start_both()?;
    prepare(&pair)?;
    for workload in WORKLOADS.iter().filter(|w| w.name.contains(&args.filter)) {
        // Both get the same work, sized by the server that is the yardstick.
        let total = match size(programs, &pair, workload, args.run_time()) {
            Ok(total) => total,
            Err(error) => {
                table.add(workload.name, Side::Go, 0, Err(error));
                continue;
            }
        };
        for round in 0..args.rounds() {
            for side in order(round) {
                let result = measure(programs, &pair, side, workload, total);
                table.add(workload.name, side, round, result);
            }
        }
    }
    Ok(vec![table])
}

/// Keys that the reading workloads need.
fn prepare(pair: &Pair) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for side in order(0) {
        let endpoint = pair.get(side).endpoint();
        runtime.block_on(async {
            client::fill(&endpoint, "list/", 1000, 1024).await?;
            client::put(&endpoint, "one", client::value(1, 256)).await
        })?;
    }
    Ok(())
}

fn tool(
    programs: &Programs,
    pair: &Pair,
    side: Side,
    workload: &Workload,
    total: u64,
) -> Result<Summary, Error> {
    let mut words: Vec<String> = workload
        .args
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    words.push(format!("{}={total}", workload.total));
    upstream::run(&programs.benchmark, &pair.get(side).endpoint(), &words)
}

/// How many requests keep the slower server busy for `time`; also warms both up.
fn size(
    programs: &Programs,
    pair: &Pair,
    workload: &Workload,
    time: Duration,
) -> Result<u64, Error> {
    let mut slowest = f64::INFINITY;
    for side in order(0) {
        let summary = tool(programs, pair, side, workload, workload.probe)?;
        slowest = slowest.min(summary.rate / workload.fan_out as f64);
    }
    Ok(((slowest * time.as_secs_f64()) as u64).max(workload.probe))
}

fn measure(
    programs: &Programs,
    pair: &Pair,
    side: Side,
    workload: &Workload,
    total: u64,
) -> Result<Vec<Option<f64>>, Error> {
    let pid = pair.get(side).pid();
    let before = process::sample(pid)?;
    let summary = tool(programs, pair, side, workload, total)?;
    let after = process::sample(pid)?;
    let ops = (total * workload.fan_out) as f64;
    // The tool measures the time between two events of a watcher, which is not a latency.
    let millis = |d: Option<Duration>| {
        d.filter(|_| workload.fan_out == 1)
            .map(|d| d.as_secs_f64() * 1000.0)
    };
    Ok(vec![
        Some(summary.rate),
        millis(summary.p50),
        millis(summary.p99),
        millis(summary.p999),
        Some(after.cpu_since(&before).as_secs_f64() * 1e6 / ops),
        Some(after.rss as f64 / f64::from(1 << 20)),
        Some((after.written - before.written) as f64 / 1024.0 / ops),
    ])
}

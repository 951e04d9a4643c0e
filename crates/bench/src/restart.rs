//! Starting with many keys.

use std::time::{Duration, Instant};

use testkit::Server;

use crate::args::Args;
use crate::pair::{Programs, order};
use crate::report::{Column, Table};
use crate::{Error, client, process};

const COLUMNS: [Column; 4] = [
    Column {
        name: "until a linearizable read is answered, ms",
        digits: 0,
    },
    Column {
        name: "CPU ms until then",
        digits: 0,
    },
    Column {
        name: "RSS MiB then",
        digits: 0,
    },
    Column {
        name: "RSS MiB after the fill",
        digits: 0,
    },
];

/// Size of the values.
const VALUE: usize = 512;
/// How long a start may take.
const LIMIT: Duration = Duration::from_mins(2);
/// Restarts are short: a few more rounds than elsewhere.
const EXTRA_ROUNDS: usize = 2;

/// Fills both servers, then stops and starts them in turn.
pub fn run(args: &Args, programs: &Programs) -> Result<Vec<Table>, Error> {
    let keys = args.restart_keys();
    let note = format!(
        "{keys} keys of {VALUE} bytes, files in the page cache, after a clean end and after SIGKILL."
    );
    let mut table = Table::new("Restart", note, &COLUMNS);
    let mut pair = programs.start_both()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut filled = Vec::new();
    for side in order(0) {
        let server = pair.get(side);
        runtime.block_on(client::fill(&server.endpoint(), "restart/", keys, VALUE))?;
        filled.push((side, process::sample(server.pid())?.rss));
    }
    for (name, clean) in [
        ("start after a clean end", true),
        ("start after SIGKILL", false),
    ] {
        for round in 0..args.rounds() + EXTRA_ROUNDS {
            for side in order(round) {
                let rss = filled
                    .iter()
                    .find(|(of, _)| *of == side)
                    .map(|(_, rss)| *rss);
                let result = measure(&runtime, pair.get_mut(side), clean).map(|mut values| {
                    values.push(rss.map(|rss| rss as f64 / f64::from(1 << 20)));
                    values
                });
                table.add(name, side, round, result);
            }
        }
    }
    Ok(vec![table])
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    server: &mut Server,
    clean: bool,
) -> Result<Vec<Option<f64>>, Error> {
    if clean {
        server.stop();
    } else {
        server.kill();
    }
    let endpoint = server.endpoint();
    let start = Instant::now();
    server.restart()?;
    runtime.block_on(client::wait_for_reads(&endpoint, LIMIT))?;
    let took = start.elapsed();
    let sample = process::sample(server.pid())?;
    Ok(vec![
        Some(took.as_secs_f64() * 1000.0),
        Some(sample.cpu.as_secs_f64() * 1000.0),
        Some(sample.rss as f64 / f64::from(1 << 20)),
    ])
}

//! Measures two servers side by side: ours and real etcd, in one run, on one machine, in turn.
//!
//! Absolute numbers of a shared machine mean little. What counts are the ratios, and the CPU time a server
//! spends per operation. So every workload runs on both servers one after the other, the order changes from
//! round to round, and a ratio is the median of the ratios of the rounds.
//!
//! Three sections:
//!
//! * `throughput`: closed loop, upstream's `benchmark` tool is the load;
//! * `tails`: 3,000 puts a second in an open loop (latency counts from the moment a put was *due*), while
//!   something heavy goes on beside them;
//! * `restart`: how long a start with many keys takes, and what it costs in memory.
//!
//! A Markdown report goes to standard output, progress to standard error, everything measured to the file
//! given with `--json`.

// A measuring program reads the clock, starts threads and writes files that need no durability.
#![allow(clippy::disallowed_methods)]

mod args;
mod background;
mod client;
mod load;
mod pair;
mod process;
mod report;
mod restart;
mod tails;
mod throughput;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Section};
use crate::report::Report;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A server did not start.
    #[error("{0}")]
    Start(#[from] testkit::StartError),
    /// A program that is needed is missing.
    #[error("{0}")]
    Missing(#[from] testkit::Skip),
    /// The load tool failed or said something unexpected.
    #[error("benchmark {args}: {problem}")]
    Tool {
        /// What it was asked to do.
        args: String,
        /// What it answered.
        problem: String,
    },
    /// A server answered with an error.
    #[error("{0}")]
    Answer(#[from] Box<tonic::Status>),
    /// A server could not be reached.
    #[error("{0}")]
    Connection(#[from] tonic::transport::Error),
    /// The operating system failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A server that is measured has ended.
    #[error("the server has ended")]
    Ended,
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Error::Answer(Box::new(status))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let programs = pair::Programs::find(args)?;
    let mut report = Report::new(args, &programs);
    for section in &args.only {
        eprintln!("== {section:?}");
        let tables = match section {
            Section::Throughput => throughput::run(args, &programs)?,
            Section::Tails => tails::run(args, &programs)?,
            Section::Restart => restart::run(args, &programs)?,
        };
        report.tables.extend(tables);
    }
    print!("{}", report.markdown());
    if let Some(path) = &args.json {
        std::fs::write(path, report.json())?;
    }
    Ok(())
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures our server and real etcd side by side.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Our server.
    #[arg(long, default_value = "target/release/etcd")]
    pub ours: PathBuf,
    /// The server to compare with; real etcd 3.7 from `interop/` if not given.
    #[arg(long)]
    pub go: Option<PathBuf>,
    /// Flags for our server only, separated by spaces.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub ours_flags: String,
    /// Flags for the other server only, separated by spaces.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub go_flags: String,
    /// About three minutes in all, for a first look: one round, short runs.
    #[arg(long)]
    pub quick: bool,
    /// How often each workload runs on each server.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Seconds one run of a workload should take on the slower server.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Keys in the database of the restart section.
    #[arg(long)]
    pub restart_keys: Option<usize>,
    /// Puts per second in the tails section.
    #[arg(long, default_value_t = 3000)]
    pub rate: u32,
    /// Which sections to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["throughput", "tails", "restart"])]
    pub only: Vec<Section>,
    /// Runs only workloads whose name contains this.
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Where to write everything measured.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Closed loop, as fast as it goes.
    Throughput,
    /// Open loop beside background work.
    Tails,
    /// Starting with many keys.
    Restart,
}

impl Args {
    /// How often each workload runs on each server.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    /// How long one closed-loop run should take.
    pub fn run_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 2.0 } else { 10.0 }))
    }

    /// How long one open-loop run takes.
    pub fn tail_time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 4.0 } else { 20.0 }))
    }

    /// Keys in the database of the restart section.
    pub fn restart_keys(&self) -> usize {
        self.restart_keys.unwrap_or(300_000)
    }
}

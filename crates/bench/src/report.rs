//! Tables of figures of two servers, and their ratios.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::Args;
use crate::pair::{Programs, Side};

/// One column.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Column {
    /// What is measured, with its unit.
    pub name: &'static str,
    /// Digits after the point.
    pub digits: usize,
}

/// What one run of one workload on one server measured: a value per column, if there is one.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Name of the row.
    pub workload: String,
    /// Which server.
    pub side: Side,
    /// Which round.
    pub round: usize,
    /// A value per column.
    pub values: Vec<Option<f64>>,
}

/// The runs of one section.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// Explains what was done.
    pub note: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// All runs.
    pub runs: Vec<Run>,
    /// Workloads that could not be measured, and why.
    pub failures: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str, note: String, columns: &[Column]) -> Self {
        Self {
            title: title.to_owned(),
            note,
            columns: columns.to_vec(),
            runs: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a run, or the reason why there is none.
    pub fn add(
        &mut self,
        workload: &str,
        side: Side,
        round: usize,
        result: Result<Vec<Option<f64>>, crate::Error>,
    ) {
        match result {
            Ok(values) => {
                let shown: Vec<String> = self
                    .columns
                    .iter()
                    .zip(&values)
                    .filter_map(|(c, v)| Some(format!("{} {:.*}", c.name, c.digits, (*v)?)))
                    .collect();
                eprintln!("{workload} {side:?}: {}", shown.join(", "));
                self.runs.push(Run {
                    workload: workload.to_owned(),
                    side,
                    round,
                    values,
                });
            }
            Err(error) => {
                eprintln!("{workload} {side:?}: {error}");
                self.failures.push(format!(
                    "{workload} ({side:?}, round {}): {error}",
                    round + 1
                ));
            }
        }
    }

    fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !names.contains(&run.workload.as_str()) {
                names.push(&run.workload);
            }
        }
        names
    }

    fn values(&self, workload: &str, side: Side, column: usize) -> Vec<(usize, f64)> {
        let wanted = |run: &&Run| run.workload == workload && run.side == side;
        let value = |run: &Run| Some((run.round, run.values.get(column).copied()??));
        self.runs.iter().filter(wanted).filter_map(value).collect()
    }

    /// Median over the rounds.
    pub fn median(&self, workload: &str, side: Side, column: usize) -> Option<f64> {
        median(
            self.values(workload, side, column)
                .into_iter()
                .map(|(_, v)| v)
                .collect(),
        )
    }

    /// Ours divided by Go's: the median over the rounds that both have.
    pub fn ratio(&self, workload: &str, column: usize) -> Option<f64> {
        let go = self.values(workload, Side::Go, column);
        let of_round = |(round, ours): (usize, f64)| {
            let (_, go) = go.iter().find(|(other, _)| *other == round)?;
            (*go > 0.0).then_some(ours / go)
        };
        median(
            self.values(workload, Side::Ours, column)
                .into_iter()
                .filter_map(of_round)
                .collect(),
        )
    }

    fn markdown(&self, out: &mut String) {
        let heads: Vec<&str> = self.columns.iter().map(|c| c.name).collect();
        let _ = writeln!(out, "\n### {}\n\n{}\n", self.title, self.note);
        let _ = writeln!(out, "| workload | server | {} |", heads.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---:|".repeat(heads.len()));
        for workload in self.workloads() {
            for (label, side) in [("ours", Side::Ours), ("go", Side::Go)] {
                let cells: Vec<String> = (0..heads.len())
                    .map(|i| show(self.median(workload, side, i), self.columns[i].digits))
                    .collect();
                let name = if side == Side::Ours { workload } else { "" };
                let _ = writeln!(out, "| {name} | {label} | {} |", cells.join(" | "));
            }
            let cells: Vec<String> = (0..heads.len())
                .map(|i| bold(self.ratio(workload, i)))
                .collect();
            let _ = writeln!(out, "| | **ratio** | {} |", cells.join(" | "));
        }
        if !self.failures.is_empty() {
            let _ = writeln!(out, "\nNot measured:\n");
            for failure in &self.failures {
                let _ = writeln!(out, "* {failure}");
            }
        }
    }
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
}

fn bold(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |r| format!("**{r:.2}**"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some(f64::midpoint(values[n / 2 - 1], values[n / 2])),
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    machine: String,
    settings: String,
    ours: String,
    go: String,
    /// One per section or part of it.
    pub tables: Vec<Table>,
}

impl Report {
    /// An empty report about these programs.
    pub fn new(args: &Args, programs: &Programs) -> Self {
        let settings = format!(
            "{} rounds, {:?} per closed-loop run, {:?} per open-loop run",
            args.rounds(),
            args.run_time(),
            args.tail_time()
        );
        Self {
            machine: machine(),
            settings,
            ours: programs.ours.display().to_string(),
            go: programs.go.display().to_string(),
            tables: Vec::new(),
        }
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "Machine: {}. {}.", self.machine, self.settings);
        let _ = writeln!(out, "ours = `{}`, go = `{}`.", self.ours, self.go);
        let _ = writeln!(
            out,
            "Rows are medians over the rounds; a ratio (ours / go) is the median of the rounds' ratios."
        );
        for table in &self.tables {
            table.markdown(&mut out);
        }
        out
    }

    /// The report for programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Processor, cores, kernel.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = rustix::system::uname();
    format!(
        "{model}, {cores} cores, Linux {}",
        kernel.release().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let column = Column {
            name: "x",
            digits: 0,
        };
        let mut table = Table::new("t", String::new(), &[column]);
        for (round, ours, go) in [(0, 10.0, 20.0), (1, 100.0, 100.0), (2, 30.0, 10.0)] {
            table.add("w", Side::Ours, round, Ok(vec![Some(ours)]));
            table.add("w", Side::Go, round, Ok(vec![Some(go)]));
        }
        table.add("w", Side::Ours, 3, Ok(vec![Some(7.0)]));
        assert_eq!(table.ratio("w", 0), Some(1.0));
        assert_eq!(table.median("w", Side::Go, 0), Some(20.0));
        assert_eq!(table.median("w", Side::Ours, 0), Some(20.0));
        assert_eq!(table.ratio("other", 0), None);
    }

    #[test]
    fn rows_without_a_value_show_a_dash() {
        let columns = [
            Column {
                name: "a",
                digits: 1,
            },
            Column {
                name: "b",
                digits: 0,
            },
        ];
        let mut table = Table::new("t", "n".into(), &columns);
        table.add("w", Side::Ours, 0, Ok(vec![Some(1.25), None]));
        table.add("w", Side::Go, 0, Err(crate::Error::Ended));
        let mut out = String::new();
        table.markdown(&mut out);
        assert!(out.contains("| w | ours | 1.2 | – |"), "{out}");
        assert!(
            out.contains("* w (Go, round 1): the server has ended"),
            "{out}"
        );
    }
}

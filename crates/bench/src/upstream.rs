//! Upstream's `benchmark` tool.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Error;

/// What the tool reports at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Operations per second.
    pub rate: f64,
    /// Latencies, if it gives them.
    pub p50: Option<Duration>,
    /// Of 100, the slowest but one.
    pub p99: Option<Duration>,
    /// Of 1,000, the slowest but one.
    pub p999: Option<Duration>,
}

/// Runs the tool against one endpoint and reads its summary.
pub fn run(program: &Path, endpoint: &str, args: &[String]) -> Result<Summary, Error> {
    let shown = args.join(" ");
    let failed = |problem: String| Error::Tool {
        args: shown.clone(),
        problem,
    };
    let output = Command::new(program)
        .arg(format!("--endpoints={endpoint}"))
        .arg("--precise")
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        let last = all.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
        return Err(failed(format!("{}: {last}", output.status)));
    }
    parse(&text).ok_or_else(|| failed(format!("no summary in its output: {text}")))
}

/// Reads the last summary of the output: before it there can be one of the preparations.
fn parse(text: &str) -> Option<Summary> {
    let last = &text[text.rfind("Summary:")?..];
    let rate = last
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"))?;
    if let Some(errors) = last.find("Error distribution:") {
        // A run with errors measures something else.
        eprintln!("{}", &last[errors..]);
        return None;
    }
    Some(Summary {
        rate: rate.trim().parse().ok()?,
        p50: percentile(last, "50% in "),
        p99: percentile(last, "99% in "),
        p999: percentile(last, "99.9% in "),
    })
}

fn percentile(text: &str, label: &str) -> Option<Duration> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(label))?;
    let seconds: f64 = line.trim_end_matches(" secs.").trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_summary_counts() {
        let text = "\nSummary:\n  Requests/sec:\t5.0\n\nWatch events received summary:\n\nSummary:
  Total:\t1.2 secs.
  Requests/sec:\t78512.7613

Latency distribution:
  50% in 0.0028 secs.
  99% in 0.0093 secs.
  99.9% in 0.0113 secs.
";
        let summary = parse(text).unwrap();
        assert!((summary.rate - 78512.7613).abs() < 1e-6);
        assert_eq!(summary.p50, Some(Duration::from_micros(2800)));
        assert_eq!(summary.p99, Some(Duration::from_micros(9300)));
        assert_eq!(summary.p999, Some(Duration::from_micros(11300)));
    }

    #[test]
    fn errors_are_not_a_measurement() {
        let text = "Summary:\n  Requests/sec:\t5.0\nError distribution:\n  [1] x\n";
        assert_eq!(parse(text), None);
        assert_eq!(parse("nothing"), None);
    }
}

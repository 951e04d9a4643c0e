//! What the kernel knows about a process.

use std::time::Duration;

use crate::Error;

/// Counters of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// User and system time since its start.
    pub cpu: Duration,
    /// Bytes it caused to be written to disks since its start.
    pub written: u64,
    /// Memory it has now, in bytes.
    pub rss: u64,
}

impl Sample {
    /// CPU time spent since an earlier sample of the same process.
    pub fn cpu_since(&self, earlier: &Sample) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// Reads the counters of a process; [`Error::Ended`] if there is no such process.
pub fn sample(pid: Option<u32>) -> Result<Sample, Error> {
    let pid = pid.ok_or(Error::Ended)?;
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|_| Error::Ended)
    };
    let ticks = cpu_ticks(&read("stat")?).ok_or(Error::Ended)?;
    let per_second = rustix::param::clock_ticks_per_second();
    let written = field(&read("io")?, "write_bytes:").ok_or(Error::Ended)?;
    let rss = field(&read("status")?, "VmRSS:").ok_or(Error::Ended)? * 1024;
    let cpu = Duration::from_secs_f64(ticks as f64 / per_second as f64);
    Ok(Sample { cpu, written, rss })
}

/// utime + stime of a `stat` line. The second field is the name in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces_do_not_confuse() {
        let stat = "42 (a) b) S 1 1 1 0 -1 4194304 1 2 3 4 100 20 0 0 20 0 9 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(120));
    }

    #[test]
    fn this_process_has_counters() {
        let sample = sample(Some(std::process::id())).unwrap();
        assert!(sample.rss > 0);
        assert!(matches!(super::sample(None), Err(Error::Ended)));
    }
}

//! What the operating system knows about the process.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge, IntCounter, IntGauge};

use super::maker::Maker;

/// Clock ticks per second in `/proc/*/stat`: fixed by Linux' interface to programs.
const TICKS: f64 = 100.0;
/// Bytes per page in the same file, on the machines this runs on.
const PAGE: i64 = 4096;

/// `process_*` and `os_fd_*`, read from `/proc`; what cannot be read keeps its last value.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    start_time: Gauge,
    resident: IntGauge,
    virtual_bytes: IntGauge,
    virtual_max: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    network_received: IntCounter,
    network_sent: IntCounter,
    os_fd_used: IntGauge,
    os_fd_limit: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(maker: &Maker<'_>) -> Self {
        let gauge = |name, help| maker.gauge(name, help);
        Self {
            cpu_seconds: maker
                .float_counter("process_cpu_seconds_total", "CPU time used, in seconds."),
            start_time: maker.float_gauge("process_start_time_seconds", "Start in Unix time."),
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            virtual_max: gauge(
                "process_virtual_memory_max_bytes",
                "Limit of virtual memory, -1 for none.",
            ),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "Limit of file descriptors."),
            network_received: maker.counter(
                "process_network_receive_bytes_total",
                "Bytes received by the host.",
            ),
            network_sent: maker.counter(
                "process_network_transmit_bytes_total",
                "Bytes sent by the host.",
            ),
            os_fd_used: gauge("os_fd_used", "Open file descriptors."),
            os_fd_limit: gauge("os_fd_limit", "Limit of file descriptors."),
        }
    }

    pub(super) fn update(&self) {
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            let used = stat.cpu_ticks as f64 / TICKS;
            self.cpu_seconds
                .inc_by((used - self.cpu_seconds.get()).max(0.0));
            self.resident.set(stat.resident_pages * PAGE);
            self.virtual_bytes.set(stat.virtual_bytes);
            if let Some(boot) = boot_time() {
                self.start_time.set(boot + stat.start_ticks as f64 / TICKS);
            }
        }
        if let Some(limits) = read("/proc/self/limits") {
            let fds = soft_limit(&limits, "Max open files");
            self.max_fds.set(fds);
            self.os_fd_limit.set(fds);
            self.virtual_max
                .set(soft_limit(&limits, "Max address space"));
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The directory itself is open while it is read.
            let used = entries.count().saturating_sub(1) as i64;
            self.open_fds.set(used);
            self.os_fd_used.set(used);
        }
        if let Some((received, sent)) = read("/proc/self/net/dev").as_deref().map(traffic) {
            for (counter, now) in [
                (&self.network_received, received),
                (&self.network_sent, sent),
            ] {
                counter.inc_by(now.saturating_sub(counter.get()));
            }
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: i64,
    resident_pages: i64,
}

impl Stat {
    /// The name of the process may contain anything; fields are counted after its closing parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)? as i64,
            resident_pages: field(24)? as i64,
        })
    }
}

/// Unix time of the machine's start, from its uptime.
fn boot_time() -> Option<f64> {
    let uptime: f64 = read("/proc/uptime")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_secs_f64()
            - uptime,
    )
}

/// The soft limit of a line of `/proc/self/limits`; -1 for none.
fn soft_limit(limits: &str, name: &str) -> i64 {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(-1)
}

/// Bytes received and sent on all interfaces.
fn traffic(table: &str) -> (u64, u64) {
    let rows = table.lines().filter_map(|line| {
        let fields: Vec<u64> = line
            .split_once(':')?
            .1
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        Some((*fields.first()?, *fields.get(8)?))
    });
    rows.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let mut text = String::from("42 (a) b (c) S");
        for number in 4..=52 {
            text = format!("{text} {number}");
        }
        let stat = Stat::parse(&text).unwrap();
        assert_eq!(stat.cpu_ticks, 14 + 15);
        assert_eq!(stat.start_ticks, 22);
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (23, 24));
        assert!(Stat::parse("nothing").is_none());
    }

    #[test]
    fn limits_and_traffic_are_read() {
        let limits = "Limit  Soft  Hard\nMax open files   1024   4096  files\nMax address space  unlimited unlimited bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), 1024);
        assert_eq!(soft_limit(limits, "Max address space"), -1);
        let table = "head\n lo: 10 1 0 0 0 0 0 0 20 1\neth0:5 1 0 0 0 0 0 0 7 1\n";
        assert_eq!(traffic(table), (15, 27));
    }
}

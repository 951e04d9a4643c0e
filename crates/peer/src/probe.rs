//! Regular questions to a member whether it lives and what time it has.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gotext::{GoDuration, Hex};
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::client;
use crate::link::Link;
use crate::text;

/// Pause between looks at what the probes found, when all was well, and
const CHECK_HEALTHY: Duration = Duration::from_secs(30);
/// when it was not; also before the first.
const CHECK_UNHEALTHY: Duration = Duration::from_secs(5);
/// Clocks that differ by more are worth a warning.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 4096;
/// etcd probes over both its connection pools; we have one.
const ROUND_TRIPPER: &str = "ROUND_TRIPPER_RAFT_MESSAGE";

/// What the probes found.
#[derive(Debug)]
struct Status {
    /// Why the last one failed; at first, that there was none.
    failure: Option<String>,
    /// Smoothed over about eight probes.
    round_trip: Duration,
    /// How far our clock is from theirs.
    clock_difference: Duration,
}

impl Status {
    fn record(&mut self, took: Duration, sent: SystemTime, theirs: SystemTime) {
        self.failure = None;
        self.round_trip = if self.round_trip.is_zero() {
            took
        } else {
            self.round_trip * 7 / 8 + took / 8
        };
        let ours = sent + took;
        let difference = ours
            .duration_since(theirs)
            .unwrap_or_else(|behind| behind.duration());
        self.clock_difference = difference.saturating_sub(self.round_trip / 2);
    }
}

/// Probes a member until it is given up.
pub(crate) async fn run(link: Arc<Link>) {
    let stop = link.stop.clone();
    tokio::select! {
        () = probe(&link) => {}
        () = stop.cancelled() => {}
    }
}

async fn probe(link: &Link) {
    let every = link.shared.config.probe_interval;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status = Status {
        failure: Some(String::new()),
        round_trip: Duration::ZERO,
        clock_difference: Duration::ZERO,
    };
    let mut check = std::pin::pin!(sleep(CHECK_UNHEALTHY));
    loop {
        tokio::select! {
            _ = ticks.tick() => match ask(link).await {
                Ok((took, sent, theirs)) => status.record(took, sent, theirs),
                Err(error) => status.failure = Some(error),
            },
            () = &mut check => {
                let pause = report(link, &status);
                check.as_mut().reset(Instant::now() + pause);
            }
        }
    }
}

/// One probe: how long it took, when it began, and the member's time.
async fn ask(link: &Link) -> Result<(Duration, SystemTime, SystemTime), String> {
    let url = link.picker.pick().ok_or("peer has no URL")?;
    let request = Request::new(client::full(Bytes::new()));
    let (start, sent) = (Instant::now(), SystemTime::now());
    let answer = link
        .shared
        .http
        .fetch(&url, "/raft/probing", request, ANSWER_TIMEOUT, MAX_ANSWER)
        .await
        .map_err(|error| error.to_string())?;
    let took = start.elapsed();
    if answer.status() != StatusCode::OK {
        return Err(format!("unexpected http status {}", answer.status()));
    }
    let body: Value = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
    let theirs = body
        .get("Now")
        .and_then(Value::as_str)
        .and_then(text::parse_timestamp);
    Ok((took, sent, theirs.ok_or("no time in the answer")?))
}

/// Says what is wrong; the pause until the next look.
fn report(link: &Link, status: &Status) -> Duration {
    let (id, rtt) = (Hex(link.id), GoDuration(status.round_trip));
    let pause = if let Some(error) = &status.failure {
        tracing::warn!(
            "round-tripper-name" = ROUND_TRIPPER,
            "remote-peer-id" = %id,
            rtt = %rtt,
            error,
            "prober detected unhealthy status"
        );
        CHECK_UNHEALTHY
    } else {
        CHECK_HEALTHY
    };
    if status.clock_difference > MAX_CLOCK_DIFFERENCE {
        tracing::warn!(
            "round-tripper-name" = ROUND_TRIPPER,
            "remote-peer-id" = %id,
            "clock-drift" = %GoDuration(status.clock_difference),
            rtt = %rtt,
            "prober found high clock drift"
        );
    }
    link.shared.observer.round_trip(link.id, status.round_trip);
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_way() {
        let mut status = Status {
            failure: Some(String::new()),
            round_trip: Duration::ZERO,
            clock_difference: Duration::ZERO,
        };
        let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let took = Duration::from_millis(80);
        // Their clock is right: they answered half-way.
        status.record(took, sent, sent + took / 2);
        assert_eq!(
            (status.round_trip, status.clock_difference),
            (took, Duration::ZERO)
        );
        assert_eq!(status.failure, None);
        status.record(took, sent, sent + Duration::from_secs(5));
        assert_eq!(
            status.clock_difference,
            Duration::from_millis(5000 - 80 - 40)
        );
        status.record(Duration::from_millis(160), sent, sent);
        assert_eq!(status.round_trip, Duration::from_millis(90));
    }
}

//! Automatic compaction (`--auto-compaction-mode`, `--auto-compaction-retention`): every member keeps count, the
//! leader compacts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::etcdserverpb::CompactionRequest;
use config::AutoCompaction;
use gotext::GoDuration;

use super::Member;

/// How often the revision mode looks.
const REVISION_INTERVAL: Duration = Duration::from_mins(5);
/// A periodic compaction is due at least this often.
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);
/// Samples of the revision taken per interval.
const SAMPLES: u32 = 10;

/// Compacts until the member stops.
pub(super) async fn run(member: Arc<Member>, option: AutoCompaction) {
    match option {
        AutoCompaction::Periodic(period) => run_periodic(&member, period).await,
        AutoCompaction::Revision(retention) => run_revision(&member, retention).await,
    }
}

/// Which revision a periodic compaction keeps: a window of samples that slides with time.
#[derive(Debug)]
struct Window {
    samples: VecDeque<i64>,
    keep: usize,
    interval: Duration,
    due: Duration,
    last: Option<i64>,
}

impl Window {
    fn new(period: Duration, now: Duration) -> Self {
        let interval = period.min(LONGEST_INTERVAL);
        let sample = sample_interval(period);
        let keep = (period.as_nanos() / sample.as_nanos().max(1)) as usize + 1;
        Self {
            samples: VecDeque::new(),
            keep,
            interval,
            due: now + period,
            last: None,
        }
    }

    /// Notes the present revision.
    fn sample(&mut self, revision: i64) {
        self.samples.push_back(revision);
        while self.samples.len() > self.keep {
            self.samples.pop_front();
        }
    }

    /// The revision to compact at now, if it is time and anything has happened.
    fn wanted(&self, now: Duration) -> Option<i64> {
        let oldest = *self.samples.front()?;
        (now >= self.due && self.last != Some(oldest)).then_some(oldest)
    }

    fn done(&mut self, revision: i64, now: Duration) {
        self.last = Some(revision);
        self.due = now + self.interval;
    }
}

fn sample_interval(period: Duration) -> Duration {
    period.min(LONGEST_INTERVAL) / SAMPLES
}

async fn run_periodic(member: &Arc<Member>, period: Duration) {
    let mut window = Window::new(period, member.now());
    let pause = sample_interval(period);
    while !member.is_stopping() {
        tokio::time::sleep(pause).await;
        window.sample(member.store.current_revision());
        let now = member.now();
        let Some(revision) = window.wanted(now).filter(|_| member.is_leader()) else {
            continue;
        };
        tracing::info!(
            revision,
            "compact-period" = %GoDuration(period),
            "starting auto periodic compaction"
        );
        let began = Instant::now();
        match compact(member, revision).await {
            Ok(()) => {
                tracing::info!(
                    revision,
                    "compact-period" = %GoDuration(period),
                    took = %GoDuration(began.elapsed()),
                    "completed auto periodic compaction"
                );
                window.done(revision, now);
            }
            Err(error) => tracing::warn!(
                revision,
                "compact-period" = %GoDuration(period),
                "retry-interval" = %GoDuration(pause),
                %error,
                "failed auto periodic compaction"
            ),
        }
    }
}

async fn run_revision(member: &Arc<Member>, retention: i64) {
    let mut last = 0;
    while !member.is_stopping() {
        tokio::time::sleep(REVISION_INTERVAL).await;
        let revision = member.store.current_revision() - retention;
        if revision <= 0 || revision == last || !member.is_leader() {
            continue;
        }
        tracing::info!(
            revision,
            "revision-compaction-retention" = retention,
            "starting auto revision compaction"
        );
        let began = Instant::now();
        match compact(member, revision).await {
            Ok(()) => {
                last = revision;
                tracing::info!(
                    revision,
                    "revision-compaction-retention" = retention,
                    took = %GoDuration(began.elapsed()),
                    "completed auto revision compaction"
                );
            }
            Err(error) => tracing::warn!(
                revision,
                "revision-compaction-retention" = retention,
                "retry-interval" = %GoDuration(REVISION_INTERVAL),
                %error,
                "failed auto revision compaction"
            ),
        }
    }
}

/// Somebody else's compaction is as good as ours.
async fn compact(member: &Arc<Member>, revision: i64) -> Result<(), api::Error> {
    match member
        .compact(CompactionRequest {
            revision,
            physical: false,
        })
        .await
    {
        Ok(_) | Err(api::Error::Compacted) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn the_first_compaction_comes_after_the_period_and_keeps_it() {
        let mut window = Window::new(10 * MINUTE, Duration::ZERO);
        let mut compacted = Vec::new();
        for minute in 1..=12_u32 {
            let now = MINUTE * minute;
            window.sample(i64::from(minute) * 100);
            if let Some(revision) = window.wanted(now) {
                compacted.push((minute, revision));
                window.done(revision, now);
            }
        }
        assert_eq!(compacted, [(10, 100)]);
    }

    #[test]
    fn a_long_period_compacts_every_hour_and_an_idle_store_is_left_alone() {
        let mut window = Window::new(24 * 60 * MINUTE, Duration::ZERO);
        let mut compacted = Vec::new();
        for step in 1..=260_u32 {
            let now = 6 * MINUTE * step;
            window.sample(i64::from(step.min(10)));
            if let Some(revision) = window.wanted(now) {
                compacted.push((step, revision));
                window.done(revision, now);
            }
        }
        assert_eq!(compacted, [(240, 1), (250, 10)]);
    }
}

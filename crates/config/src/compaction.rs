use std::time::Duration;

use gotext::parse_duration;

use crate::{CompactionMode, Config};

/// What automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// This much time.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

impl Config {
    /// Interprets `--auto-compaction-retention`: a whole number means hours or revisions, by the
    /// mode; anything else must be a duration, whose nanoseconds count as revisions in that mode.
    /// `None` switches compaction off. The error is etcd's text.
    pub fn auto_compaction(&self) -> Result<Option<AutoCompaction>, String> {
        let nanos = retention(self.auto_compaction_mode, &self.auto_compaction_retention)
            .map_err(|cause| format!("error parsing CompactionRetention: {cause}"))?;
        Ok((nanos > 0).then(|| match self.auto_compaction_mode {
            CompactionMode::Periodic => {
                AutoCompaction::Periodic(Duration::from_nanos(nanos.unsigned_abs()))
            }
            CompactionMode::Revision => AutoCompaction::Revision(nanos),
        }))
    }
}

pub(crate) fn retention(mode: CompactionMode, text: &str) -> Result<i64, String> {
    const HOUR: i64 = 3_600_000_000_000;
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match (
        is_number.then(|| digits.parse::<i64>().ok()).flatten(),
        mode,
    ) {
        (Some(hours), CompactionMode::Periodic) => hours
            .checked_mul(HOUR)
            .ok_or_else(|| format!("time: invalid duration {}", gotext::quote(text))),
        (Some(revisions), CompactionMode::Revision) => Ok(revisions),
        (None, _) => parse_duration(text).map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations() {
        use CompactionMode::{Periodic, Revision};
        for (mode, text, want) in [
            (Periodic, "0", Ok(0)),
            (Periodic, "", Ok(0)),
            (Periodic, "2", Ok(7_200_000_000_000)),
            (Periodic, "5m", Ok(300_000_000_000)),
            (Revision, "1000", Ok(1000)),
            (Revision, "1h", Ok(3_600_000_000_000)),
            (Periodic, "abc", Err("time: invalid duration \"abc\"")),
            (Periodic, "-5", Err("time: missing unit in duration \"-5\"")),
            (
                Revision,
                "1.5",
                Err("time: missing unit in duration \"1.5\""),
            ),
            (
                Periodic,
                "9000000000",
                Err("time: invalid duration \"9000000000\""),
            ),
        ] {
            assert_eq!(retention(mode, text), want.map_err(str::to_owned), "{text}");
        }
    }
}

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Appends the local time as etcd's log lines show it: `2026-11-20T14:03:05.931794Z`, or with an
/// offset without a colon, `+0200`.
pub(crate) fn push(out: &mut String, at: Timestamp, zone: &TimeZone) {
    let offset = zone.to_offset(at);
    let time = offset.to_datetime(at);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1_000
    );
    let seconds = offset.seconds();
    if seconds == 0 {
        out.push('Z');
    } else {
        let minutes = seconds.unsigned_abs() / 60;
        let sign = if seconds < 0 { '-' } else { '+' };
        let _ = write!(out, "{sign}{:02}{:02}", minutes / 60, minutes % 60);
    }
}

/// The stamp in the name of a rotated file: `2026-11-20T14-03-05.931`.
pub(crate) fn file_stamp(at: Timestamp, zone: &TimeZone) -> String {
    let time = zone.to_offset(at).to_datetime(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}.{:03}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_no_colon_and_utc_is_z() {
        let at = Timestamp::new(1_700_000_000, 931_794_999).unwrap();
        let zone = |hours, minutes| {
            let seconds = (hours * 60 + minutes) * 60;
            TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).unwrap())
        };
        for (zone, want) in [
            (TimeZone::UTC, "2023-11-14T22:13:20.931794Z"),
            (zone(2, 0), "2023-11-15T00:13:20.931794+0200"),
            (zone(-3, -30), "2023-11-14T18:43:20.931794-0330"),
        ] {
            let mut out = String::new();
            push(&mut out, at, &zone);
            assert_eq!(out, want);
        }
        assert_eq!(file_stamp(at, &TimeZone::UTC), "2023-11-14T22-13-20.931");
    }
}

//! Numbers and times as etcd writes them for other members and into its log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes in decimal units: `20 kB`, `1.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    // Rounded to tenths first; with two digits before the point, to whole ones.
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// RFC 3339 with nanoseconds and without trailing zeros, in UTC.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days as i64);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if since.subsec_nanos() > 0 {
        let nanos = format!(".{:09}", since.subsec_nanos());
        text.push_str(nanos.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Reads RFC 3339, with any number of digits after the point and any zone.
pub(crate) fn parse_timestamp(text: &str) -> Option<SystemTime> {
    if !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse::<i64>().ok())?
    };
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if !marks
        .iter()
        .all(|(at, mark)| text.get(*at..at + 1) == Some(mark))
    {
        return None;
    }
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits = fraction.get(..length.min(9))?;
        nanos = format!("{digits:0<9}").parse::<u32>().ok()?;
        rest = fraction.get(length..)?;
    }
    let seconds = u64::try_from(seconds - zone(rest)?).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Seconds a zone is ahead of UTC: of `Z` or `+02:00`.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    Some(
        sign * (i64::from(hours.parse::<u8>().ok()?) * 3600
            + i64::from(minutes.parse::<u8>().ok()?) * 60),
    )
}

/// The day so many days after 1970-01-01, by the calendar of 400-year cycles that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let cycle = days.div_euclid(146_097);
    let day_of_cycle = days.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The reverse; `None` for a month or day that no year has.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    Some(cycle * 146_097 + day_of_cycle - 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_read_as_in_etcds_log() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (82, "82 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (1_230_000, "1.2 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_of_go_are_read() {
        let time = UNIX_EPOCH + Duration::new(1_795_175_203, 431_740_508);
        assert_eq!(timestamp(time), "2026-11-20T11:46:43.431740508Z");
        assert_eq!(
            parse_timestamp("2026-11-20T11:46:43.431740508Z"),
            Some(time)
        );
        assert_eq!(
            parse_timestamp("2026-11-20T13:46:43.431740508+02:00"),
            Some(time)
        );
        let whole = UNIX_EPOCH + Duration::from_hours(264_384);
        assert_eq!(timestamp(whole), "2000-02-29T00:00:00Z");
        assert_eq!(parse_timestamp("2000-02-28T18:30:00.0-05:30"), Some(whole));
        for bad in [
            "",
            "2000",
            "2000-13-01T00:00:00Z",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00.5",
            "é000-01-01T00:00:00Z",
            "2000-01-01T00:00:+1Z",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn times_come_back(seconds in 0..253_402_300_799_u64, nanos in 0..1_000_000_000_u32) {
            let time = UNIX_EPOCH + Duration::new(seconds, nanos);
            prop_assert_eq!(parse_timestamp(&timestamp(time)), Some(time));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", digits in "[0-9TZ:.+-]{0,40}") {
            let _ = parse_timestamp(&text);
            let _ = parse_timestamp(&digits);
        }
    }
}

use std::fmt;
use std::time::Duration;

use crate::quote;

/// Why a text is no duration; `Display` is Go's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form `[+-]<number><unit>…`, or beyond ±292 years.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number without a unit (only `0` may stand alone).
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    /// The first field is the unit, the second the whole text.
    #[error("time: unknown unit {} in duration {}", quote(.0), quote(.1))]
    UnknownUnit(String, String),
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses Go's duration form (`300ms`, `-1.5h`, `2h45m`, `0`) into nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if body == "0" {
        return Ok(0);
    }
    if body.is_empty() {
        return Err(invalid());
    }
    let mut rest = body;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_part(rest, text)?;
        total = total
            .checked_add(nanos)
            .filter(|t| *t <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, total) {
        (true, t) if t == 1 << 63 => Ok(i64::MIN),
        (true, t) => Ok(-(t as i64)),
        (false, t) => i64::try_from(t).map_err(|_| invalid()),
    }
}

/// One `<number><unit>` at the start of `rest`: its nanoseconds and what follows.
fn parse_part<'a>(rest: &'a str, whole: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(whole.to_owned());
    let int_len = digits(rest);
    let (int_text, rest) = rest.split_at(int_len);
    let (frac_text, rest) = match rest.strip_prefix('.') {
        Some(r) => r.split_at(digits(r)),
        None => ("", rest),
    };
    if int_text.is_empty() && frac_text.is_empty() {
        return Err(invalid());
    }
    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit_text, rest) = rest.split_at(unit_len);
    if unit_text.is_empty() {
        return Err(DurationError::MissingUnit(whole.to_owned()));
    }
    let Some(&(_, unit)) = UNITS.iter().find(|(name, _)| *name == unit_text) else {
        return Err(DurationError::UnknownUnit(
            unit_text.to_owned(),
            whole.to_owned(),
        ));
    };
    let int: u64 = if int_text.is_empty() {
        0
    } else {
        int_text.parse().map_err(|_| invalid())?
    };
    let mut nanos = int
        .checked_mul(unit)
        .filter(|n| *n <= 1 << 63)
        .ok_or_else(invalid)?;
    // 18 digits hold more than a nanosecond of any unit; the rest cannot change the result.
    let frac_text = &frac_text[..frac_text.len().min(18)];
    if !frac_text.is_empty() {
        let frac: u128 = frac_text.parse().map_err(|_| invalid())?;
        nanos += (frac * u128::from(unit) / 10u128.pow(frac_text.len() as u32)) as u64;
    }
    if nanos > 1 << 63 {
        Err(invalid())
    } else {
        Ok((nanos, rest))
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Nanoseconds as Go prints a duration: `1h0m0s`, `1.5ms`, `-3µs`, `0s`.
pub fn format_nanos(nanos: i64) -> String {
    let mut out = String::new();
    if nanos < 0 {
        out.push('-');
    }
    push_magnitude(&mut out, nanos.unsigned_abs());
    out
}

fn push_magnitude(out: &mut String, nanos: u64) {
    match nanos {
        0 => out.push_str("0s"),
        1..1_000 => push_unit(out, nanos, 1, "ns"),
        1_000..1_000_000 => push_unit(out, nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => push_unit(out, nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            if minutes >= 60 {
                out.push_str(&(minutes / 60).to_string());
                out.push('h');
            }
            if minutes > 0 {
                out.push_str(&(minutes % 60).to_string());
                out.push('m');
            }
            push_unit(out, nanos % 60_000_000_000, 1_000_000_000, "s");
        }
    }
}

/// `nanos` in the given unit, with as many fraction digits as needed.
fn push_unit(out: &mut String, nanos: u64, unit: u64, name: &str) {
    out.push_str(&(nanos / unit).to_string());
    let fraction = nanos % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push_str(name);
}

/// Displays a [`Duration`] as Go does: `100.826422ms`, `1m30s`.
///
/// More than 292 years are shown as 292 years, the most Go can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_nanos(
            i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_what_go_parses() {
        for (text, want) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5ms", 1_500_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-300ms", -300_000_000),
            ("+2us", 2_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("0.0000000001s", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.3333333333333333333h", 1_199_999_999_999),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_with_go_texts() {
        for (text, want) in [
            ("", r#"time: invalid duration """#),
            ("abc", r#"time: invalid duration "abc""#),
            ("-", r#"time: invalid duration "-""#),
            (".s", r#"time: invalid duration ".s""#),
            ("-5", r#"time: missing unit in duration "-5""#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1x", r#"time: unknown unit "x" in duration "1x""#),
            ("1h 2m", r#"time: unknown unit "h " in duration "1h 2m""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            (
                "99999999999999999999h",
                r#"time: invalid duration "99999999999999999999h""#,
            ),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn formats_as_go_does() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (100_826_422, "100.826422ms"),
            (7_000_000_000, "7s"),
            (60_000_000_000, "1m0s"),
            (245_001_000_000, "4m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (-1_500_000, "-1.5ms"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_nanos(nanos), want);
        }
        assert_eq!(GoDuration(Duration::from_millis(1500)).to_string(), "1.5s");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos: i64) {
            prop_assert_eq!(parse_duration(&format_nanos(nanos)), Ok(nanos));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}

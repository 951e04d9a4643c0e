use std::collections::BTreeSet;

use gotext::{Url, parse_duration, parse_url_list, quote};

use crate::FeatureGates;

/// Which values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Yes or no; `--flag` alone means yes.
    Bool,
    /// Unsigned number of 64 bits.
    Unsigned,
    /// Unsigned number of 32 bits.
    Unsigned32,
    /// Signed number of 64 bits.
    Signed,
    /// Go duration; nanoseconds in a file.
    Duration,
    /// URLs separated by commas; an empty value leaves the default.
    Urls,
    /// `*`, or URLs separated by commas: allowed origins.
    Origins,
    /// Texts separated by commas; sorted, duplicates dropped.
    TextSet,
    /// Texts separated by commas, in their order.
    TextList,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// One of these texts; the error repeats the value.
    LoudChoice(&'static [&'static str]),
    /// `Name=bool,…`
    Gates,
    /// Anything: an option of the past.
    Ignored,
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// An unsigned number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// Nanoseconds; negative values are possible and mean what zero means.
    Duration(i64),
    /// URLs, sorted.
    Urls(Vec<Url>),
    /// Texts.
    Texts(Vec<String>),
    /// Feature gates.
    Gates(FeatureGates),
    /// Nothing worth keeping.
    Ignored,
}

impl Kind {
    /// Reads a value as the command line and the environment write it. `current` is the value so
    /// far. The error is the cause etcd gives.
    pub(crate) fn parse(self, text: &str, current: &Value) -> Result<Value, String> {
        Ok(match self {
            Self::Bool => Value::Bool(parse_bool(text).ok_or("parse error")?),
            Self::Unsigned => Value::Unsigned(parse_unsigned(text).map_err(NumberError::short)?),
            Self::Unsigned32 => {
                let number = parse_unsigned(text)
                    .and_then(|number| u32::try_from(number).map_err(|_| NumberError::Range));
                let long = |e: NumberError| {
                    format!("strconv.ParseUint: parsing {}: {}", quote(text), e.long())
                };
                Value::Unsigned(number.map_err(long)?.into())
            }
            Self::Signed => Value::Signed(parse_signed(text).map_err(NumberError::short)?),
            Self::Duration => {
                Value::Duration(parse_duration(text).map_err(|_| "parse error".to_owned())?)
            }
            Self::Urls if text.is_empty() => current.clone(),
            Self::Urls => Value::Urls(parse_urls(text)?),
            Self::Origins if text == "*" => Value::Texts(vec!["*".to_owned()]),
            Self::Origins => {
                Value::Texts(parse_urls(text)?.iter().map(ToString::to_string).collect())
            }
            Self::TextSet => {
                let set: BTreeSet<&str> = text.split(',').collect();
                Value::Texts(set.into_iter().map(str::to_owned).collect())
            }
            Self::TextList => Value::Texts(text.split(',').map(str::to_owned).collect()),
            Self::Choice(choices) if !choices.contains(&text) => {
                return Err("invalid value".to_owned());
            }
            Self::LoudChoice(choices) if !choices.contains(&text) => {
                return Err(format!("invalid value {}", quote(text)));
            }
            Self::Text | Self::Choice(_) | Self::LoudChoice(_) => Value::Text(text.to_owned()),
            Self::Gates => {
                let mut gates = match current {
                    Value::Gates(gates) => gates.clone(),
                    _ => FeatureGates::default(),
                };
                gates.set(text)?;
                Value::Gates(gates)
            }
            Self::Ignored => Value::Ignored,
        })
    }

    /// The value of a default, which may be empty where a value given by a user may not.
    pub(crate) fn default_value(self, text: &str) -> Value {
        match self {
            Self::Urls if text.is_empty() => Value::Urls(Vec::new()),
            Self::TextSet | Self::TextList if text.is_empty() => Value::Texts(Vec::new()),
            Self::Unsigned if text.is_empty() => Value::Unsigned(0),
            _ => self.parse(text, &Value::Ignored).unwrap_or(Value::Ignored),
        }
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberError {
    Syntax,
    Range,
}

impl NumberError {
    fn short(self) -> String {
        match self {
            Self::Syntax => "parse error".to_owned(),
            Self::Range => "value out of range".to_owned(),
        }
    }

    fn long(self) -> &'static str {
        match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        }
    }
}

/// Numbers as Go literals: decimal, `0x`, `0o` or `0`, `0b`, with underscores between digits.
fn parse_unsigned(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, has_prefix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, &lower[..], false),
    };
    // An underscore stands between digits, or between the prefix and a digit.
    let underscores_fit = !digits.ends_with('_')
        && !digits.contains("__")
        && (has_prefix || !digits.starts_with('_'));
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !valid || !underscores_fit {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(&digits, radix).map_err(|_| NumberError::Range)
}

fn parse_signed(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_unsigned(digits)?);
    let number = if negative { -magnitude } else { magnitude };
    i64::try_from(number).map_err(|_| NumberError::Range)
}

fn parse_urls(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = parse_url_list(text.split(',')).map_err(|e| e.to_string())?;
    urls.dedup_by_key(|url| url.to_string());
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_go_literals() {
        for (text, want) in [
            ("0", Ok(0)),
            ("10", Ok(10)),
            ("0x1F", Ok(31)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0b11", Ok(3)),
            ("1_000", Ok(1000)),
            ("0x_f", Ok(15)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(NumberError::Range)),
            ("", Err(NumberError::Syntax)),
            ("-1", Err(NumberError::Syntax)),
            ("_1", Err(NumberError::Syntax)),
            ("1__0", Err(NumberError::Syntax)),
            ("1_", Err(NumberError::Syntax)),
            ("08", Err(NumberError::Syntax)),
            ("0x", Err(NumberError::Syntax)),
            (" 1", Err(NumberError::Syntax)),
        ] {
            assert_eq!(parse_unsigned(text), want, "{text}");
        }
        assert_eq!(parse_signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_signed("9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_signed("--1"), Err(NumberError::Syntax));
    }

    #[test]
    fn lists_keep_or_lose_order_and_duplicates() {
        let none = Value::Ignored;
        let texts = |items: &[&str]| Value::Texts(items.iter().map(|&i| i.to_owned()).collect());
        assert_eq!(Kind::TextSet.parse("b,a,b", &none), Ok(texts(&["a", "b"])));
        assert_eq!(
            Kind::TextList.parse("b,a,b", &none),
            Ok(texts(&["b", "a", "b"]))
        );
        assert_eq!(Kind::TextSet.parse("", &none), Ok(texts(&[""])));
        assert_eq!(Kind::TextSet.default_value(""), texts(&[]));
        let Ok(Value::Urls(urls)) = Kind::Urls.parse("http://b:1, http://a:1,http://b:1", &none)
        else {
            panic!("URLs");
        };
        assert_eq!(urls.len(), 2);
        assert_eq!(
            Kind::Urls.parse("", &Value::Urls(urls.clone())),
            Ok(Value::Urls(urls))
        );
    }
}

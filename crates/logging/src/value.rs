use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use gotext::Hex;

/// Stands before the text of a [`Json`] value, so that the log writer knows it for JSON. No other
/// text starts so: it is a control character nobody logs.
pub(crate) const JSON_MARK: char = '\u{1}';

/// A log field that is more than a text or a number: a list, a map, a struct.
///
/// `tracing` fields can only carry primitives and texts. Wrapped in `Json` and recorded with `%` or
/// `?`, a value becomes real JSON in the log line:
///
/// ```
/// let urls = ["http://a:1", "http://b:2"];
/// tracing::info!("listen-peer-urls" = %logging::Json(&urls), "configuring peer listeners");
/// // … "msg":"configuring peer listeners","listen-peer-urls":["http://a:1","http://b:2"]}
/// ```
///
/// A value that cannot be serialized (a map with keys that are no texts) is logged as `null`.
#[derive(Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: Serialize> fmt::Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).unwrap_or_else(|_| "null".to_owned());
        write!(f, "{JSON_MARK}{text}")
    }
}

impl<T: Serialize> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of a field of a [`crate::Record`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text; durations and ids are texts too.
    Text(String),
    /// An unsigned number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// A fractional number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A piece of JSON that is already written.
    Json(String),
}

impl Value {
    /// A list, map or struct.
    pub fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()))
    }

    /// Whatever `Display` or `Debug` of a `tracing` field have made of it.
    pub(crate) fn from_recorded(text: String) -> Self {
        match text.strip_prefix(JSON_MARK) {
            Some(json) => Self::Json(json.to_owned()),
            None => Self::Text(text),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Unsigned(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Unsigned(number as u64)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Text(gotext::GoDuration(duration).to_string())
    }
}

impl From<Hex> for Value {
    fn from(id: Hex) -> Self {
        Self::Text(id.to_string())
    }
}

use std::fmt;

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
#[derive(Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: Serialize> fmt::Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        write!(f, "{JSON_MARK}{text}")
    }
}

impl<T: Serialize> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

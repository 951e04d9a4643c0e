use std::borrow::Cow;

use crate::caller::Caller;
use crate::{Level, Value};

/// One log line before it is written.
///
/// The `tracing` macros make these by themselves; build one by hand where fields are not known at
/// compile time or there are more than the macros can take, and give it to [`crate::emit`].
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub(crate) level: Level,
    pub(crate) logger: Option<&'static str>,
    pub(crate) caller: Caller,
    pub(crate) message: Cow<'static, str>,
    pub(crate) fields: Vec<(Cow<'static, str>, Value)>,
}

impl Record {
    /// A line without fields; the caller's place in the source becomes the line's `caller`.
    #[track_caller]
    pub fn new(level: Level, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            level,
            logger: None,
            caller: Caller::here(),
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// The same line with one more field at the end.
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Names and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_ref(), value))
    }
}

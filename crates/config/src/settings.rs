use std::collections::BTreeMap;

use crate::table::{find, flags};
use crate::{Flag, Value};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The command line.
    CommandLine,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
}

/// A value for every option, before anything is made of it.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl Settings {
    /// All options at their defaults.
    pub fn defaults() -> Self {
        let value = |flag: &Flag| (flag.kind.default_value(flag.default), Origin::Default);
        Self {
            values: flags().map(|flag| (flag.name, value(flag))).collect(),
        }
    }

    /// The value of an option.
    ///
    /// # Panics
    /// If the table has no such option: names are constants of this program.
    pub fn value(&self, name: &str) -> &Value {
        &self.entry(name).0
    }

    /// Where the value of an option comes from.
    pub fn origin(&self, name: &str) -> Origin {
        self.entry(name).1
    }

    /// Whether a user gave the option, in whatever way.
    pub fn is_set(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }

    fn entry(&self, name: &str) -> &(Value, Origin) {
        self.values
            .get(name)
            .expect("the table has an option of this name")
    }

    /// Reads and stores a value written as on the command line; the error is the cause.
    pub(crate) fn parse(&mut self, flag: &Flag, text: &str, origin: Origin) -> Result<(), String> {
        let value = flag.kind.parse(text, self.value(flag.name))?;
        self.put(flag, value, origin);
        Ok(())
    }

    pub(crate) fn put(&mut self, flag: &Flag, value: Value, origin: Origin) {
        debug_assert!(find(flag.name).is_some());
        self.values.insert(flag.name, (value, origin));
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text.clone(),
            other => unreachable!("{name} is a text, not {other:?}"),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(flag) => *flag,
            other => unreachable!("{name} is a switch, not {other:?}"),
        }
    }

    pub(crate) fn unsigned(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Unsigned(number) => *number,
            other => unreachable!("{name} is a number, not {other:?}"),
        }
    }

    pub(crate) fn signed(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Signed(number) => *number,
            other => unreachable!("{name} is a number, not {other:?}"),
        }
    }

    pub(crate) fn nanos(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(nanos) => *nanos,
            other => unreachable!("{name} is a duration, not {other:?}"),
        }
    }

    pub(crate) fn urls(&self, name: &str) -> Vec<gotext::Url> {
        match self.value(name) {
            Value::Urls(urls) => urls.clone(),
            other => unreachable!("{name} is a list of URLs, not {other:?}"),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::Texts(texts) => texts.clone(),
            other => unreachable!("{name} is a list, not {other:?}"),
        }
    }
}

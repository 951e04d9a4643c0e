use std::fmt;
use std::str::FromStr;

/// How much a line matters. Ordered: a filter at one level lets it and all higher ones through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// For those who develop.
    Debug,
    /// What happens in normal operation.
    Info,
    /// Somebody should look at it some day.
    Warn,
    /// Something failed.
    Error,
    /// Should never happen.
    DPanic,
    /// The program stops with exit code 2.
    Panic,
    /// The program stops with exit code 1.
    Fatal,
}

impl Level {
    pub(crate) const ALL: [Self; 7] = [
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::DPanic,
        Self::Panic,
        Self::Fatal,
    ];

    /// The name in flags and lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::DPanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// The level whose [`Level::name`] stands at this place of the order.
    pub(crate) fn from_index(index: u8) -> Self {
        Self::ALL
            .get(usize::from(index))
            .copied()
            .unwrap_or(Self::Info)
    }

    /// The level of a `tracing` event; `TRACE` has none and is never logged.
    pub(crate) fn from_tracing(level: tracing::Level) -> Option<Self> {
        match level {
            tracing::Level::ERROR => Some(Self::Error),
            tracing::Level::WARN => Some(Self::Warn),
            tracing::Level::INFO => Some(Self::Info),
            tracing::Level::DEBUG => Some(Self::Debug),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no level; `Display` is etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized level: {}", gotext::quote(.0))]
pub struct UnknownLevel(pub(crate) String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// The names in lower or upper case; an empty text means `info`.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        if text.is_empty() {
            return Ok(Self::Info);
        }
        let same = |level: &Self| text == level.name() || text == level.name().to_uppercase();
        Self::ALL
            .into_iter()
            .find(same)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_cases() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(level.name().to_uppercase().parse(), Ok(level));
            assert_eq!(Level::from_index(level as u8), level);
        }
        assert_eq!("".parse(), Ok(Level::Info));
        let error = "Foo".parse::<Level>().unwrap_err();
        assert_eq!(error.to_string(), "unrecognized level: \"Foo\"");
        assert!(Level::Warn > Level::Info && Level::Fatal > Level::Panic);
    }
}

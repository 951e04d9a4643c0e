//! Ranges of keys as etcd's requests name them.

/// A range of keys: from `start` on, and before `end` if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub start: &'a [u8],
    pub end: Option<&'a [u8]>,
}

/// What a request's `key` and `range_end` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys<'a> {
    /// One key.
    One(&'a [u8]),
    /// All keys of a span.
    Span(Span<'a>),
}

impl<'a> Keys<'a> {
    /// An empty end means the key itself, a single zero byte "all keys from `key` on".
    pub fn new(key: &'a [u8], end: &'a [u8]) -> Self {
        match end {
            b"" => Self::One(key),
            b"\0" => Self::Span(Span {
                start: key,
                end: None,
            }),
            _ => Self::Span(Span {
                start: key,
                end: Some(end),
            }),
        }
    }
}

impl Span<'_> {
    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }

    /// Whether `key` lies before the end.
    pub fn before_end(&self, key: &[u8]) -> bool {
        self.end.is_none_or(|end| key < end)
    }
}

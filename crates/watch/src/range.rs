//! Which keys a watcher wants.

use bytes::Bytes;

/// One key or an interval of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    begin: Bytes,
    end: End,
}

/// Where a range ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Only the key itself.
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// No upper end.
    Open,
}

impl KeyRange {
    /// From a request's `key` and `range_end`: no end means one key, an end of one zero byte means
    /// no upper end, an empty key the smallest one. `None` when no key can lie in the range.
    ///
    /// The keys are copied: those of a request are pieces of what was received, which must not
    /// live as long as a watcher.
    pub fn from_request(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let begin = if key.is_empty() { b"\0" } else { key };
        let begin = Bytes::copy_from_slice(begin);
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            _ if begin[..] >= *range_end => return None,
            _ => End::Before(Bytes::copy_from_slice(range_end)),
        };
        Some(Self { begin, end })
    }

    /// The first key, or the only one.
    pub fn begin(&self) -> &Bytes {
        &self.begin
    }

    pub(crate) fn end(&self) -> &End {
        &self.end
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => self.begin == key,
            End::Before(end) => &self.begin[..] <= key && key < &end[..],
            End::Open => &self.begin[..] <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> Option<KeyRange> {
        KeyRange::from_request(key.as_bytes(), end.as_bytes())
    }

    #[test]
    fn ranges_follow_the_conventions_of_requests() {
        let single = range("b", "").unwrap();
        assert!(single.contains(b"b") && !single.contains(b"b0") && !single.contains(b"a"));
        let span = range("b", "d").unwrap();
        assert!(span.contains(b"b") && span.contains(b"c\xff") && !span.contains(b"d"));
        let open = range("b", "\0").unwrap();
        assert!(open.contains(b"b") && open.contains(b"\xff\xff") && !open.contains(b"a"));
        assert!(range("", "\0").unwrap().contains(b"\0"));
        assert!(range("", "").unwrap().contains(b"\0"));
        assert_eq!(range("b", "b"), None);
        assert_eq!(range("b", "a"), None);
        // One zero byte means no end; two are an ordinary key that lies below "b".
        assert_eq!(range("b", "\0\0"), None);
    }
}

use bytes::Bytes;

/// The end of an interval of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The interval ends before this key.
    Before(Bytes),
    /// The interval has no end.
    Open,
}

impl End {
    /// Whether a key lies before the end.
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end.as_ref(),
            Self::Open => true,
        }
    }

    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Before(a), Self::Before(b)) => Self::Before(a.max(b)),
            _ => Self::Open,
        }
    }
}

/// Whether an interval's end, as requests and permissions name it, stands for "no end".
pub(crate) fn is_open(range_end: &[u8]) -> bool {
    range_end == [0]
}

/// A set of keys as disjoint intervals that do not touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IntervalSet {
    intervals: Vec<(Bytes, End)>,
}

impl IntervalSet {
    /// The union of keys and ranges as permissions name them. What has no place in the order of keys (an empty first
    /// key, an end that is not behind it; both in databases of old releases only) covers nothing.
    pub(crate) fn union<'a>(ranges: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let mut all: Vec<(Bytes, End)> = ranges
            .into_iter()
            .map(|(key, range_end)| (key.clone(), end_of(key, range_end)))
            .filter(|(start, end)| !start.is_empty() && end.is_after(start))
            .collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut intervals: Vec<(Bytes, End)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match intervals.last_mut() {
                Some((_, last)) if touches(last, &start) => {
                    *last = std::mem::replace(last, End::Open).max(end);
                }
                _ => intervals.push((start, end)),
            }
        }
        intervals.shrink_to_fit();
        Self { intervals }
    }

    /// Whether everything a request names is in the set: one key, or a range, all of it. A range without keys asks
    /// for its first key only, as in etcd.
    pub(crate) fn covers(&self, key: &[u8], range_end: &[u8]) -> bool {
        let behind = self
            .intervals
            .partition_point(|(start, _)| start.as_ref() <= key);
        let Some((_, end)) = behind.checked_sub(1).and_then(|at| self.intervals.get(at)) else {
            return false;
        };
        if is_open(range_end) {
            return *end == End::Open;
        }
        let within = match end {
            End::Before(end) => range_end <= end.as_ref(),
            End::Open => true,
        };
        within && end.is_after(key)
    }
}

fn end_of(key: &Bytes, range_end: &Bytes) -> End {
    if is_open(range_end) {
        End::Open
    } else if range_end.is_empty() {
        End::Before([key.as_ref(), &[0]].concat().into())
    } else {
        End::Before(range_end.clone())
    }
}

/// Whether an interval that starts here continues one that ends there.
fn touches(end: &End, start: &[u8]) -> bool {
    match end {
        End::Before(end) => start <= end.as_ref(),
        End::Open => true,
    }
}

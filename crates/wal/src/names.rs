//! Names of segments and snapshot files: two 16-digit hexadecimal numbers.

use std::path::Path;

use disk::Fs;

use crate::Error;
use crate::error::At;

/// Name of a segment: its sequence number and the index of the first entry it can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub seq: u64,
    pub index: u64,
}

impl SegmentName {
    pub fn parse(name: &str) -> Option<Self> {
        let (seq, index) = parse_pair(name.strip_suffix(".wal")?)?;
        Some(Self { seq, index })
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.index)
    }
}

/// `a-b` in hexadecimal, at most 16 digits each. Go scans names with a width, so shorter numbers are
/// accepted as well.
pub(crate) fn parse_pair(stem: &str) -> Option<(u64, u64)> {
    let (a, b) = stem.split_once('-')?;
    Some((parse_hex(a)?, parse_hex(b)?))
}

pub(crate) fn parse_hex(digits: &str) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// The segments of a directory in order of their names. What does not belong there is logged and left
/// out.
pub(crate) fn list_segments(fs: &dyn Fs, dir: &Path) -> Result<Vec<(SegmentName, String)>, Error> {
    let mut segments = Vec::new();
    for entry in fs.read_dir(dir).at(dir)? {
        match SegmentName::parse(&entry.name) {
            Some(name) => segments.push((name, entry.name)),
            None if entry.name.strip_suffix(".tmp").is_some() => {} // the pipeline's
            None => tracing::warn!(path = %entry.name, "ignored file in WAL directory"),
        }
    }
    if segments.is_empty() {
        return Err(Error::FileNotFound);
    }
    Ok(segments)
}

/// Whether the directory holds a segment, which makes the member an initialised one. A directory that
/// is missing or unreadable counts as empty, as in etcd.
pub fn exists(fs: &dyn Fs, dir: &Path) -> bool {
    fs.read_dir(dir).is_ok_and(|entries| {
        entries
            .iter()
            .any(|e| e.name.strip_suffix(".wal").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sixteen_hex_digits_each() {
        let name = SegmentName {
            seq: 0x1a,
            index: 0xfeed,
        };
        assert_eq!(name.to_string(), "000000000000001a-000000000000feed.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn foreign_names_are_not_segments() {
        for name in [
            "", ".wal", "1.wal", "0-0", "x-0.wal", "0-.wal", "-.wal", "0-+1.wal",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        assert_eq!(
            SegmentName::parse("00000000000000000-0000000000000000.wal"),
            None
        );
        assert_eq!(
            SegmentName::parse("0-1.wal"),
            Some(SegmentName { seq: 0, index: 1 })
        );
    }
}

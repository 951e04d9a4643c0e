//! Revisions and their form as keys of bucket `key`.

use crate::Error;

/// Names one change: the transaction that made it and its place in there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The store's revision after the transaction.
    pub main: i64,
    /// Number of changes of the same transaction before this one.
    pub sub: i64,
}

/// Bytes of a revision as a key; a tombstone's key has one more.
pub(crate) const REVISION_LEN: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// A key of bucket `key`: main and sub as big-endian numbers with `_` between, and `t` after a tombstone's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RevisionKey {
    bytes: [u8; REVISION_LEN + 1],
    len: u8,
}

impl AsRef<[u8]> for RevisionKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Revision {
    pub(crate) const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// The key under which a change is stored.
    pub(crate) fn key(self, tombstone: bool) -> RevisionKey {
        let mut bytes = [0; REVISION_LEN + 1];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..REVISION_LEN].copy_from_slice(&self.sub.to_be_bytes());
        bytes[REVISION_LEN] = TOMBSTONE;
        RevisionKey {
            bytes,
            len: (REVISION_LEN + usize::from(tombstone)) as u8,
        }
    }

    /// Reads a key back; the flag says whether it is a tombstone's.
    pub(crate) fn parse(key: &[u8]) -> Result<(Self, bool), Error> {
        let tombstone = match key.len() {
            REVISION_LEN => false,
            18 if key[REVISION_LEN] == TOMBSTONE => true,
            18 => return Err(Error::Damaged("a revision with a foreign mark")),
            _ => return Err(Error::Damaged("invalid revision length")),
        };
        let number = |at: usize| key[at..at + 8].try_into().map_or(-1, i64::from_be_bytes);
        let revision = Self {
            main: number(0),
            sub: number(9),
        };
        if key[8] != SEPARATOR {
            return Err(Error::Damaged("invalid separator in bucket key"));
        }
        if revision.main < 0 || revision.sub < 0 {
            return Err(Error::Damaged("negative revision"));
        }
        Ok((revision, tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_etcds_bytes() {
        let first = Revision::new(2, 0);
        assert_eq!(
            first.key(false).as_ref(),
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0"
        );
        assert_eq!(
            first.key(true).as_ref(),
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0t"
        );
        assert_eq!(
            Revision::parse(first.key(true).as_ref()).unwrap(),
            (first, true)
        );
        assert_eq!(
            Revision::parse(first.key(false).as_ref()).unwrap(),
            (first, false)
        );
    }

    #[test]
    fn foreign_keys_are_refused() {
        for key in [&b""[..], b"x", &[0; 17], &[0; 18], &[0xff; 17], &[0; 19]] {
            assert!(Revision::parse(key).is_err(), "{key:?}");
        }
    }
}

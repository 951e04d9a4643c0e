//! Numbers and fixed structures of the file format; `docs/bbolt-format.md` draws them.

use crate::error::Error;

/// Longest key in bytes.
pub const MAX_KEY_LEN: usize = 32768;
/// Longest value in bytes.
pub const MAX_VALUE_LEN: usize = (1 << 31) - 2;

/// Number of a page; its position in the file is this times the page size.
pub(crate) type PageId = u64;
/// Number of a transaction.
pub(crate) type TxId = u64;

pub(crate) const PAGE_HEADER: usize = 16;
pub(crate) const ELEMENT: usize = 16;
pub(crate) const BUCKET_HEADER: usize = 16;
pub(crate) const META_BODY: usize = 64;

pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
pub(crate) const FLAG_META: u16 = 0x04;
pub(crate) const FLAG_FREELIST: u16 = 0x10;

/// Flag of a leaf element whose value is a bucket.
pub(crate) const ELEMENT_BUCKET: u32 = 0x01;

/// Most elements that a page header can count; one less than the number that marks a long freelist.
pub(crate) const MAX_ELEMENTS: usize = 0xFFFE;

/// Value of [`Meta::freelist`] when the list is not in the file.
pub(crate) const NO_FREELIST: PageId = u64::MAX;

/// Page sizes that are looked for and accepted.
pub(crate) const MIN_PAGE_SIZE: u32 = 1024;
pub(crate) const MAX_PAGE_SIZE: u32 = 1024 << 14;

/// A descent that takes more steps is going round in circles: with two children per branch page a tree
/// of this depth would have more pages than a file can number.
pub(crate) const MAX_DEPTH: usize = 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The 16 bytes at the start of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: PageId,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub(crate) fn encode(&self, out: &mut [u8]) {
        out[0..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..16].copy_from_slice(&self.overflow.to_le_bytes());
    }
}

/// The body of a meta page: the root of one committed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    pub(crate) root: PageId,
    pub(crate) sequence: u64,
    pub(crate) freelist: PageId,
    /// First page number that was never used.
    pub(crate) high_water: PageId,
    pub(crate) txid: TxId,
}

impl Meta {
    /// Reads and validates the body (the bytes after the page header).
    pub(crate) fn decode(body: &[u8]) -> Result<Meta, Error> {
        let word = |at| u32_at(body, at).ok_or(Error::Invalid);
        let long = |at| u64_at(body, at).ok_or(Error::Invalid);
        if word(0)? != MAGIC {
            return Err(Error::Invalid);
        }
        if word(4)? != VERSION {
            return Err(Error::VersionMismatch);
        }
        if long(56)? != fnv1a(&body[..56]) {
            return Err(Error::Checksum);
        }
        Ok(Meta {
            page_size: word(8)?,
            root: long(16)?,
            sequence: long(24)?,
            freelist: long(32)?,
            high_water: long(40)?,
            txid: long(48)?,
        })
    }

    pub(crate) fn encode(&self) -> [u8; META_BODY] {
        let mut body = [0; META_BODY];
        body[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        body[4..8].copy_from_slice(&VERSION.to_le_bytes());
        body[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        body[16..24].copy_from_slice(&self.root.to_le_bytes());
        body[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        body[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        body[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        body[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let sum = fnv1a(&body[..56]);
        body[56..64].copy_from_slice(&sum.to_le_bytes());
        body
    }

    /// The whole meta page as it stands at page `id`.
    pub(crate) fn encode_page(&self, id: PageId) -> Vec<u8> {
        let mut page = vec![0; self.page_size as usize];
        Header {
            id,
            flags: FLAG_META,
            count: 0,
            overflow: 0,
        }
        .encode(&mut page);
        page[PAGE_HEADER..PAGE_HEADER + META_BODY].copy_from_slice(&self.encode());
        page
    }
}

/// The fixed part of a bucket's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketHeader {
    /// Root page, or 0 for a bucket whose only page follows inline.
    pub(crate) root: PageId,
    pub(crate) sequence: u64,
}

impl BucketHeader {
    pub(crate) fn decode(value: &[u8]) -> Option<BucketHeader> {
        Some(BucketHeader {
            root: u64_at(value, 0)?,
            sequence: u64_at(value, 8)?,
        })
    }

    pub(crate) fn encode(&self) -> [u8; BUCKET_HEADER] {
        let mut out = [0; BUCKET_HEADER];
        out[..8].copy_from_slice(&self.root.to_le_bytes());
        out[8..].copy_from_slice(&self.sequence.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_of_a() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn meta_body_is_etcds_byte_for_byte() {
        let meta = Meta {
            page_size: 4096,
            root: 4,
            sequence: 0,
            freelist: NO_FREELIST,
            high_water: 6,
            txid: 0x1d,
        };
        let mut expected = Vec::new();
        for part in [
            "edda0ced02000000001000000000000004000000000000000000000000000000",
            "ffffffffffffffff06000000000000001d00000000000000fcc2b79b0f10e15c",
        ] {
            for i in (0..part.len()).step_by(2) {
                expected.push(u8::from_str_radix(&part[i..i + 2], 16).unwrap());
            }
        }
        assert_eq!(meta.encode().as_slice(), expected);
        assert_eq!(Meta::decode(&expected).unwrap(), meta);
        assert_eq!(fnv1a(&expected[..56]), 0x5ce1_100f_9bb7_c2fc);
    }

    #[test]
    fn meta_faults_are_told_apart_in_order() {
        let meta = Meta {
            page_size: 4096,
            root: 3,
            sequence: 0,
            freelist: 2,
            high_water: 4,
            txid: 1,
        };
        let mut body = meta.encode();
        body[50] ^= 1;
        assert!(matches!(Meta::decode(&body), Err(Error::Checksum)));
        body[4] = 3;
        assert!(matches!(Meta::decode(&body), Err(Error::VersionMismatch)));
        body[0] = 0;
        assert!(matches!(Meta::decode(&body), Err(Error::Invalid)));
        assert!(matches!(Meta::decode(&body[..20]), Err(Error::Invalid)));
    }

    #[test]
    fn bucket_header_of_a_tree_at_page_3() {
        let value = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let header = BucketHeader {
            root: 3,
            sequence: 0,
        };
        assert_eq!(BucketHeader::decode(&value), Some(header));
        assert_eq!(header.encode(), value);
        assert_eq!(BucketHeader::decode(&value[..15]), None);
    }
}

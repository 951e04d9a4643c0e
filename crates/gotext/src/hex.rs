use std::fmt;

/// An id as etcd writes it everywhere: lower-case hex without leading zeros and without `0x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

impl Hex {
    /// Reads 1 to 16 hex digits of either case.
    pub fn parse(text: &str) -> Option<u64> {
        let hex = !text.is_empty() && text.len() <= 16;
        (hex && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Hex;

    #[test]
    fn hex_ids_are_unpadded() {
        assert_eq!(Hex(0xa1f8_d054_6601).to_string(), "a1f8d0546601");
        assert_eq!(Hex::parse("a1f8d0546601"), Some(0xa1f8_d054_6601));
        assert_eq!(Hex::parse("FFFFFFFFFFFFFFFF"), Some(u64::MAX));
        for bad in ["", "+1", "x", "11111111111111111"] {
            assert_eq!(Hex::parse(bad), None);
        }
    }
}

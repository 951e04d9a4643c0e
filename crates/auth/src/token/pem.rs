//! Just enough of PEM and DER to find the key in what key files hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The decoded blocks of a PEM text; what is between them is left out, and blocks that do not decode.
pub(crate) fn blocks(text: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Vec::new();
    };
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim) {
        let label = |start: &str| line.strip_prefix(start)?.strip_suffix("-----");
        if let Some(name) = label("-----BEGIN ") {
            open = Some((name, String::new()));
        } else if let Some(end) = label("-----END ") {
            if let Some((name, body)) = open.take()
                && name == end
                && let Ok(bytes) = STANDARD.decode(body)
            {
                blocks.push(bytes);
            }
        } else if let Some((_, body)) = &mut open
            && !line.contains(':')
        {
            body.push_str(line);
        }
    }
    blocks
}

/// The public key of an X.509 certificate, as its `SubjectPublicKeyInfo`. Nothing else of it is looked at.
pub(crate) fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xA0;
    let (certificate, _) = Element::read(der)?;
    let (signed, _) = Element::read(certificate.content(SEQUENCE)?)?;
    let mut rest = signed.content(SEQUENCE)?;
    let (first, after) = Element::read(rest)?;
    if first.tag == VERSION {
        rest = after;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        (_, rest) = Element::read(rest)?;
    }
    let (key, _) = Element::read(rest)?;
    key.content(SEQUENCE)?;
    Some(key.whole)
}

struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    header: usize,
}

impl<'a> Element<'a> {
    /// One element and what follows it.
    fn read(der: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, &first) = (der.first()?, der.get(1)?);
        let (header, length) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            let count = usize::from(first & 0x7F);
            let bytes = der
                .get(2..2 + count)
                .filter(|bytes| (1..=4).contains(&bytes.len()))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (2 + count, length)
        };
        let (whole, rest) = der.split_at_checked(header.checked_add(length)?)?;
        Some((Self { tag, whole, header }, rest))
    }

    fn content(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then(|| &self.whole[self.header..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_blocks() {
        let text = b"note\n-----BEGIN A-----\nAAEC\n Aw==\n-----END A-----\n-----BEGIN B-----\nk: v\n\n/w==\n\
            -----END B-----\n-----BEGIN C-----\n!!\n-----END C-----\n-----BEGIN D-----\nAA==\n-----END E-----\n\
            -----BEGIN F-----\nAA==\n";
        assert_eq!(blocks(text), [vec![0, 1, 2, 3], vec![255]]);
        assert!(blocks(b"junk").is_empty());
        assert!(blocks(&[0xFF; 10]).is_empty());
    }

    #[test]
    fn cut_certificates_are_none() {
        let der: Vec<u8> = [0x30, 0x82, 0x01, 0x00]
            .into_iter()
            .chain([0x30; 256])
            .collect();
        for end in 0..der.len() {
            assert_eq!(certificate_key(&der[..end]), None);
        }
        assert_eq!(certificate_key(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]), None);
        assert_eq!(
            certificate_key(&[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn no_file_is_a_surprise(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            blocks(&bytes);
            certificate_key(&bytes);
            certificate_key(&[&[0x30, 0x82, 0, 200][..], &bytes].concat());
        }
    }
}

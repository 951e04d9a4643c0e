//! The two things the X.509 parser does not hand out.

/// The first element of `input`: its content, the element with its header, and what follows.
pub(crate) fn element(input: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&first, rest) = input.get(1..)?.split_first()?;
    let (len, header) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        // Certificates in a handshake are shorter than 2^24 bytes; longer lengths are nonsense here.
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let len = rest
            .get(..count)?
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        (len, 2 + count)
    };
    let end = header + len;
    Some((
        input.get(header..end)?,
        input.get(..end)?,
        input.get(end..)?,
    ))
}

/// A certificate's `signatureAlgorithm` without its header, the form in which webpki names algorithms.
pub(crate) fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _, _) = element(certificate)?;
    let (_, _, after_tbs) = element(content)?;
    let (algorithm, _, _) = element(after_tbs)?;
    Some(algorithm)
}

/// A serial number without leading zeros, so that equal numbers are equal bytes.
pub(crate) fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    &raw[zeros..]
}

/// A serial number as `%x` prints it.
pub(crate) fn serial_hex(serial: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * serial.len());
    for byte in serial {
        let _ = write!(text, "{byte:02x}");
    }
    let digits = text.trim_start_matches('0');
    if digits.is_empty() { "0" } else { digits }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_cut_and_never_read_beyond_the_end() {
        assert_eq!(
            element(&[0x30, 2, 7, 8, 9]),
            Some((&[7, 8][..], &[0x30, 2, 7, 8][..], &[9][..]))
        );
        let mut long = vec![0x04, 0x82, 0x01, 0x00];
        long.extend([5; 256]);
        assert_eq!(element(&long).unwrap().0.len(), 256);
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 3, 1, 2],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x82, 1],
        ] {
            assert_eq!(element(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn serials_are_numbers() {
        assert_eq!(serial(&[0, 0, 1, 0]), [1, 0]);
        assert_eq!(serial_hex(&[0x0a, 0x12]), "a12");
        assert_eq!(serial_hex(serial(&[0])), "0");
    }
}

//! Sizes as etcd's log lines show them.

/// Bytes in decimal units, as Go's `humanize.Bytes` writes them: `20 kB`, `1.2 MB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    // Tenths, rounded to nearest.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        // Halves go to the even neighbour, as Go's formatting does.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(up), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn sizes_read_as_in_etcds_logs() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (25_000, "25 kB"),
            (1_230_000, "1.2 MB"),
            (16_384, "16 kB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}

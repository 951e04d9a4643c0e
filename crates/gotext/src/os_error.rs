use std::io;

/// The text Go has for an error of the operating system: `no such file or directory`.
pub fn os_error(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    // The C library begins with a capital where Go does not; names like "I/O" stay.
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_ascii_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        for (code, want) in [
            (2, "no such file or directory"),
            (13, "permission denied"),
            (21, "is a directory"),
            (98, "address already in use"),
        ] {
            assert_eq!(os_error(&io::Error::from_raw_os_error(code)), want);
        }
        assert_eq!(os_error(&io::Error::other("plain")), "plain");
    }
}

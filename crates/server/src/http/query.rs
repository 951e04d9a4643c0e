//! The part of a URL behind the question mark.

/// Key-value pairs in their order, decoded. A pair whose escapes are malformed is left out, as Go does.
pub fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    query.unwrap_or_default().split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if pair.is_empty() || pair.contains(';') {
            return None;
        }
        Some((decode(key)?, decode(value)?))
    })
}

/// All non-empty values of a key.
pub fn values(query: Option<&str>, key: &str) -> Vec<String> {
    pairs(query)
        .filter(|(k, v)| k == key && !v.is_empty())
        .map(|(_, value)| value)
        .collect()
}

/// The first value of a key, empty ones included.
pub fn first(query: Option<&str>, key: &str) -> Option<String> {
    pairs(query).find(|(k, _)| k == key).map(|(_, value)| value)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_repeat_and_are_decoded() {
        let query =
            Some("exclude=NOSPACE&serializable=true&exclude=&exclude=A%20b+c&verbose&bad=%zz");
        assert_eq!(values(query, "exclude"), ["NOSPACE", "A b c"]);
        assert_eq!(first(query, "serializable").as_deref(), Some("true"));
        assert_eq!(first(query, "verbose").as_deref(), Some(""));
        assert_eq!(first(query, "bad"), None);
        assert_eq!(first(None, "verbose"), None);
    }
}

use std::fmt::Write as _;

/// Which characters a JSON string escapes beyond what JSON demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As Go's `encoding/json` does by default: `<`, `>`, `&` and the line separators U+2028 and
    /// U+2029 become `\u....`. Member records and v2-store dumps use this form.
    Html,
    /// As Go's `encoding/json` without HTML escaping.
    Plain,
    /// As the log encoder does: only quotes, backslash and control characters; `\b` and `\f` have
    /// no short form.
    Log,
}

/// Appends `text` to `out` as a JSON string with its quotes.
pub fn push_json_string(out: &mut String, text: &str, escape: Escape) {
    out.push('"');
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        if !needs_escape(c, escape) {
            continue;
        }
        out.push_str(&text[plain_from..at]);
        push_escaped(out, c, escape);
        plain_from = at + c.len_utf8();
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

fn needs_escape(c: char, escape: Escape) -> bool {
    match c {
        '"' | '\\' => true,
        '<' | '>' | '&' => escape == Escape::Html,
        '\u{2028}' | '\u{2029}' => escape != Escape::Log,
        c => (c as u32) < 0x20,
    }
}

fn push_escaped(out: &mut String, c: char, escape: Escape) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x08' if escape != Escape::Log => out.push_str("\\b"),
        '\x0c' if escape != Escape::Log => out.push_str("\\f"),
        c => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str, escape: Escape) -> String {
        let mut out = String::new();
        push_json_string(&mut out, text, escape);
        out
    }

    #[test]
    fn escapes_by_form() {
        let text = "a<b>&\"\\\n\x08\x01\u{2028}é";
        assert_eq!(
            json(text, Escape::Html),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\b\\u0001\\u2028é\""
        );
        assert_eq!(
            json(text, Escape::Plain),
            "\"a<b>&\\\"\\\\\\n\\b\\u0001\\u2028é\""
        );
        assert_eq!(
            json(text, Escape::Log),
            "\"a<b>&\\\"\\\\\\n\\u0008\\u0001\u{2028}é\""
        );
    }
}

//! Writing JSON as Go does.

use gotext::Escape;

/// A quoted string.
pub fn string(out: &mut String, text: &str) {
    gotext::push_json_string(out, text, Escape::Html);
}

/// The name of an object's next field.
pub fn field(out: &mut String, name: &str) {
    item(out);
    string(out, name);
    out.push(':');
}

/// The comma before all but the first item.
pub fn item(out: &mut String) {
    if !out.ends_with(['{', '[']) {
        out.push(',');
    }
}

/// A list of strings.
pub fn strings(out: &mut String, texts: &[String]) {
    out.push('[');
    for text in texts {
        item(out);
        string(out, text);
    }
    out.push(']');
}

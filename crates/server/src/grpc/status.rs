//! How a call's result is written.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};

const CODE: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Writes code and text of a status into headers or trailers.
pub fn write(status: &Status, headers: &mut HeaderMap) {
    if status.code() == Code::Ok {
        headers.insert(CODE, HeaderValue::from_static("0"));
        headers.insert(MESSAGE, HeaderValue::from_static(""));
        return;
    }
    headers.insert(CODE, HeaderValue::from(status.code() as i32));
    headers.insert(MESSAGE, escaped(status.message()));
}

/// Text with everything but printable ASCII escaped, and the escape character itself.
fn escaped(text: &str) -> HeaderValue {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for half in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
            }
        }
    }
    // Nothing but printable ASCII is left.
    HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_little_as_possible() {
        let cases = [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("type \"\" & <b>", "type \"\" & <b>"),
            ("100%\n\u{e9}", "100%25%0A%C3%A9"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }
}

//! What the headers of a request say.

use std::time::Duration;

use api::Error;
use http::HeaderMap;
use http::request::Parts;
use hyper::body::Incoming;
use tonic::{Code, Status};

use super::frame::{Encoding, Messages};
use super::method::Method;
use crate::frontend::Caller;

/// A request whose headers were read.
#[derive(Debug)]
pub struct Call {
    /// What is called.
    pub method: Method,
    /// Its messages.
    pub messages: Messages,
    /// How long the client is going to wait, if it said.
    pub timeout: Option<Duration>,
    headers: HeaderMap,
}

impl Call {
    /// Reads the headers; a message may have up to `max` bytes.
    pub fn new(method: Method, parts: Parts, body: Incoming, max: usize) -> Result<Self, Status> {
        let encoding = encoding(&parts.headers)?;
        let timeout = timeout(&parts.headers)?;
        Ok(Self {
            method,
            messages: Messages::new(body, encoding, max),
            timeout,
            headers: parts.headers,
        })
    }

    /// Whether the client wants no answer from a member without leader.
    pub fn requires_leader(&self) -> bool {
        self.headers
            .get("hasleader")
            .is_some_and(|value| value == "true")
    }

    /// Who calls, by what the headers show.
    pub fn caller(&self) -> Caller {
        caller(&self.headers)
    }

    /// The client's version as it tells it, for a metric.
    pub fn client_api_version(&self) -> Result<&str, Error> {
        match self.headers.get("client-api-version") {
            None => Ok("unknown"),
            Some(value) => {
                std::str::from_utf8(value.as_bytes()).map_err(|_| Error::InvalidClientApiVersion)
            }
        }
    }
}

fn caller(headers: &HeaderMap) -> Caller {
    let header = |name: &str| {
        let value = headers.get(name)?;
        // What is no text is no token that ever was.
        Some(std::str::from_utf8(value.as_bytes()).unwrap_or("?"))
    };
    match auth::credentials(header, None) {
        auth::Credentials::Token(token) => Caller::Token(token.into()),
        _ => Caller::Nobody,
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    match headers
        .get("grpc-encoding")
        .map(http::HeaderValue::as_bytes)
    {
        None | Some(b"" | b"identity") => Ok(Encoding::Identity),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(other) => {
            let name = gotext::quote(&String::from_utf8_lossy(other));
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {name}");
            Err(Status::new(Code::Unimplemented, text))
        }
    }
}

/// Reads `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    parse_timeout(value.as_bytes())
        .map(Some)
        .ok_or_else(|| Status::new(Code::Internal, "malformed grpc-timeout"))
}

fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let cases: [(&[u8], Option<Duration>); 10] = [
            (b"5S", Some(Duration::from_secs(5))),
            (b"2H", Some(Duration::from_hours(2))),
            (b"3M", Some(Duration::from_mins(3))),
            (b"4999996u", Some(Duration::from_micros(4_999_996))),
            (b"99999999H", Some(Duration::from_hours(99_999_999))),
            (b"7n", Some(Duration::from_nanos(7))),
            (b"123456789S", None),
            (b"S", None),
            (b"", None),
            (b"-1S", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text), expected);
        }
    }

    #[test]
    fn callers_show_tokens_and_no_log_does() {
        let of = |fields: &[(&'static str, &[u8])]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, http::HeaderValue::from_bytes(value).unwrap());
            }
            match caller(&headers) {
                Caller::Token(token) => Some(token.to_string()),
                Caller::Nobody => None,
                Caller::Root => panic!("no client is root by its headers"),
            }
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("token", b"t")]).unwrap(), "t");
        assert_eq!(of(&[("authorization", b"Bearer t")]).unwrap(), "t");
        assert_eq!(
            of(&[("authorization", b"a"), ("token", b"t")]).unwrap(),
            "t"
        );
        assert!(of(&[("token", b"\xff")]).is_some());
        assert_eq!(format!("{:?}", Caller::Token("secret".into())), "Token");
    }

    #[test]
    fn encodings() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-encoding", name.parse().unwrap());
            encoding(&headers)
        };
        assert_eq!(of("gzip").unwrap(), Encoding::Gzip);
        assert_eq!(of("identity").unwrap(), Encoding::Identity);
        assert_eq!(of("snappy").unwrap_err().code(), Code::Unimplemented);
    }
}

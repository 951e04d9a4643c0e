use api::etcdserverpb::Request;
use prost::Message as _;

use crate::json::{object, string_field, strings_field};
use crate::{FatalError, Version};

/// A request of the v2 store that 3.5 and older wrote into the log about the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyRequest {
    /// A member publishes itself; same as today's attribute request.
    SetAttributes {
        /// Which member.
        member_id: u64,
        /// Its name.
        name: String,
        /// Its client URLs.
        client_urls: Vec<String>,
    },
    /// The cluster agrees on a version; same as today's version request.
    SetVersion(Version),
    /// Anything else the v2 store could be asked for. Its data are not kept by any version that is
    /// still supported: the entry is skipped.
    Other {
        /// `PUT`, `SYNC`, ….
        method: String,
        /// Key of the v2 store.
        path: String,
    },
}

/// Whether the data of a normal entry are a bare v2 request rather than an
/// `InternalRaftRequest`.
///
/// 3.5 writes every field of a v2 request: field 2 is the method's name and field 5 a number, where
/// an `InternalRaftRequest` has messages. That cannot be mistaken in either direction.
pub fn is_legacy_entry(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some((field, value, after)) = next_field(rest) {
        match (field, value) {
            (2, Value::Bytes(method)) => {
                const METHODS: [&[u8]; 6] = [b"PUT", b"POST", b"DELETE", b"GET", b"QGET", b"SYNC"];
                if METHODS.contains(&method) {
                    return true;
                }
            }
            (5, Value::Number) => return true,
            _ => {}
        }
        rest = after;
    }
    false
}

impl LegacyRequest {
    /// Reads a bare v2 request; the first part of the result is its request id.
    pub fn decode(data: &[u8]) -> Result<(u64, Self), FatalError> {
        let request = Request::decode(data).map_err(|e| FatalError::BadContext(e.to_string()))?;
        Ok((request.id, Self::from_request(&request)?))
    }

    /// Interprets a v2 request, also one inside an `InternalRaftRequest`.
    pub fn from_request(request: &Request) -> Result<Self, FatalError> {
        let other = || Self::Other {
            method: request.method.clone(),
            path: request.path.clone(),
        };
        if request.method != "PUT" {
            return Ok(other());
        }
        if request.path == "/0/version" {
            let version = request.val.parse();
            return version
                .map(Self::SetVersion)
                .map_err(|_| FatalError::BadVersion(request.val.clone()));
        }
        let member = request.path.strip_prefix("/0/members/");
        let Some(member_id) = member
            .and_then(|m| m.strip_suffix("/attributes"))
            .and_then(gotext::Hex::parse)
        else {
            return Ok(other());
        };
        let attributes = || {
            let map = object(request.val.as_bytes())?;
            Ok((
                string_field(&map, "name")?,
                strings_field(&map, "clientURLs")?,
            ))
        };
        let (name, client_urls) = attributes().map_err(FatalError::BadContext)?;
        Ok(Self::SetAttributes {
            member_id,
            name,
            client_urls,
        })
    }
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Number,
}

/// The next protobuf field: its number, its value and what follows. `None` at the end and for
/// anything malformed.
fn next_field(data: &[u8]) -> Option<(u64, Value<'_>, &[u8])> {
    let (tag, rest) = varint(data)?;
    match tag & 7 {
        0 => varint(rest).map(|(_, after)| (tag >> 3, Value::Number, after)),
        1 => Some((tag >> 3, Value::Number, rest.get(8..)?)),
        2 => {
            let (len, rest) = varint(rest)?;
            let len = usize::try_from(len).ok()?;
            Some((tag >> 3, Value::Bytes(rest.get(..len)?), rest.get(len..)?))
        }
        5 => Some((tag >> 3, Value::Number, rest.get(4..)?)),
        _ => None,
    }
}

fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in data.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &data[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{publish_request, version_request};

    /// A v2 request the way 3.5 encodes it: every scalar is there, zero or not.
    fn encoded(method: &str, path: &str, val: &str) -> Vec<u8> {
        let mut out = vec![0x08, 42];
        for (tag, text) in [(0x12, method), (0x1a, path), (0x22, val)] {
            out.push(tag);
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&[
            0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0, 0x58, 0, 0x60, 0,
        ]);
        out.extend_from_slice(&[0x68, 0, 0x70, 0, 0x78, 0, 0x80, 1, 0]);
        out
    }

    #[test]
    fn requests_of_3_5_are_understood() {
        let attributes = encoded(
            "PUT",
            "/0/members/8e9e05c52164694d/attributes",
            r#"{"name":"m1","clientURLs":["http://c:1"]}"#,
        );
        let want = LegacyRequest::SetAttributes {
            member_id: 0x8e9e_05c5_2164_694d,
            name: "m1".to_owned(),
            client_urls: vec!["http://c:1".to_owned()],
        };
        assert!(is_legacy_entry(&attributes));
        assert_eq!(LegacyRequest::decode(&attributes), Ok((42, want)));

        let version = encoded("PUT", "/0/version", "3.5.0");
        assert!(is_legacy_entry(&version));
        assert_eq!(
            LegacyRequest::decode(&version),
            Ok((42, LegacyRequest::SetVersion(Version::V3_5)))
        );

        let sync = encoded("SYNC", "", "");
        assert!(is_legacy_entry(&sync));
        let other = LegacyRequest::Other {
            method: "SYNC".to_owned(),
            path: String::new(),
        };
        assert_eq!(LegacyRequest::decode(&sync), Ok((42, other)));
        assert!(matches!(
            LegacyRequest::decode(&encoded("PUT", "/1/foo", "bar")),
            Ok((42, LegacyRequest::Other { .. }))
        ));
    }

    #[test]
    fn todays_requests_are_no_legacy_ones() {
        let requests = [
            publish_request(1, 2, "m", &[]),
            version_request(1, Version::V3_6),
            api::etcdserverpb::InternalRaftRequest {
                id: 7,
                delete_range: Some(api::etcdserverpb::DeleteRangeRequest {
                    key: "PUT".into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ];
        for request in requests {
            assert!(!is_legacy_entry(&request.encode_to_vec()));
        }
        assert!(!is_legacy_entry(&[]));
    }

    #[test]
    fn nonsense_is_refused() {
        for (path, val) in [("/0/version", "x"), ("/0/members/1/attributes", "{")] {
            assert!(
                LegacyRequest::decode(&encoded("PUT", path, val)).is_err(),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = is_legacy_entry(&bytes);
            let _ = LegacyRequest::decode(&bytes);
        }
    }
}

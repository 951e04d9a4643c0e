//! The id of a proposal, without decoding the proposal.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

const LEGACY_ID: u32 = 1;
const HEADER: u32 = 100;
const HEADER_ID: u32 = 1;

/// The id under which the proposer of an encoded `InternalRaftRequest` waits: its own `ID` when set, as old
/// members do, otherwise the one in its header.
///
/// `None` if there is none, or if `data` is not a well-formed message (the v2 requests of old logs, for one).
/// Reads keys and lengths only; the request itself is skipped.
pub fn raft_request_id(data: &[u8]) -> Option<u64> {
    let mut legacy = 0;
    let mut header = 0;
    let mut rest = data;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        match (tag, wire) {
            (LEGACY_ID, WireType::Varint) => legacy = decode_varint(&mut rest).ok()?,
            (HEADER, WireType::LengthDelimited) => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (inner, after) = rest.split_at_checked(length)?;
                header = header_id(inner)?;
                rest = after;
            }
            _ => skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?,
        }
    }
    [legacy, header].into_iter().find(|id| *id != 0)
}

/// The id inside an encoded request header, 0 if it has none; `None` if the header is malformed.
fn header_id(mut rest: &[u8]) -> Option<u64> {
    let mut id = 0;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        if (tag, wire) == (HEADER_ID, WireType::Varint) {
            id = decode_varint(&mut rest).ok()?;
        } else {
            skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?;
        }
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::raft_request_id;
    use crate::etcdserverpb::{InternalRaftRequest, PutRequest, Request, RequestHeader};

    fn put(id: u64, header: u64) -> Vec<u8> {
        let put = PutRequest {
            key: "k".into(),
            value: vec![7; 300].into(),
            ..PutRequest::default()
        };
        let header = RequestHeader {
            id: header,
            username: "root".into(),
            auth_revision: 3,
        };
        InternalRaftRequest {
            id,
            header: Some(header),
            put: Some(put),
            ..InternalRaftRequest::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn id_is_found_in_both_places() {
        assert_eq!(
            raft_request_id(&put(0, 0x1234_5678_9abc_def0)),
            Some(0x1234_5678_9abc_def0)
        );
        assert_eq!(raft_request_id(&put(9, 5)), Some(9));
        assert_eq!(raft_request_id(&put(0, 0)), None);
        assert_eq!(raft_request_id(&[]), None);
    }

    #[test]
    fn published_attributes_of_a_member_are_found_by_their_observed_bytes() {
        let bytes = [
            0xa2, 0x06, 0x02, 0x08, 0x07, 0xa2, 0x51, 0x07, 0x0a, 0x05, b'3', b'.', b'7', b'.',
            b'0',
        ];
        assert_eq!(raft_request_id(&bytes), Some(7));
        let request = InternalRaftRequest::decode(&bytes[..]).unwrap();
        assert_eq!(request.cluster_version_set.as_ref().unwrap().ver, "3.7.0");
        assert_eq!(request.encode_to_vec(), bytes);
    }

    #[test]
    fn a_v2_request_is_not_an_internal_request() {
        let old = Request {
            id: 3,
            method: "PUT".into(),
            path: "/0/version".into(),
            ..Request::default()
        };
        let bytes = old.encode_to_vec();
        assert!(InternalRaftRequest::decode(&bytes[..]).is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = raft_request_id(&bytes);
        }

        #[test]
        fn scan_agrees_with_decoding(id in prop_oneof![Just(0), any::<u64>()], header: u64) {
            let expected = [id, header].into_iter().find(|id| *id != 0);
            prop_assert_eq!(raft_request_id(&put(id, header)), expected);
        }
    }
}

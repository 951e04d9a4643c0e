use api::etcdserverpb::{InternalRaftRequest, RequestHeader};
use api::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};

use crate::{Downgrade, Version};

fn with_header(request: u64) -> InternalRaftRequest {
    let header = RequestHeader {
        id: request,
        ..RequestHeader::default()
    };
    InternalRaftRequest {
        header: Some(header),
        ..InternalRaftRequest::default()
    }
}

/// The proposal by which a member publishes its name and client URLs, under request id `request`.
pub fn publish_request(
    request: u64,
    member_id: u64,
    name: &str,
    client_urls: &[String],
) -> InternalRaftRequest {
    let attributes = Attributes {
        name: name.to_owned(),
        client_urls: client_urls.to_vec(),
    };
    InternalRaftRequest {
        cluster_member_attr_set: Some(ClusterMemberAttrSetRequest {
            member_id,
            member_attributes: Some(attributes),
        }),
        ..with_header(request)
    }
}

/// The leader's proposal of a cluster version; its patch is written as 0.
pub fn version_request(request: u64, version: Version) -> InternalRaftRequest {
    let ver = version.cluster().to_string();
    InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest { ver }),
        ..with_header(request)
    }
}

/// The proposal that begins a downgrade job, or ends it when `downgrade` is the default one.
pub fn downgrade_request(request: u64, downgrade: &Downgrade) -> InternalRaftRequest {
    let ver = downgrade
        .target()
        .map(|v| v.to_string())
        .unwrap_or_default();
    InternalRaftRequest {
        downgrade_info_set: Some(DowngradeInfoSetRequest {
            enabled: downgrade.is_enabled(),
            ver,
        }),
        ..with_header(request)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn requests_are_encoded_as_observed() {
        let version = version_request(1, Version::new(3, 7, 2)).encode_to_vec();
        assert_eq!(version, b"\xa2\x06\x02\x08\x01\xa2\x51\x07\x0a\x053.7.0");
        let begin = downgrade_request(1, &Downgrade::to(Version::V3_6)).encode_to_vec();
        assert_eq!(
            begin,
            b"\xa2\x06\x02\x08\x01\xb2\x51\x09\x08\x01\x12\x053.6.0"
        );
        let end = downgrade_request(1, &Downgrade::default()).encode_to_vec();
        assert_eq!(end, b"\xa2\x06\x02\x08\x01\xb2\x51\x00");
        let publish = publish_request(1, 5, "m1", &["http://c:1".to_owned()]).encode_to_vec();
        assert_eq!(
            publish,
            b"\xa2\x06\x02\x08\x01\xaa\x51\x14\x08\x05\x12\x10\x0a\x02m1\x12\x0ahttp://c:1"
        );
    }
}

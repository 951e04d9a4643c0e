use api::etcdserverpb as pb;
use auth::{AuthOp, Caller};
use bytes::{Bytes, BytesMut};
use cluster::LegacyRequest;
use prost::Message;

/// Field number of `header` in `InternalRaftRequest`.
const HEADER: u32 = 100;

/// A request of the log in decoded form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Id the proposer waits under; unique among members.
    pub id: u64,
    /// Name of the user on whose behalf the request was proposed; empty without auth.
    pub username: String,
    /// Auth revision at proposal time; 0 without auth.
    pub auth_revision: u64,
    /// What to do.
    pub op: Op,
}

/// What a request asks for; one variant per member of `InternalRaftRequest`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the variants are the messages' own names
pub enum Op {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    ClusterVersionSet(api::membershippb::ClusterVersionSetRequest),
    ClusterMemberAttrSet(api::membershippb::ClusterMemberAttrSetRequest),
    DowngradeInfoSet(api::membershippb::DowngradeInfoSetRequest),
    /// Only upstream's tests propose it; it changes nothing.
    DowngradeVersionTest,
    /// Users, roles, permissions, tokens.
    Auth(AuthOp),
    /// A request that changes nothing, since no supported release acts on it.
    Skipped,
}

/// Why an entry's data are not a request this member can apply.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Neither the present nor the 3.5 form.
    #[error("unmarshal should never fail ({0})")]
    Malformed(#[from] prost::DecodeError),
    /// A 3.5 request that names this cluster, but cannot be read.
    #[error(transparent)]
    Legacy(#[from] cluster::FatalError),
    /// No member of the message that we know is set.
    #[error("not implemented apply")]
    UnknownOperation,
}

impl Request {
    /// On whose behalf it was proposed.
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            username: &self.username,
            revision: self.auth_revision,
        }
    }

    /// Decodes entry data written by any member from 3.5 on.
    pub fn decode(data: &Bytes) -> Result<Self, DecodeError> {
        if cluster::is_legacy_entry(data) {
            let (id, request) = LegacyRequest::decode(data)?;
            return Ok(Self::from_legacy(id, request));
        }
        Self::from_internal(pb::InternalRaftRequest::decode(data.clone())?)
    }

    /// The order of the arms is etcd's order of dispatch: the first set member counts.
    fn from_internal(mut raw: pb::InternalRaftRequest) -> Result<Self, DecodeError> {
        let header = raw.header.take().unwrap_or_default();
        let id = if raw.id == 0 { header.id } else { raw.id };
        let op = if let Some(r) = raw.cluster_version_set {
            Op::ClusterVersionSet(r)
        } else if let Some(r) = raw.cluster_member_attr_set {
            Op::ClusterMemberAttrSet(r)
        } else if let Some(r) = raw.downgrade_info_set {
            Op::DowngradeInfoSet(r)
        } else if raw.downgrade_version_test.is_some() {
            Op::DowngradeVersionTest
        } else if let Some(r) = raw.range {
            Op::Range(r)
        } else if let Some(r) = raw.put {
            Op::Put(r)
        } else if let Some(r) = raw.delete_range {
            Op::DeleteRange(r)
        } else if let Some(r) = raw.txn {
            Op::Txn(r)
        } else if let Some(r) = raw.compaction {
            Op::Compaction(r)
        } else if let Some(r) = raw.lease_grant {
            Op::LeaseGrant(r)
        } else if let Some(r) = raw.lease_revoke {
            Op::LeaseRevoke(r)
        } else if let Some(r) = raw.lease_checkpoint {
            Op::LeaseCheckpoint(r)
        } else if let Some(r) = raw.alarm {
            Op::Alarm(r)
        } else if let Some(op) = AuthOp::take(&mut raw) {
            Op::Auth(op)
        } else if let Some(v2) = raw.v2 {
            return Ok(Self::from_legacy(id, LegacyRequest::from_request(&v2)?));
        } else {
            return Err(DecodeError::UnknownOperation);
        };
        Ok(Self {
            id,
            username: header.username,
            auth_revision: header.auth_revision,
            op,
        })
    }

    /// What 3.5 members say about the cluster, in today's words. Their other v2 requests concern a store
    /// that no supported release keeps.
    fn from_legacy(id: u64, request: LegacyRequest) -> Self {
        let op = match request {
            LegacyRequest::SetAttributes {
                member_id,
                name,
                client_urls,
            } => Op::ClusterMemberAttrSet(api::membershippb::ClusterMemberAttrSetRequest {
                member_id,
                member_attributes: Some(api::membershippb::Attributes { name, client_urls }),
            }),
            LegacyRequest::SetVersion(version) => {
                Op::ClusterVersionSet(api::membershippb::ClusterVersionSetRequest {
                    ver: version.to_string(),
                })
            }
            LegacyRequest::Other { method, path } => {
                tracing::warn!(method, path, "skipped a request for the v2 store");
                Op::Skipped
            }
        };
        Self {
            id,
            username: String::new(),
            auth_revision: 0,
            op,
        }
    }
}

/// Encodes a request for the log, as an `InternalRaftRequest` in field order.
pub fn encode(request: &Request) -> Bytes {
    let header = pb::RequestHeader {
        id: request.id,
        username: request.username.clone(),
        auth_revision: request.auth_revision,
    };
    let header = &header;
    match &request.op {
        Op::Range(r) => encode_field(header, 3, r),
        Op::Put(r) => encode_field(header, 4, r),
        Op::DeleteRange(r) => encode_field(header, 5, r),
        Op::Txn(r) => encode_field(header, 6, r),
        Op::Compaction(r) => encode_field(header, 7, r),
        Op::LeaseGrant(r) => encode_field(header, 8, r),
        Op::LeaseRevoke(r) => encode_field(header, 9, r),
        Op::Alarm(r) => encode_field(header, 10, r),
        Op::LeaseCheckpoint(r) => encode_field(header, 11, r),
        Op::ClusterVersionSet(r) => encode_field(header, 1300, r),
        Op::ClusterMemberAttrSet(r) => encode_field(header, 1301, r),
        Op::DowngradeInfoSet(r) => encode_field(header, 1302, r),
        Op::DowngradeVersionTest => {
            encode_field(header, 9900, &pb::DowngradeVersionTestRequest::default())
        }
        Op::Auth(op) => {
            let length = prost::encoding::message::encoded_len(HEADER, header) + op.field_len();
            let mut buffer = BytesMut::with_capacity(length);
            prost::encoding::message::encode(HEADER, header, &mut buffer);
            op.encode_field(&mut buffer);
            buffer.freeze()
        }
        // Never proposed; what only exists in logs of others is not written again.
        Op::Skipped => encode_field(header, 2, &pb::Request::default()),
    }
}

fn encode_field<M: Message>(header: &pb::RequestHeader, tag: u32, message: &M) -> Bytes {
    let length = prost::encoding::message::encoded_len(tag, message)
        + prost::encoding::message::encoded_len(HEADER, header);
    let mut buffer = BytesMut::with_capacity(length);
    if tag < HEADER {
        prost::encoding::message::encode(tag, message, &mut buffer);
    }
    prost::encoding::message::encode(HEADER, header, &mut buffer);
    if tag > HEADER {
        prost::encoding::message::encode(tag, message, &mut buffer);
    }
    buffer.freeze()
}

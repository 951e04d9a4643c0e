//! Questions tests ask often, over the raw API.

use api::etcdserverpb as pb;
use tonic::Status;

use super::clients::Clients;

/// What `HashKV` covers: two servers with equal values hold the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// Everything before this revision is compacted; -1 for never.
    pub compact_revision: i64,
    /// The revision the hash is of.
    pub revision: i64,
}

impl Clients {
    /// `HashKV` at a revision; 0 means now.
    pub async fn hash_kv(&mut self, revision: i64) -> Result<KvHash, Status> {
        let request = pb::HashKvRequest { revision };
        let response = self.maintenance.hash_kv(request).await?.into_inner();
        // Releases before 3.6 do not say which revision they took; their header does.
        let now = response.header.map_or(0, |header| header.revision);
        let asked = if revision > 0 { revision } else { now };
        Ok(KvHash {
            hash: response.hash,
            compact_revision: response.compact_revision,
            revision: if response.hash_revision > 0 {
                response.hash_revision
            } else {
                asked
            },
        })
    }

    /// Stores a value and gives the revision.
    pub async fn put(&mut self, key: &str, value: &str) -> Result<i64, Status> {
        let request = pb::PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let response = self.kv.put(request).await?.into_inner();
        Ok(response.header.map_or(0, |header| header.revision))
    }

    /// Deletes a key and gives the revision.
    pub async fn delete(&mut self, key: &str) -> Result<i64, Status> {
        let request = pb::DeleteRangeRequest {
            key: key.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let response = self.kv.delete_range(request).await?.into_inner();
        Ok(response.header.map_or(0, |header| header.revision))
    }

    /// The pair under a key at a revision (0: now), and the revision of the store.
    pub async fn get(
        &mut self,
        key: &str,
        revision: i64,
    ) -> Result<(Option<api::mvccpb::KeyValue>, i64), Status> {
        let request = pb::RangeRequest {
            key: key.as_bytes().to_vec().into(),
            revision,
            ..Default::default()
        };
        let response = self.kv.range(request).await?.into_inner();
        let kv = response.kvs.first().map(api::RawKv::to_kv);
        Ok((kv, response.header.map_or(0, |header| header.revision)))
    }

    /// The revision of the store.
    pub async fn revision(&mut self) -> Result<i64, Status> {
        Ok(self.get("\0", 0).await?.1)
    }

    /// Compacts.
    pub async fn compact(&mut self, revision: i64, physical: bool) -> Result<(), Status> {
        let request = pb::CompactionRequest { revision, physical };
        self.kv.compact(request).await.map(drop)
    }

    /// Grants a lease with this id.
    pub async fn grant(&mut self, id: i64, ttl: i64) -> Result<(), Status> {
        let request = pb::LeaseGrantRequest { id, ttl };
        self.lease.lease_grant(request).await.map(drop)
    }

    /// Remaining and granted time of a lease in seconds, and its keys in order.
    pub async fn time_to_live(&mut self, id: i64) -> Result<(i64, i64, Vec<String>), Status> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let response = self.lease.lease_time_to_live(request).await?.into_inner();
        let mut keys: Vec<String> = response
            .keys
            .iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect();
        keys.sort();
        Ok((response.ttl, response.granted_ttl, keys))
    }
}

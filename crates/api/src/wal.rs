//! Records of WAL segments and `.snap` files.

use bytes::Bytes;

use crate::raft::ConfState;

/// One record of a WAL segment, inside its frame.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Record {
    /// Kind of `data`: 1 metadata, 2 entry, 3 hard state, 4 checksum, 5 snapshot.
    #[prost(int64, required, tag = "1")]
    pub r#type: i64,
    /// CRC-32C of all data of the log so far, this record included.
    #[prost(uint32, required, tag = "2")]
    pub crc: u32,
    /// The encoded content; checksum records have none.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// Says that a snapshot of the state up to here exists.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Snapshot {
    /// Last entry the snapshot contains.
    #[prost(uint64, required, tag = "1")]
    pub index: u64,
    /// Term of that entry.
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
    /// Members at that point; absent in logs of 3.4 and at the start of a log.
    #[prost(message, optional, tag = "3")]
    pub conf_state: Option<ConfState>,
}

/// First record of every WAL: whose log it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Metadata {
    /// The member.
    #[prost(uint64, required, tag = "1")]
    pub node_id: u64,
    /// Its cluster.
    #[prost(uint64, required, tag = "2")]
    pub cluster_id: u64,
}

/// Content of a `.snap` file.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SnapFile {
    /// CRC-32C of `data`.
    #[prost(uint32, required, tag = "1")]
    pub crc: u32,
    /// An encoded [`crate::raftpb::Snapshot`].
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn start_of_a_wal_matches_observed_bytes() {
        let crc = Record {
            r#type: 4,
            crc: 0,
            data: Bytes::new(),
        };
        assert_eq!(crc.encode_to_vec(), [8, 4, 0x10, 0]);

        let metadata = Metadata {
            node_id: 7073261771659850901,
            cluster_id: 16328044541634532734,
        }
        .encode_to_vec();
        let record = Record {
            r#type: 1,
            crc: 0x6037_a4e9,
            data: metadata.into(),
        }
        .encode_to_vec();
        let expected = [
            0x08, 0x01, 0x10, 0xe9, 0xc9, 0xde, 0x81, 0x06, 0x1a, 0x15, 0x08, 0x95, 0xe9, 0x8a,
            0xb9, 0xb0, 0xc3, 0xd1, 0x94, 0x62, 0x10, 0xfe, 0xaa, 0x87, 0xe7, 0x83, 0xc0, 0xb7,
            0xcc, 0xe2, 0x01,
        ];
        assert_eq!(record, expected);

        let snapshot = Snapshot {
            index: 0,
            term: 0,
            conf_state: None,
        }
        .encode_to_vec();
        let record = Record {
            r#type: 5,
            crc: 0x2b9c_f244,
            data: snapshot.into(),
        }
        .encode_to_vec();
        assert_eq!(
            record,
            [
                8, 5, 0x10, 0xc4, 0xe4, 0xf3, 0xdc, 0x02, 0x1a, 4, 8, 0, 0x10, 0
            ]
        );
    }
}

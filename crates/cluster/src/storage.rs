use api::etcdserverpb::InternalRaftRequest;
use api::raftpb::{Entry, EntryType};
use backend::{Bucket, Op};
use bytes::Bytes;
use prost::Message as _;

use crate::records::TERM_KEY;
use crate::{FatalError, Source, Version};

const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";

/// Why a storage version cannot be told or changed; `Display` is etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageVersionError {
    /// A fresh backend, or one of 3.4: it says nothing about its version yet.
    #[error("cannot detect storage schema version: missing term information")]
    MissingTerm,
    /// No rules are known for this version.
    #[error("version \"{0}\" is not supported")]
    Unsupported(Version),
    /// Majors cannot be migrated.
    #[error("changing major storage version is not supported")]
    MajorChange,
    /// A snapshot must be taken first.
    #[error(
        "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) \
         is lower than the version ({found}) detected from WAL logs"
    )]
    NewerWal {
        /// Wanted version.
        target: Version,
        /// What the entries need.
        found: Version,
    },
    /// Reading the backend failed.
    #[error(transparent)]
    Read(#[from] FatalError),
}

/// One step of a migration: a change of the `meta` bucket, to be committed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaChange {
    /// The version the storage has after this step.
    pub version: Version,
    /// Key in the `meta` bucket.
    pub key: Bytes,
    /// The new value; `None` deletes the key.
    pub value: Option<Bytes>,
}

impl From<MetaChange> for Op {
    fn from(change: MetaChange) -> Self {
        let bucket = Bucket::Meta;
        match change.value {
            Some(value) => Self::Put {
                bucket,
                key: change.key,
                value,
            },
            None => Self::Delete {
                bucket,
                key: change.key,
            },
        }
    }
}

/// The version of the stored data: what `storageVersion` says, else 3.5 when a term is recorded.
pub fn detect_storage_version(source: &dyn Source) -> Result<Version, StorageVersionError> {
    let get = |key| {
        source
            .get(Bucket::Meta, key)
            .map_err(|e| FatalError::Read(e.to_string()))
    };
    let recorded = get(STORAGE_VERSION_KEY)?;
    // An unreadable record counts as none.
    let recorded = recorded.and_then(|v| std::str::from_utf8(&v).ok()?.parse().ok());
    if let Some(version) = recorded {
        return Ok(version);
    }
    let term = get(TERM_KEY)?.is_some_and(|t| t.iter().any(|byte| *byte != 0));
    if term {
        Ok(Version::V3_5)
    } else {
        Err(StorageVersionError::MissingTerm)
    }
}

/// Whether a program of version `server` may open data of version `storage`: it must know the rules
/// of every minor between them.
pub fn check_storage_version(storage: Version, server: Version) -> Result<(), StorageVersionError> {
    plan_storage_migration(storage, server.cluster(), server, None).map(|_| ())
}

/// The steps from one storage version to another, one minor at a time; empty when they are equal.
///
/// `wal` is what the entries behind the last disk snapshot need (see [`wal_version`]); going below
/// it is refused, because the older program would have to replay them.
pub fn plan_storage_migration(
    from: Version,
    to: Version,
    server: Version,
    wal: Option<Version>,
) -> Result<Vec<MetaChange>, StorageVersionError> {
    let (from, to) = (from.cluster(), to.cluster());
    if from.major != to.major {
        return Err(StorageVersionError::MajorChange);
    }
    for version in [from, to] {
        if !(Version::V3_5..=server.cluster()).contains(&version) {
            return Err(StorageVersionError::Unsupported(version));
        }
    }
    if let Some(found) = wal.filter(|wal| to < from && to < wal.cluster()) {
        return Err(StorageVersionError::NewerWal { target: to, found });
    }
    let mut steps = Vec::new();
    let mut at = from.minor;
    while at != to.minor {
        at = if at < to.minor { at + 1 } else { at - 1 };
        let version = Version::new(from.major, at, 0);
        // Before 3.6 there was no record.
        let value = (version >= Version::V3_6).then(|| Bytes::from(version.to_string()));
        steps.push(MetaChange {
            version,
            key: Bytes::from_static(STORAGE_VERSION_KEY),
            value,
        });
    }
    Ok(steps)
}

/// The lowest version that understands all these entries; `None` when there are none.
pub fn wal_version<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Version> {
    entries.into_iter().map(entry_version).max()
}

fn entry_version(entry: &Entry) -> Version {
    const V3_0: Version = Version::new(3, 0, 0);
    const V3_4: Version = Version::new(3, 4, 0);
    match EntryType::try_from(entry.r#type) {
        Ok(EntryType::ConfChange) => return V3_0,
        Ok(EntryType::ConfChangeV2) => return V3_4,
        _ => {}
    }
    // What is no request of today was written by 3.5 or older and is no newer than that.
    let Ok(request) = InternalRaftRequest::decode(entry.data.clone()) else {
        return V3_0;
    };
    if let Some(test) = &request.downgrade_version_test {
        let named = test.ver.parse().unwrap_or(Version::V3_6);
        return named.max(Version::V3_6);
    }
    let hashed_password = request
        .auth_user_add
        .as_ref()
        .is_some_and(|r| !r.hashed_password.is_empty())
        || request
            .auth_user_change_password
            .as_ref()
            .is_some_and(|r| !r.hashed_password.is_empty());
    if request.cluster_version_set.is_some()
        || request.cluster_member_attr_set.is_some()
        || request.downgrade_info_set.is_some()
        || request.auth_status.is_some()
        || hashed_password
    {
        Version::V3_5
    } else if request.lease_checkpoint.is_some() {
        V3_4
    } else {
        V3_0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::MapRecords;
    use crate::{publish_request, version_request};

    const V37: Version = Version::new(3, 7, 0);
    const SERVER: Version = Version::new(3, 7, 3);

    #[test]
    fn version_is_detected_from_record_or_term() {
        for (record, term, want) in [
            (Some("3.7.0"), None, Ok(V37)),
            (Some("3.6.0"), Some(2), Ok(Version::V3_6)),
            (Some(""), Some(2), Ok(Version::V3_5)),
            (None, Some(2), Ok(Version::V3_5)),
            (None, Some(0), Err(StorageVersionError::MissingTerm)),
            (None, None, Err(StorageVersionError::MissingTerm)),
        ] {
            let mut records = MapRecords::default();
            if let Some(text) = record {
                records.set(Bucket::Meta, "storageVersion", text.as_bytes());
            }
            if let Some(term) = term {
                records.set(Bucket::Meta, "term", &u64::to_be_bytes(term));
            }
            assert_eq!(detect_storage_version(&records), want);
        }
    }

    #[test]
    fn newer_data_are_refused() {
        let refused = |text: &str| {
            check_storage_version(text.parse().unwrap(), SERVER).map_err(|e| e.to_string())
        };
        for fine in ["3.5.0", "3.6.0", "3.7.0"] {
            assert_eq!(refused(fine), Ok(()));
        }
        assert_eq!(
            refused("3.8.0").unwrap_err(),
            "version \"3.8.0\" is not supported"
        );
        assert_eq!(
            refused("4.0.0").unwrap_err(),
            "changing major storage version is not supported"
        );
    }

    #[test]
    fn migration_goes_minor_by_minor() {
        let plan = |from, to, wal| {
            let steps = plan_storage_migration(from, to, SERVER, wal)?;
            let texts = steps.into_iter().map(|s| {
                s.value.map_or("none".to_owned(), |v| {
                    String::from_utf8_lossy(&v).into_owned()
                })
            });
            Ok::<_, StorageVersionError>(texts.collect::<Vec<_>>())
        };
        assert_eq!(plan(Version::V3_5, V37, None).unwrap(), ["3.6.0", "3.7.0"]);
        assert_eq!(plan(V37, V37, None).unwrap(), [""; 0]);
        assert_eq!(
            plan(V37, Version::V3_5, Some(Version::V3_5)).unwrap(),
            ["3.6.0", "none"]
        );
        assert_eq!(
            plan(V37, Version::V3_6, Some(V37)).unwrap_err().to_string(),
            "cannot downgrade storage, WAL contains newer entries, as the target version (3.6.0) \
             is lower than the version (3.7.0) detected from WAL logs"
        );
        assert!(plan(Version::V3_6, V37, Some(V37)).is_ok());
        assert!(plan(V37, Version::new(3, 4, 0), None).is_err());
    }

    #[test]
    fn entries_say_which_version_they_need() {
        let entry = |request: &InternalRaftRequest| Entry {
            r#type: 0,
            term: 1,
            index: 1,
            data: request.encode_to_vec().into(),
        };
        let put = InternalRaftRequest {
            put: Some(api::etcdserverpb::PutRequest::default()),
            ..Default::default()
        };
        let test = InternalRaftRequest {
            downgrade_version_test: Some(api::etcdserverpb::DowngradeVersionTestRequest {
                ver: "3.8.0".to_owned(),
            }),
            ..Default::default()
        };
        assert_eq!(wal_version([]), None);
        assert_eq!(wal_version([&entry(&put)]), Some(Version::new(3, 0, 0)));
        let entries = [entry(&put), entry(&publish_request(1, 2, "n", &[]))];
        assert_eq!(wal_version(&entries), Some(Version::V3_5));
        assert_eq!(
            wal_version([&entry(&version_request(1, V37))]),
            Some(Version::V3_5)
        );
        assert_eq!(wal_version([&entry(&test)]), Some(Version::new(3, 8, 0)));
    }
}

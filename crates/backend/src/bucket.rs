//! The buckets of a database.

/// One of the ten top-level buckets of etcd's database; see `docs/backend.md` for what each holds.
///
/// The variants are in the bytewise order of the names, which is the order hashes and copies go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Bucket {
    /// Raised alarms.
    Alarm,
    /// Whether authentication is on, and its revision.
    Auth,
    /// Roles by name.
    AuthRoles,
    /// Users by name.
    AuthUsers,
    /// Cluster version and downgrade record.
    Cluster,
    /// Every revision of every key, by revision.
    Key,
    /// Leases by id.
    Lease,
    /// Members by hexadecimal id.
    Members,
    /// Ids of removed members.
    MembersRemoved,
    /// Consistent index, term, conf state, compaction marks, storage version.
    Meta,
}

impl Bucket {
    /// All buckets, in order of their names.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRoles,
        Self::AuthUsers,
        Self::Cluster,
        Self::Key,
        Self::Lease,
        Self::Members,
        Self::MembersRemoved,
        Self::Meta,
    ];

    pub(crate) const COUNT: usize = 10;

    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRoles => "authRoles",
            Self::AuthUsers => "authUsers",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Lease => "lease",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }

    /// The bucket of this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|bucket| bucket.name().as_bytes() == name)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn variants_are_in_the_order_of_their_names() {
        let names: Vec<_> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
        for bucket in Bucket::ALL {
            assert_eq!(Bucket::ALL[bucket.index()], bucket);
            assert_eq!(Bucket::from_name(bucket.name().as_bytes()), Some(bucket));
        }
        assert_eq!(Bucket::from_name(b"test"), None);
    }
}

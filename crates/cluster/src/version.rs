use std::fmt;
use std::str::FromStr;

use crate::Downgrade;

/// A semantic version. A pre-release or build suffix is accepted when reading and dropped: every
/// rule of the cluster looks at major and minor only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 in cluster and storage versions.
    pub patch: u32,
}

/// The text is not of the form `1.2.3[-pre][+build]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in dotted-tri format")]
pub struct VersionError(String);

impl Version {
    /// The version a cluster starts at while not all members have answered; also the lowest one
    /// that works together with today's members.
    pub const MIN_CLUSTER: Self = Self::new(3, 0, 0);
    /// The last version without a storage version record.
    pub const V3_5: Self = Self::new(3, 5, 0);
    /// The first version with a storage version record.
    pub const V3_6: Self = Self::new(3, 6, 0);

    /// `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The same version with patch 0: what clusters and storage agree on.
    pub const fn cluster(self) -> Self {
        Self::new(self.major, self.minor, 0)
    }

    /// One minor lower; `None` at minor 0.
    pub fn previous_minor(self) -> Option<Self> {
        Some(Self::new(self.major, self.minor.checked_sub(1)?, 0))
    }

    /// One minor higher.
    pub fn next_minor(self) -> Self {
        Self::new(self.major, self.minor.saturating_add(1), 0)
    }

    /// Reads `3.6` as well as `3.6.0`, as the downgrade command accepts it; the result has patch 0.
    pub fn parse_target(text: &str) -> Result<Self, VersionError> {
        text.parse::<Self>()
            .or_else(|_| format!("{text}.0").parse::<Self>())
            .map(Self::cluster)
            .map_err(|_| VersionError(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let numbers = text.split('+').next().unwrap_or_default();
        let numbers = numbers.split('-').next().unwrap_or_default();
        let mut parts = numbers.split('.').map(number);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
                Ok(Self::new(major, minor, patch))
            }
            _ => Err(VersionError(text.to_owned())),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// What the leader's version loop should do; see `docs/membership.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionDecision {
    /// Nothing to propose.
    Keep,
    /// Propose this cluster version.
    Set(Version),
    /// A downgrade is running whose target does not fit: log an error, propose nothing.
    InvalidDowngradeTarget,
}

/// The lowest server version of all members; `None` while any of them is unknown.
pub fn min_member_version(versions: impl IntoIterator<Item = Option<Version>>) -> Option<Version> {
    let mut lowest = None;
    for version in versions {
        let version = version?;
        lowest = Some(lowest.map_or(version, |low: Version| low.min(version)));
    }
    lowest
}

/// Decides the next cluster version from the current one, the lowest member version (`None` while
/// some member has not answered) and the downgrade job.
pub fn decide_cluster_version(
    current: Option<Version>,
    min_member: Option<Version>,
    downgrade: &Downgrade,
) -> VersionDecision {
    let min_member = min_member.map(Version::cluster);
    let Some(current) = current else {
        return VersionDecision::Set(min_member.unwrap_or(Version::MIN_CLUSTER));
    };
    let Some(min_member) = min_member else {
        return VersionDecision::Keep;
    };
    if let Some(target) = downgrade.target() {
        if target == current {
            return VersionDecision::Keep;
        }
        let one_below = |v: Version| v.previous_minor() == Some(target);
        return if one_below(current) && one_below(min_member) {
            VersionDecision::Set(target)
        } else {
            VersionDecision::InvalidDowngradeTarget
        };
    }
    if current.major == min_member.major && current < min_member {
        VersionDecision::Set(min_member)
    } else {
        VersionDecision::Keep
    }
}

/// Whether a new member with `server` version may join a cluster whose members (as far as they
/// answered) report these cluster versions: at least one answered, and every one lies between 3.0
/// and the own minor, or the minor above it while a downgrade is enabled there.
pub fn compatible_with_cluster(
    server: Version,
    cluster_versions: impl IntoIterator<Item = Version>,
    downgrade_enabled: bool,
) -> bool {
    let own = server.cluster();
    let highest = if downgrade_enabled {
        own.next_minor()
    } else {
        own
    };
    let mut answered = false;
    for version in cluster_versions {
        if !(Version::MIN_CLUSTER..=highest).contains(&version.cluster()) {
            return false;
        }
        answered = true;
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(v("3.7.3"), Version::new(3, 7, 3));
        assert_eq!(v("3.7.0-alpha.0+git"), Version::new(3, 7, 0));
        assert!(v("3.10.0") > v("3.9.9"));
        assert_eq!(v("3.7.3").cluster().to_string(), "3.7.0");
        for bad in [
            "",
            "3",
            "3.7",
            "3.7.x",
            "3.7.0.1",
            "v3.7.0",
            "3..0",
            "3.+1.0",
            "9999999999.0.0",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert_eq!(Version::parse_target("3.6"), Ok(v("3.6.0")));
        assert_eq!(Version::parse_target("3.6.4"), Ok(v("3.6.0")));
        assert!(Version::parse_target("3").is_err());
    }

    #[test]
    fn cluster_version_follows_the_lowest_member() {
        use VersionDecision::{InvalidDowngradeTarget, Keep, Set};
        let off = Downgrade::default();
        let to_36 = Downgrade::to(v("3.6.0"));
        for (current, min, downgrade, want) in [
            (None, Some("3.7.3"), &off, Set(v("3.7.0"))),
            (None, None, &off, Set(v("3.0.0"))),
            (Some("3.6.0"), None, &off, Keep),
            (Some("3.6.0"), Some("3.7.3"), &off, Set(v("3.7.0"))),
            (Some("3.0.0"), Some("3.7.3"), &off, Set(v("3.7.0"))),
            (Some("3.7.0"), Some("3.7.3"), &off, Keep),
            (Some("3.7.0"), Some("3.6.1"), &off, Keep),
            (Some("3.7.0"), Some("4.0.0"), &off, Keep),
            (Some("3.7.0"), Some("3.7.3"), &to_36, Set(v("3.6.0"))),
            (Some("3.6.0"), Some("3.6.3"), &to_36, Keep),
            (Some("3.7.0"), Some("3.6.3"), &to_36, InvalidDowngradeTarget),
            (Some("3.8.0"), Some("3.8.0"), &to_36, InvalidDowngradeTarget),
        ] {
            let got = decide_cluster_version(current.map(v), min.map(v), downgrade);
            assert_eq!(got, want, "{current:?} {min:?}");
        }
    }

    #[test]
    fn one_silent_member_makes_the_minimum_unknown() {
        assert_eq!(
            min_member_version([Some(v("3.7.0")), Some(v("3.6.9"))]),
            Some(v("3.6.9"))
        );
        assert_eq!(min_member_version([Some(v("3.7.0")), None]), None);
        assert_eq!(min_member_version([]), None);
    }

    #[test]
    fn joining_needs_a_fitting_cluster() {
        let own = v("3.7.3");
        for (versions, downgrading, want) in [
            (vec!["3.7.0"], false, true),
            (vec!["3.6.0", "3.0.0"], false, true),
            (vec!["3.8.0"], false, false),
            (vec!["3.8.0"], true, true),
            (vec!["3.7.0"], true, true),
            (vec!["3.9.0"], true, false),
            (vec!["2.3.0"], false, false),
            (vec![], false, false),
        ] {
            let got = compatible_with_cluster(own, versions.iter().map(|t| v(t)), downgrading);
            assert_eq!(got, want, "{versions:?}");
        }
    }
}

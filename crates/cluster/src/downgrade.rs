use gotext::{Escape, push_json_string};

use crate::Version;
use crate::json::{bool_field, object, string_field};

/// The downgrade job of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    target: Option<Version>,
}

impl Downgrade {
    /// A running job with this target.
    pub fn to(target: Version) -> Self {
        Self {
            target: Some(target),
        }
    }

    /// Whether a job is running.
    pub fn is_enabled(&self) -> bool {
        self.target.is_some()
    }

    /// The version the cluster is on its way to.
    pub fn target(&self) -> Option<Version> {
        self.target
    }

    /// The record in the backend: `{"target-version":"3.6.0","enabled":true}`.
    pub fn to_json(&self) -> String {
        let target = self.target.map(|v| v.to_string()).unwrap_or_default();
        let mut out = String::from("{\"target-version\":");
        push_json_string(&mut out, &target, Escape::Html);
        out.push_str(",\"enabled\":");
        out.push_str(if self.is_enabled() { "true" } else { "false" });
        out.push('}');
        out
    }

    /// Reads the record. An enabled job needs a version as its target.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let map = object(bytes)?;
        if !bool_field(&map, "enabled")? {
            return Ok(Self::default());
        }
        let target = string_field(&map, "target-version")?;
        target
            .parse()
            .map(Self::to)
            .map_err(|e| format!("downgrade target: {e}"))
    }
}

/// Why a downgrade request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DowngradeError {
    /// Neither `3.6` nor `3.6.0`.
    #[error("etcdserver: wrong downgrade target version format")]
    WrongFormat,
    /// Not exactly one minor below the cluster version.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidTarget,
    /// A job is already running.
    #[error("etcdserver: cluster has a downgrade job in progress")]
    InProgress,
    /// Nothing to cancel.
    #[error("etcdserver: no inflight downgrade job")]
    NoInflight,
    /// The cluster has not agreed on a version yet.
    #[error("etcdserver: cluster version not found during downgrade")]
    VersionUnavailable,
}

impl From<DowngradeError> for api::Error {
    fn from(error: DowngradeError) -> Self {
        match error {
            DowngradeError::WrongFormat => Self::WrongDowngradeVersionFormat,
            DowngradeError::InvalidTarget => Self::InvalidDowngradeTargetVersion,
            DowngradeError::InProgress => Self::DowngradeInProcess,
            DowngradeError::NoInflight => Self::NoInflightDowngrade,
            DowngradeError::VersionUnavailable => Self::ClusterVersionUnavailable,
        }
    }
}

/// Checks a VALIDATE or ENABLE request; the result is the target with patch 0.
///
/// The target is judged before the question whether a job is running.
pub fn check_downgrade_target(
    target: &str,
    cluster_version: Option<Version>,
    running: &Downgrade,
) -> Result<Version, DowngradeError> {
    let target = Version::parse_target(target).map_err(|_| DowngradeError::WrongFormat)?;
    let cluster_version = cluster_version.ok_or(DowngradeError::VersionUnavailable)?;
    if cluster_version.previous_minor() != Some(target) {
        return Err(DowngradeError::InvalidTarget);
    }
    if running.is_enabled() {
        return Err(DowngradeError::InProgress);
    }
    Ok(target)
}

/// Whether every member runs the target's minor, so that the leader ends the job. A member that has
/// not answered (`None`) keeps it running.
pub fn downgrade_finished(
    target: Version,
    member_versions: impl IntoIterator<Item = Option<Version>>,
) -> bool {
    member_versions
        .into_iter()
        .all(|v| v.is_some_and(|v| v.cluster() == target.cluster()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V36: Version = Version::V3_6;
    const V37: Version = Version::new(3, 7, 0);

    #[test]
    fn records_are_those_of_etcd() {
        let job = Downgrade::to(V36);
        assert_eq!(
            job.to_json(),
            r#"{"target-version":"3.6.0","enabled":true}"#
        );
        assert_eq!(Downgrade::from_json(job.to_json().as_bytes()), Ok(job));
        let none = Downgrade::default();
        assert_eq!(none.to_json(), r#"{"target-version":"","enabled":false}"#);
        assert_eq!(Downgrade::from_json(none.to_json().as_bytes()), Ok(none));
        assert!(Downgrade::from_json(br#"{"target-version":"x","enabled":true}"#).is_err());
    }

    #[test]
    fn targets_must_be_one_minor_lower() {
        let none = Downgrade::default();
        for (text, current, running, want) in [
            ("3.6", Some(V37), none, Ok(V36)),
            ("3.6.0", Some(V37), none, Ok(V36)),
            ("3.6.5", Some(V37), none, Ok(V36)),
            ("3.5", Some(V37), none, Err(DowngradeError::InvalidTarget)),
            ("3.7.0", Some(V37), none, Err(DowngradeError::InvalidTarget)),
            ("2.6", Some(V37), none, Err(DowngradeError::InvalidTarget)),
            ("x", Some(V37), none, Err(DowngradeError::WrongFormat)),
            ("3.6", None, none, Err(DowngradeError::VersionUnavailable)),
            (
                "3.6",
                Some(V37),
                Downgrade::to(V36),
                Err(DowngradeError::InProgress),
            ),
            (
                "3.5",
                Some(V37),
                Downgrade::to(V36),
                Err(DowngradeError::InvalidTarget),
            ),
        ] {
            assert_eq!(
                check_downgrade_target(text, current, &running),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn a_job_ends_when_all_run_the_target() {
        let (a, b) = (Version::new(3, 6, 9), Version::new(3, 7, 1));
        assert!(downgrade_finished(V36, [Some(a), Some(V36)]));
        assert!(!downgrade_finished(V36, [Some(a), Some(b)]));
        assert!(!downgrade_finished(V36, [Some(a), None]));
    }
}

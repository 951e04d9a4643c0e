//! `/livez` and `/readyz`: checks one by one, for orchestrators.

use std::fmt::Write;

use api::etcdserverpb::AlarmType;
use http::{StatusCode, Uri};

use super::reply::{self, Reply};
use super::{Endpoints, query};
use crate::frontend::Frontend;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Restart this member if not.
    Live,
    /// Send it no clients if not.
    Ready,
}

/// One thing that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No corruption alarm.
    DataCorruption,
    /// This member can read its own data.
    SerializableRead,
    /// The cluster can agree on a read.
    LinearizableRead,
    /// This member is more than a learner.
    NonLearner,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }

    const fn checks(self) -> &'static [Check] {
        match self {
            Self::Live => &[Check::SerializableRead],
            Self::Ready => &[
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
                Check::NonLearner,
            ],
        }
    }
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

/// The kind a path names, and the single check if it names one.
pub fn of_path(path: &str) -> Option<(Kind, Option<Check>)> {
    for kind in [Kind::Live, Kind::Ready] {
        match path.strip_prefix(kind.path()) {
            Some("") => return Some((kind, None)),
            Some(rest) => {
                let name = rest.strip_prefix('/')?;
                let check = kind.checks().iter().find(|check| check.name() == name)?;
                return Some((kind, Some(*check)));
            }
            None => {}
        }
    }
    None
}

impl<F: Frontend> Endpoints<F> {
    pub(super) async fn run_checks(&self, kind: Kind, only: Option<Check>, uri: &Uri) -> Reply {
        let mut excluded = query::values(uri.query(), "exclude");
        let checks = only.as_ref().map_or(kind.checks(), std::slice::from_ref);
        let mut lines = String::new();
        let mut reasons = Vec::new();
        for check in checks {
            let name = check.name();
            if let Some(at) = excluded.iter().position(|excluded| excluded == name) {
                excluded.remove(at);
                continue;
            }
            let result = self.check(*check).await;
            self.count(kind, name, result.is_ok());
            // Writing to a string does not fail.
            let _ = match &result {
                Ok(()) => writeln!(lines, "[+]{name} ok"),
                Err(error) => writeln!(lines, "[-]{name} failed: {error}"),
            };
            reasons.extend(
                result
                    .err()
                    .map(|error| format!("[-]{name} failed: {error}")),
            );
        }
        if !excluded.is_empty() {
            let missing = excluded.join(",");
            tracing::warn!(
                "missing-health-checks" = missing,
                "some health checks cannot be excluded"
            );
        }
        if !reasons.is_empty() {
            let (path, reason) = (uri.path(), reasons.join("\n"));
            tracing::error!(path, reason, "status-code" = 503, "Health check error");
            return reply::error(StatusCode::SERVICE_UNAVAILABLE, &lines);
        }
        let verbose = query::first(uri.query(), "verbose").is_some();
        let body = if verbose {
            format!("{lines}ok\n")
        } else {
            "ok\n".to_owned()
        };
        reply::no_sniff(reply::text(body))
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let text = |error: api::Error| error.to_string();
        match check {
            Check::DataCorruption => {
                let corrupt = AlarmType::Corrupt as i32;
                if self
                    .member
                    .alarms()
                    .iter()
                    .any(|alarm| alarm.alarm == corrupt)
                {
                    return Err("alarm activated: CORRUPT".to_owned());
                }
                Ok(())
            }
            Check::SerializableRead => self.read(true).await.map_err(text),
            Check::LinearizableRead => self.read(false).await.map_err(text),
            Check::NonLearner if self.member.is_learner() => {
                Err("not supported for learner".to_owned())
            }
            Check::NonLearner => Ok(()),
        }
    }

    fn count(&self, kind: Kind, name: &str, good: bool) {
        let kind = &kind.path()[1..];
        let status = if good { "success" } else { "error" };
        self.metrics
            .server
            .healthcheck
            .with_label_values(&[kind, name])
            .set(good.into());
        self.metrics
            .server
            .healthchecks
            .with_label_values(&[kind, name, status])
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(of_path("/livez"), Some((Kind::Live, None)));
        assert_eq!(
            of_path("/readyz/non_learner"),
            Some((Kind::Ready, Some(Check::NonLearner)))
        );
        assert_eq!(of_path("/livez/non_learner"), None);
        assert_eq!(of_path("/readyzz"), None);
        assert_eq!(of_path("/readyz/"), None);
        assert_eq!(of_path("/health"), None);
    }
}

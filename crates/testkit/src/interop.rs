//! The real etcd programs, built on demand by `interop/build.sh` and cached in `interop/bin`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::cache;
use crate::skip::Skip;

/// A release of etcd that is pinned under `interop/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 3.5.35
    V35,
    /// 3.6.16
    V36,
    /// 3.7.3, the release whose behaviour is ours.
    V37,
}

impl Version {
    /// The full release number.
    pub fn release(self) -> &'static str {
        match self {
            Self::V35 => "3.5.35",
            Self::V36 => "3.6.16",
            Self::V37 => "3.7.3",
        }
    }

    /// Major and minor number, as `build.sh` and cluster versions name it.
    pub fn minor(self) -> &'static str {
        match self {
            Self::V35 => "3.5",
            Self::V36 => "3.6",
            Self::V37 => "3.7",
        }
    }
}

/// What was already built or found impossible in this process: a failing build is not tried once per test.
static BUILT: Mutex<Option<HashMap<&'static str, Result<(), Skip>>>> = Mutex::new(None);

fn build(set: &'static str) -> Result<(), Skip> {
    let mut guard = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    guard
        .get_or_insert_default()
        .entry(set)
        .or_insert_with(|| run_build(set))
        .clone()
}

fn run_build(set: &str) -> Result<(), Skip> {
    let script = cache::workspace().join("interop/build.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg(set)
        .output()
        .map_err(|error| Skip::new(format!("interop/build.sh cannot run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = text.lines().rev().take(4).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(Skip::new(format!(
        "real etcd {set} cannot be built: {}",
        tail.join(" / ")
    )))
}

fn program(version: Version, name: &str) -> Result<PathBuf, Skip> {
    build(version.minor())?;
    Ok(cache::workspace()
        .join("interop/bin")
        .join(version.release())
        .join(name))
}

/// The server of a release.
pub fn etcd(version: Version) -> Result<PathBuf, Skip> {
    program(version, "etcd")
}

/// The command line client of a release.
pub fn etcdctl(version: Version) -> Result<PathBuf, Skip> {
    program(version, "etcdctl")
}

/// The offline tool of a release.
pub fn etcdutl(version: Version) -> Result<PathBuf, Skip> {
    program(version, "etcdutl")
}

/// Upstream's load tool.
pub fn benchmark() -> Result<PathBuf, Skip> {
    build("benchmark")?;
    Ok(cache::workspace().join("interop/bin/benchmark"))
}

//! Our own server program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::cache;

/// The server under test: `STELE_ETCD` when set (any program that behaves as etcd, for example the real one, to
/// prove a test), otherwise `etcd` of this workspace, built by cargo when it is missing or older than a source.
///
/// # Panics
/// When the build fails: a test must not run against an outdated server.
pub fn etcd() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(locate).clone()
}

/// Whether the server under test is a real etcd out of `interop/bin`, to prove a test.
pub fn is_real() -> bool {
    etcd().starts_with(cache::workspace().join("interop/bin"))
}

fn locate() -> PathBuf {
    if let Some(path) = std::env::var_os("STELE_ETCD") {
        let path = PathBuf::from(path);
        return if path.is_absolute() {
            path
        } else {
            // Tests run in the crate's directory; paths are given from the workspace.
            cache::workspace().join(path)
        };
    }
    let path = cache::target_dir().join(cache::profile()).join("etcd");
    if is_current(&path) {
        return path;
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "-p", "etcd", "--bin", "etcd"]);
    if cache::profile() == "release" {
        command.arg("--release");
    }
    let output = command
        .current_dir(cache::workspace())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo build -p etcd failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

/// Whether the program is newer than every source file of the workspace.
fn is_current(program: &Path) -> bool {
    let Some(built) = modified(program) else {
        return false;
    };
    let mut folders = vec![cache::workspace().join("crates")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "tests" && name != "testkit" && name != "benches" {
                    folders.push(path);
                }
            } else if modified(&path).is_some_and(|time| time > built) {
                return false;
            }
        }
    }
    true
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

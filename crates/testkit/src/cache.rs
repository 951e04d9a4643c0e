//! Where built and downloaded things are kept between runs: under the workspace's `target`.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two levels below the workspace")
        .to_path_buf()
}

/// Cargo's target directory: where this very test program lies (`target/debug/deps/…`), or `CARGO_TARGET_DIR`,
/// or `target` of the workspace.
pub fn target_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(dir);
    }
    workspace().join("target")
}

/// The profile directory programs are built into, `debug` or `release`, taken from the running test program.
pub fn profile() -> &'static str {
    let exe = std::env::current_exe().unwrap_or_default();
    if exe.components().any(|part| part.as_os_str() == "release") {
        "release"
    } else {
        "debug"
    }
}

/// A directory of this name for cached things; made when missing.
///
/// # Panics
/// When it cannot be made.
pub fn dir(name: &str) -> PathBuf {
    let dir = target_dir().join("testkit").join(name);
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

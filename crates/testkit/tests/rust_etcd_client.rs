//! The crate `etcd-client` 0.21: `interop/rust-client` runs against our server.

#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::{Server, Skip, cache, etcdctl, need, own};

/// Builds the client program; cached by cargo.
fn program() -> Result<PathBuf, Skip> {
    let target = cache::dir("rust-client");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(cache::workspace().join("interop/rust-client/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("PROTOC", env!("CARGO_BIN_EXE_protoc-by-protox"))
        .env_remove("RUSTFLAGS")
        .output()
        .map_err(|error| Skip::new(format!("cargo cannot run: {error}")))?;
    if output.status.success() {
        return Ok(target.join("debug/rust-client"));
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // Only a missing network is an excuse; code that does not compile is a failure.
    let offline = [
        "failed to download",
        "Could not resolve host",
        "failed to get",
    ];
    assert!(
        offline.iter().any(|sign| text.contains(sign)),
        "interop/rust-client does not compile:\n{text}"
    );
    Err(Skip::new("the crate etcd-client cannot be downloaded"))
}

fn run(parts: &[&str]) {
    let program = need!(program());
    let server = Server::fresh(own::etcd());
    let mut command = Command::new(program);
    command
        .arg(server.endpoint())
        .args(parts)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = etcdctl::finish(command, &[]);
    assert_eq!(output.code, 0, "{}{}", output.out(), output.err());
    assert_eq!(output.out(), "ok\n");
}

#[test]
fn the_rust_client_does_its_work() {
    run(&["keys", "transactions", "leases", "watches", "maintenance"]);
}

#[test]
fn the_rust_client_locks_and_elects() {
    run(&["locks"]);
}

#[test]
fn the_rust_client_uses_auth() {
    run(&["keys", "auth"]);
}

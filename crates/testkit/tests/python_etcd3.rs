//! A client of another language: python-etcd3 runs `interop/python/scenario.py` against our server.

#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::Command;

use testkit::{Server, Skip, cache, etcdctl, need, own};

/// Pinned: an unpinned dependency would change the test from one day to the next.
const PACKAGES: [&str; 4] = [
    "etcd3==0.12.0",
    "protobuf==3.20.3",
    "grpcio==1.71.0",
    "tenacity==6.3.1",
];

/// A Python with etcd3 in a virtual environment below `target`, made once.
fn python() -> Result<PathBuf, Skip> {
    let home = cache::dir("python-etcd3");
    let lock = std::fs::File::create(home.join(".lock")).expect("a writable target directory");
    lock.lock().expect("a lock file can be locked");
    let python = home.join("venv/bin/python");
    let stamp = home.join(".stamp");
    let wanted = PACKAGES.join(" ");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let run = |program: &str, args: &[&str]| -> Result<(), Skip> {
        let output = Command::new(program)
            .args(args)
            .output()
            .map_err(|error| Skip::new(format!("{program} cannot run: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or_default();
        Err(Skip::new(format!("{program} {}: {last}", args.join(" "))))
    };
    let venv = home.join("venv").display().to_string();
    run("python3", &["-m", "venv", "--clear", &venv])?;
    let mut install = vec![
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    install.extend(PACKAGES);
    run(&python.display().to_string(), &install)?;
    std::fs::write(stamp, wanted).expect("a writable target directory");
    Ok(python)
}

#[test]
fn python_etcd3_does_its_work() {
    let python = need!(python());
    let server = Server::fresh(own::etcd());
    let mut command = Command::new(python);
    command
        .arg(cache::workspace().join("interop/python/scenario.py"))
        .arg(server.endpoint())
        .arg(server.home().join("python.snapshot"))
        // Its generated code is older than the fast parser of protobuf.
        .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = etcdctl::finish(command, &[]);
    assert_eq!(output.code, 0, "{}{}", output.out(), output.err());
    assert!(output.out().ends_with("ok\n"), "{}", output.out());
}

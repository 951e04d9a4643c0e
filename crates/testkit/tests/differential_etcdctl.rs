//! Every script of `scripts/`, played with the real `etcdctl` 3.7 to our server and to real etcd 3.7.

#![allow(clippy::disallowed_methods)]

use testkit::diff::{self, Script, Side};
use testkit::{need, own};

fn script(name: &str) -> Script {
    let path = testkit::cache::workspace()
        .join("crates/testkit/scripts")
        .join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).expect("the script is there");
    Script::parse(name, &text).expect("the script can be read")
}

fn same(name: &str) {
    let theirs = need!(Side::real());
    let ours = need!(Side::with_real_tools(own::etcd()));
    let differences = diff::run(&script(name), &ours, &theirs);
    assert!(differences.is_empty(), "{}", diff::report(&differences));
}

#[test]
fn kv() {
    same("kv");
}

#[test]
fn txn() {
    same("txn");
}

#[test]
fn watch() {
    same("watch");
}

#[test]
fn lease() {
    same("lease");
}

#[test]
fn compaction() {
    same("compaction");
}

#[test]
fn quota() {
    same("quota");
}

#[test]
fn maintenance() {
    same("maintenance");
}

#[test]
#[ignore = "member changes have not been compared with real etcd yet"]
fn members() {
    same("members");
}

#[test]
#[ignore = "the server has no downgrades yet"]
fn downgrade() {
    same("downgrade");
}

#[test]
fn auth() {
    same("auth");
}

#[test]
fn concurrency() {
    same("concurrency");
}

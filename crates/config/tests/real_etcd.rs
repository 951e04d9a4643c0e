//! The same command lines, variables and files given to real etcd and to us. All of them end etcd
//! before it serves: the good ones by a retention that is only read later.

#![allow(clippy::disallowed_methods)] // Tests read and write files directly.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use config::{Input, Outcome, Section, Version, parse};
use logging::{Record, Value};
use serde_json::Value as Json;
use testkit::interop;
use testkit::need;
use testkit::ports::Port;

/// What can be seen of a start: the exit code (0 for a good configuration), the first line that is
/// no log line, the log lines up to the end of configuration.
#[derive(Debug, PartialEq)]
struct Seen {
    code: i32,
    plain: String,
    lines: Vec<Json>,
}

/// Makes etcd stop after it has accepted all other options.
const LATER: &str = "--auto-compaction-retention=abc";

const VERSION: Version<'_> = Version {
    release: "3.7.3",
    commit: "c",
    compiler: "r",
};

type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

fn real(etcd: &Path, (args, variables): Case<'_>, dir: &Path) -> Seen {
    let output = Command::new(etcd)
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir)
        .output()
        .unwrap();
    let mut seen = Seen {
        code: output.status.code().unwrap(),
        plain: String::new(),
        lines: vec![],
    };
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let Ok(Json::Object(mut map)) = serde_json::from_str(line) else {
            if seen.plain.is_empty() {
                line.clone_into(&mut seen.plain);
            }
            continue;
        };
        if map["msg"] == "discovery failed" {
            seen.code = 0;
            break;
        }
        for key in ["ts", "caller", "stacktrace"] {
            map.remove(key);
        }
        seen.lines.push(Json::Object(map));
    }
    sort_deprecations(&mut seen.lines);
    let end = seen
        .lines
        .iter()
        .position(|line| line["msg"] == "Running: ");
    if let Some(end) = end.filter(|_| seen.code == 0) {
        seen.lines.truncate(end + 1);
    }
    seen
}

/// Go walks a map here: the order is another one each time.
fn sort_deprecations(lines: &mut [Json]) {
    let is_deprecation = |line: &Json| line["msg"].as_str().is_some_and(|m| m.starts_with("--"));
    for group in lines.chunk_by_mut(|a, b| is_deprecation(a) && is_deprecation(b)) {
        group.sort_by_key(|line| line["msg"].to_string());
    }
}

fn as_json(record: &Record) -> Json {
    let mut map = serde_json::Map::new();
    map.insert("level".to_owned(), record.level().name().into());
    map.insert("msg".to_owned(), record.message().into());
    for (name, value) in record.fields() {
        let value = match value {
            Value::Text(text) => text.clone().into(),
            Value::Unsigned(number) => (*number).into(),
            Value::Signed(number) => (*number).into(),
            Value::Bool(flag) => (*flag).into(),
            Value::Json(json) => serde_json::from_str(json).unwrap(),
            Value::Float(number) => (*number).into(),
        };
        map.insert(name.to_owned(), value);
    }
    Json::Object(map)
}

fn ours(etcd: &Path, (args, variables): Case<'_>) -> Outcome {
    let program = std::iter::once(etcd.to_str().unwrap());
    let args: Vec<String> = program
        .chain(args.iter().copied())
        .map(str::to_owned)
        .collect();
    let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let variables: Vec<(String, String)> = variables.iter().map(own).collect();
    let read_file = |path: &str| std::fs::read(path);
    parse(&Input {
        args: &args,
        variables: &variables,
        read_file: &read_file,
        version: VERSION,
    })
}

fn seen(outcome: &Outcome) -> Seen {
    match outcome {
        Outcome::Run(start) => Seen {
            code: 0,
            plain: String::new(),
            lines: start.early.iter().chain(&start.late).map(as_json).collect(),
        },
        Outcome::Exit(exit) => Seen {
            code: exit.code,
            plain: exit.stderr.lines().next().unwrap_or_default().to_owned(),
            lines: exit.records.iter().map(as_json).collect(),
        },
    }
}

/// Runs every case in both programs and reports all differences at once.
fn compare(etcd: &Path, cases: &[Case<'_>]) {
    let dir = tempfile::tempdir().unwrap();
    let mut differences = Vec::new();
    for case in cases {
        let want = real(etcd, *case, dir.path());
        let got = seen(&ours(etcd, *case));
        if want != got {
            differences.push(format!("{case:?}\n  etcd {want:?}\n  ours {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// One argument per case.
fn compare_flags(etcd: &Path, flags: &[&str]) {
    let args: Vec<[&str; 1]> = flags.iter().map(|flag| [*flag]).collect();
    let cases: Vec<Case<'_>> = args.iter().map(|args| (&args[..], &[][..])).collect();
    compare(etcd, &cases);
}

#[test]
fn syntax_errors() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    compare_flags(
        &etcd,
        &[
            "--foo",
            "---x",
            "--=x",
            "--name",
            "foo",
            "-",
            "--enable-pprof=maybe",
            "--auto-tls=",
            "--version=maybe",
            "--discovery=x",
            "--experimental-memory-mlock=true",
            "--max-concurrent-streams=4294967296",
            "--max-concurrent-streams=x",
            "--snapshot-count=-1",
            "--snapshot-count=99999999999999999999",
            "--quota-backend-bytes=x",
            "--max-learners=9999999999999999999",
            "--grpc-keepalive-min-time=5",
            "--initial-cluster-state=x",
            "--v2-deprecation=x",
            "--v2-deprecation=",
            "--v2-deprecation=not-yet",
            "--discovery-fallback=x",
            "--listen-client-urls=x",
            "--listen-peer-urls=http://a",
            "--listen-peer-urls=http://a:1/",
            "--listen-peer-urls=http://a:1/x",
            "--listen-peer-urls=http://[::1",
            "--listen-peer-urls=127.0.0.1:1",
            "--listen-peer-urls=http://a b:1",
            "--listen-peer-urls=http://a%zz:1",
            "--listen-peer-urls=http://a:x",
            "--listen-peer-urls=://a:1",
            "--listen-peer-urls=http://a:1,,http://b:1",
            "--cors=",
            "--cors=*,http://a:1",
            "--feature-gates=Foo=true",
            "--feature-gates=AllAlpha",
            "--feature-gates=AllAlpha=maybe",
            "--feature-gates==true",
            "--feature-gates=AllAlpha=true=false",
            "--bcrypt-cost=-1",
            "--max-wals=08",
            "--max-wals=1__0",
            "--max-wals=0x",
        ],
    );
    compare(
        &etcd,
        &[
            (&["--", "foo"], &[]),
            (&["--auto-tls", "false"], &[]),
            (&["--heartbeat-interval", "abc"], &[]),
        ],
    );
}

#[test]
fn values_that_pass() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    compare(
        &etcd,
        &[
            (&[LATER], &[]),
            (
                &[LATER, "--name=x", "--max-wals=0x10", "--snapshot-count=1_0"],
                &[],
            ),
            (&[LATER, "--listen-client-urls="], &[]),
            (&[LATER, "--advertise-client-urls="], &[]),
            (
                &[LATER, "--feature-gates=AllAlpha=1,,CompactHashCheck=0"],
                &[],
            ),
            (&[LATER, "--feature-gates="], &[]),
            (
                &[
                    LATER,
                    "--snapshot=maybe",
                    "--config",
                    "--force",
                    "-v",
                    "--test.outputdir=x",
                ],
                &[],
            ),
            (&[LATER, "--name="], &[]),
            (
                &[LATER, "--max-learners=-1", "--corrupt-check-time=-1s"],
                &[],
            ),
            (
                &[LATER, "--raft-read-timeout=1s", "--raft-write-timeout=0s"],
                &[],
            ),
            (&[LATER, "--max-snapshots=3", "--v2-deprecation=gone"], &[]),
            (&[LATER, "--feature-gates=LeaseCheckpoint=true"], &[]),
            (
                &[
                    LATER,
                    "--listen-client-http-urls=http://127.0.0.1:1",
                    "--name=x",
                ],
                &[],
            ),
            (
                &[
                    LATER,
                    "--auto-compaction-mode=revision",
                    "--initial-cluster=",
                ],
                &[],
            ),
            (&[LATER, "--advertise-client-urls=unix:x,unix:///x"], &[]),
            (
                &[
                    LATER,
                    "--peer-cert-allowed-cn=,a",
                    "--host-whitelist=",
                    "--auto-tls=F",
                ],
                &[],
            ),
        ],
    );
}

#[test]
fn validation() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    let client = "--advertise-client-urls=http://x:1";
    compare(
        &etcd,
        &[
            (&["--listen-client-urls=http://127.0.0.1:1"], &[]),
            (&["--listen-client-urls=http://:2379", client], &[]),
            (&["--listen-client-urls=http://example.com:1", client], &[]),
            (
                &["--listen-client-urls=http://[fe80::1%25lo]:2379", client],
                &[],
            ),
            (&["--listen-metrics-urls=http://example.com:5"], &[]),
            (&["--listen-client-http-urls=http://example.com:5"], &[]),
            (
                &["--advertise-client-urls=https://a:1,http://:1,http://b:1"],
                &[],
            ),
            (&["--initial-advertise-peer-urls=http://:1"], &[]),
            (&["--discovery-endpoints=", "--discovery-token=x"], &[]),
            (&["--discovery-endpoints="], &[]),
            (&["--discovery-token=x"], &[]),
            (&["--discovery-endpoints=a", "--discovery-srv=b"], &[]),
            (
                &["--discovery-endpoints=a", "--initial-cluster=b=http://a:1"],
                &[],
            ),
            (&["--discovery-fallback=proxy"], &[]),
            (&["--heartbeat-interval=0"], &[]),
            (&["--election-timeout=0"], &[]),
            (&["--election-timeout=499"], &[]),
            (&["--election-timeout=50001"], &[]),
            (&["--auto-compaction-mode="], &[]),
            (&["--auto-compaction-mode=foo"], &[]),
            (
                &[
                    "--enable-distributed-tracing",
                    "--distributed-tracing-sampling-rate=-1",
                ],
                &[],
            ),
            (
                &[
                    "--enable-distributed-tracing",
                    "--distributed-tracing-sampling-rate=1000001",
                ],
                &[],
            ),
            (&["--feature-gates=LeaseCheckpointPersist=true"], &[]),
            (&["--compact-hash-check-time=-1s"], &[]),
            (&["--tls-min-version=TLS1.1"], &[]),
            (&["--tls-max-version=TLS1.1", "--name=x"], &[]),
            (
                &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                &[],
            ),
            (&["--tls-min-version=TLS1.3", "--cipher-suites=X"], &[]),
            (
                &[
                    "--max-snapshots=1",
                    "--election-timeout=0",
                    "--v2-deprecation=gone",
                ],
                &[],
            ),
        ],
    );
}

#[test]
fn logging_flags() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    let rotate = "--enable-log-rotation";
    let to_a = "--log-outputs=a";
    compare(
        &etcd,
        &[
            (&["--logger=capnslog"], &[]),
            (&["--logger=foo"], &[]),
            (&["--log-level=foo"], &[]),
            (&["--log-format=foo"], &[]),
            (&["--log-outputs=default,stderr"], &[]),
            (&["--log-outputs=systemd/journal,stderr"], &[]),
            (&[rotate], &[]),
            (&[rotate, "--log-outputs=a,b"], &[]),
            (&[rotate, to_a, "--log-rotation-config-json="], &[]),
            (&[rotate, to_a, "--log-rotation-config-json={"], &[]),
            (&[rotate, to_a, "--log-rotation-config-json=[]"], &[]),
            (
                &[rotate, to_a, "--log-rotation-config-json={\"maxsize\":1.5}"],
                &[],
            ),
        ],
    );
}

#[test]
fn environment() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    compare(
        &etcd,
        &[
            (
                &[],
                &[
                    ("ETCD_NAME", "x"),
                    ("ETCD_FOO", "1"),
                    ("ETCD_VERSION", "5"),
                    ("ETCD_ELECTION_TIMEOUT", "0"),
                    ("ETCD_MAX_SNAPSHOTS", "4"),
                ],
            ),
            (&[LATER], &[("ETCD_DATA_DIR", ""), ("OTHER", "1")]),
            (&["--name", "y"], &[("ETCD_NAME", "x")]),
            (&["--name", "y"], &[("ETCD_NAME", "")]),
            (&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]),
            (&[], &[("ETCD_ENABLE_PPROF", "maybe")]),
            (&[], &[("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")]),
            (&[], &[("ETCD_CONFIG_FILE", "/nonexistent")]),
            (
                &["--config-file=/nonexistent"],
                &[("ETCD_CONFIG_FILE", "/x"), ("ETCD_NAME", "x")],
            ),
            (&["--config-file="], &[("ETCD_ELECTION_TIMEOUT", "0")]),
            (
                &[],
                &[("ETCD_ELECTION_TIMEOUT", "0"), ("ETCD_SNAPSHOT", "x")],
            ),
            (&["--force"], &[("ETCD_FORCE", "1")]),
        ],
    );
}

#[test]
fn files() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let argument = format!("--config-file={}", path.display());
    let args = [argument.as_str(), "--name=ignored"];
    let case: Case<'_> = (&args, &[("ETCD_NAME", "z")]);
    let mut differences = Vec::new();
    for text in FILES {
        let text = format!("{text}\nauto-compaction-retention: abc\n");
        std::fs::write(&path, &text).unwrap();
        let want = real(&etcd, case, dir.path());
        let got = seen(&ours(&etcd, case));
        let yaml_error = |seen: &Seen| {
            let last = seen.lines.last().map(|line| line["error"].to_string());
            last.is_some_and(|error| error.contains("error converting YAML to JSON: yaml: "))
        };
        // The two YAML libraries describe mistakes in words of their own.
        if want != got && !(yaml_error(&want) && yaml_error(&got)) {
            differences.push(format!("{text:?}\n  etcd {want:?}\n  ours {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

const FILES: &[&str] = &[
    "",
    "name: x\nmax-snapshots: 3\nv2-deprecation: foo",
    "name: 5",
    "name: true",
    "name: [a]",
    "name: {}",
    "name: null",
    "name: yes",
    "NAME: 5",
    "name: a\nname: b",
    "listen-peer-urls: http://a",
    "listen-client-urls: ftp://a:1",
    "listen-client-urls: http://127.0.0.1:1",
    "listen-client-http-urls: x",
    "listen-metrics-urls: x",
    "initial-advertise-peer-urls: x",
    "advertise-client-urls: x",
    "advertise-client-urls: ''",
    "cors: x",
    "cors: ''",
    "host-whitelist: ''",
    "listen-peer-urls: []",
    "client-transport-security: 5",
    "client-transport-security: []",
    "client-transport-security: null",
    "client-transport-security: {auto-tls: 1}",
    "peer-transport-security: {allowed-cn: x}",
    "peer-transport-security: {allowed-cn: [1]}",
    "socket-options: x",
    "socket-options: {reuse-port: x}",
    "discovery-config: 5",
    "discovery-config: {client: 5}",
    "discovery-config: {client: {secure: 5}}",
    "discovery-config: {client: {auth: {username: 5}}}",
    "discovery-config: {client: {endpoints: [a, a]}}",
    "discovery-config: {token: x}",
    "cipher-suites: [1]",
    "cipher-suites: [null, x]",
    "cipher-suites: x",
    "log-outputs: [a, {}]",
    "log-outputs: [default, stderr]",
    "snapshot-count: '5'",
    "snapshot-count: -1",
    "snapshot-count: 1.5",
    "snapshot-count: 99999999999999999999",
    "max-wals: 1e3",
    "max-wals: 0x10",
    "max-concurrent-streams: 4294967296",
    "quota-backend-bytes: 9223372036854775808",
    "grpc-keepalive-min-time: 10m",
    "grpc-keepalive-min-time: 1.5",
    "max-learners: {}",
    "pre-vote: 'true'",
    "pre-vote: yes",
    "a: b: c",
    "- 1",
    "1: x",
    "\tname: x",
    "name: \"\\q\"",
    "feature-gates: Foo=true",
    "feature-gates: AllAlpha",
    "feature-gates: {}",
    "feature-gates: LeaseCheckpoint=true",
    "v2-deprecation: 5",
    "initial-cluster-state: foo",
    "auto-compaction-mode: foo",
    "log-level: foo",
    "logger: foo",
    "log-format: foo",
    "experimental-foo: 1\ndiscovery: x\nproxy: on\nenable-v2: true",
    "raft-read-timeout: x\nclient-crl-file: 5\ndiscovery-fallback: 5\nconfig-file: 5\nversion: 5",
    "name: &a x\ndata-dir: *a",
    "election-timeout: 0",
    "discovery-srv: x\ndiscovery-config: {client: {endpoints: [a]}, token: t}",
];

/// Where etcd's help says something else than what happens without the flag.
const INEXACT_HELP: &[&str] = &[
    "backend-batch-interval",
    "max-concurrent-streams",
    "compaction-batch-limit",
    "watch-progress-notify-interval",
    "compaction-sleep-interval",
    "downgrade-check-time",
    "snapshot-catchup-entries",
    "bootstrap-defrag-threshold-megabytes",
    "enable-grpc-gateway",
    "memory-mlock",
];

#[test]
fn help_lists_the_same_flags_and_defaults() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    let output = Command::new(&etcd).arg("--help").output().unwrap();
    let mut theirs = listed(&String::from_utf8_lossy(&output.stdout));
    // Listed by etcd, but gone.
    theirs.remove("discovery");
    theirs.remove("discovery-proxy");
    let Outcome::Exit(exit) = ours(&etcd, (&["--help"], &[])) else {
        panic!("help runs nothing")
    };
    assert_eq!(Some(exit.code), output.status.code());
    let ours = listed(&exit.stdout);
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    for (name, default) in ours
        .iter()
        .filter(|(n, _)| !INEXACT_HELP.contains(&n.as_str()))
    {
        assert_eq!(Some(default), theirs.get(name), "{name}");
    }
    for flag in config::flags() {
        let hidden = matches!(flag.section, Section::Hidden | Section::FileOnly);
        assert_eq!(ours.contains_key(flag.name), !hidden, "{}", flag.name);
    }
}

fn listed(help: &str) -> BTreeMap<String, String> {
    let flags = help.lines().filter_map(|line| line.strip_prefix("  --"));
    flags
        .map(|flag| {
            let (name, default) = flag.split_once(' ').unwrap_or((flag, ""));
            (name.to_owned(), default.trim_matches('\'').to_owned())
        })
        .collect()
}

/// The record of all settings, which shows nearly every default.
#[test]
fn startup_record_is_the_same() {
    let etcd = need!(interop::etcd(interop::Version::V37));
    let dir = tempfile::tempdir().unwrap();
    // A database that cannot be opened ends the start right after the record.
    std::fs::create_dir_all(dir.path().join("d/member/snap/db")).unwrap();
    let ports = [Port::reserve(), Port::reserve()];
    let url = |at: usize| format!("http://127.0.0.1:{}", ports[at].number());
    let urls = [
        format!("--listen-client-urls={}", url(0)),
        format!("--advertise-client-urls={}", url(0)),
        format!("--listen-peer-urls={}", url(1)),
        format!("--initial-advertise-peer-urls={}", url(1)),
    ];
    for extra in [
        vec![],
        vec![
            "--max-wals=7",
            "--feature-gates=LeaseCheckpoint=true,AllBeta=false",
            "--auto-compaction-retention=2",
            "--quota-backend-bytes=-1",
            "--corrupt-check-time=3h",
            "--host-whitelist=b,a",
            "--cors=http://b:1,http://a:1",
            "--initial-cluster-token=t",
            "--max-learners=3",
            "--wal-dir=w",
        ],
        vec![
            "--auto-compaction-mode=revision",
            "--auto-compaction-retention=1000",
        ],
    ] {
        let mut args: Vec<&str> = urls.iter().map(String::as_str).collect();
        args.extend(["--data-dir=d", "--name=m"]);
        args.extend(extra);
        let output = Command::new(&etcd)
            .args(&args)
            .env_clear()
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text
            .lines()
            .find(|line| line.contains("\"starting an etcd server\""))
            .unwrap();
        let mut want: Json = serde_json::from_str(line).unwrap();
        let Outcome::Run(start) = ours(&etcd, (&args, &[])) else {
            panic!("{args:?}")
        };
        let mut got = as_json(&start.config.startup_record(&VERSION, false, "", (1, 1)));
        let differ = [
            "ts",
            "caller",
            "git-sha",
            "go-version",
            "max-cpu-set",
            "max-cpu-available",
        ];
        for key in differ {
            want.as_object_mut().unwrap().remove(key);
            got.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(got, want);
    }
}

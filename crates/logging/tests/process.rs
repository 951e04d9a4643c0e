//! What a whole process logs. The log is global, so each test runs in a process of its own.

#![allow(clippy::disallowed_methods)] // Tests read files directly.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use logging::{Config, Format, GoDuration, Hex, Json, Level, Record, Target};

const CHILD: &str = "LOGGING_TEST_CHILD";

/// Runs one test of this file in a new process and gives its output.
fn run_child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    let json = text.lines().filter(|line| line.starts_with("{\"level\""));
    json.map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn to_file(path: &Path, level: Level) -> Config {
    Config {
        level,
        format: Format::Json,
        targets: vec![Target::File(path.into())],
    }
}

#[test]
fn tracing_events_become_etcds_lines() {
    if !is_child() {
        assert!(
            run_child("tracing_events_become_etcds_lines")
                .status
                .success()
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    logging::init();
    logging::reconfigure(&to_file(&path, Level::Info)).unwrap();
    let took = Duration::from_micros(1500);
    tracing::info!(
        "local-member-id" = %Hex(0xab),
        took = %GoDuration(took),
        urls = %Json(&["http://a:1"]),
        count = 3,
        ok = true,
        "ready to serve client requests"
    );
    tracing::warn!(target: "raft", "{} became follower at term {}", Hex(1), 2);
    tracing::debug!("not yet");
    tracing::info!(target: "h2::codec", "never");
    logging::set_level(Level::Debug);
    tracing::debug!(error = %std::io::Error::other("broken"), "now");
    logging::emit(&Record::new(Level::Error, "by hand").field("signal", "terminated"));
    logging::set_level(Level::Info);
    for _ in 0..1000 {
        tracing::info!("many");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = lines(&text);
    assert_eq!(lines[0]["msg"], "ready to serve client requests");
    assert_eq!(lines[0]["level"], "info");
    assert!(
        lines[0]["caller"]
            .as_str()
            .unwrap()
            .starts_with("tests/process.rs:")
    );
    let tail =
        r#""local-member-id":"ab","took":"1.5ms","urls":["http://a:1"],"count":3,"ok":true}"#;
    assert!(text.lines().next().unwrap().ends_with(tail), "{text}");
    assert_eq!(lines[1]["logger"], "raft");
    assert_eq!(lines[1]["msg"], "1 became follower at term 2");
    assert_eq!(lines[2]["msg"], "now");
    assert_eq!(lines[2]["error"], "broken");
    assert_eq!(lines[3]["signal"], "terminated");
    let many = lines.iter().filter(|line| line["msg"] == "many").count();
    // The loop may cross into another second or two on a busy machine.
    assert!((109..500).contains(&many), "{many}");
}

#[test]
fn fatal_ends_with_one_panic_with_two() {
    if is_child() {
        logging::init();
        logging::fatal("discovery failed", &[("error", "no".into())]);
    }
    let output = run_child("fatal_ends_with_one_panic_with_two");
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[0]["level"], "fatal");
    assert_eq!(lines[0]["msg"], "discovery failed");
    assert_eq!(lines[0]["error"], "no");
}

#[test]
fn a_rust_panic_is_logged_and_ends_with_two() {
    if is_child() {
        logging::init();
        panic!("it cannot be");
    }
    let output = run_child("a_rust_panic_is_logged_and_ends_with_two");
    assert_eq!(output.status.code(), Some(2));
    let lines = lines(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[0]["level"], "panic");
    assert_eq!(lines[0]["msg"], "it cannot be");
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let error = logging::reconfigure(&to_file(Path::new("/nonexistent/x"), Level::Info));
    assert_eq!(
        error.unwrap_err().to_string(),
        "open sink \"/nonexistent/x\": open /nonexistent/x: no such file or directory"
    );
}

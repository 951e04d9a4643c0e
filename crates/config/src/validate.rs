//! The checks after parsing, in etcd's order and with etcd's texts.

use std::net::IpAddr;

use gotext::{Url, format_nanos, quote, split_host_port};
use logging::{Level, Record};

use crate::build::initial_cluster;
use crate::{Feature, FeatureGates, Origin, Settings, Value};

/// `--advertise-client-urls` is missing: etcd adds a line of its own for this one.
pub(crate) const ADVERTISE_MISSING: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

/// Checks everything but the logging flags. Warnings go to `records`; the error is etcd's text.
pub(crate) fn validate(s: &Settings, records: &mut Vec<Record>) -> Result<(), String> {
    for flag in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
    ] {
        check_bind_urls(&s.urls(flag))?;
    }
    if s.urls("listen-client-http-urls").is_empty() {
        records.push(Record::new(
            Level::Warn,
            "Running http and grpc server on single port. This is not recommended for production.",
        ));
    }
    check_bind_urls(&s.urls("listen-metrics-urls"))?;
    check_advertised(s)?;
    check_bootstrap(s)?;
    check_timing(s)?;
    if !in_file(s) && s.is_set("listen-client-urls") && !s.is_set("advertise-client-urls") {
        return Err(ADVERTISE_MISSING.to_owned());
    }
    match s.text("auto-compaction-mode").as_str() {
        "periodic" | "revision" => {}
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode {}", quote(other))),
    }
    check_tracing(s)?;
    check_gates(s, records)?;
    let nanos = s.nanos("compact-hash-check-time");
    if nanos <= 0 {
        return Err(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            format_nanos(nanos)
        ));
    }
    if s.text("name") == "default" {
        records.push(
            Record::new(
                Level::Warn,
                "it isn't recommended to use default name, please set a value for --name. Note that \
                 etcd might run into issue when multiple members have the same default name",
            )
            .field("name", "default"),
        );
    }
    check_tls_versions(s)
}

/// Whether the settings come from a file, where some checks do not apply.
fn in_file(s: &Settings) -> bool {
    s.origin("config-file") == Origin::File
}

fn check_bind_urls(urls: &[Url]) -> Result<(), String> {
    for url in urls.iter().filter(|url| !url.is_unix()) {
        let host = split_host_port(&url.host).map_or("", |(host, _)| host);
        if host != "localhost" && host.parse::<IpAddr>().is_err() {
            return Err(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn check_advertised(s: &Settings) -> Result<(), String> {
    let no_host = |urls: &[Url]| {
        urls.iter()
            .find(|url| !url.is_unix() && url.hostname().is_empty())
            .map(|url| format!("unexpected empty host ({url})"))
    };
    let joined = |urls: &[Url]| {
        urls.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let peers = s.urls("initial-advertise-peer-urls");
    if let Some(cause) = no_host(&peers) {
        return Err(format!(
            "--initial-advertise-peer-urls {} must be \"host:port\" ({cause})",
            quote(&joined(&peers))
        ));
    }
    let clients = s.urls("advertise-client-urls");
    if let Some(cause) = no_host(&clients) {
        return Err(format!(
            "--advertise-client-urls {} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({cause})",
            quote(&joined(&clients))
        ));
    }
    Ok(())
}

fn check_bootstrap(s: &Settings) -> Result<(), String> {
    let state = s.text("initial-cluster-state");
    if !matches!(state.as_str(), "new" | "existing" | "") {
        return Err(format!("unexpected clusterState {}", quote(&state)));
    }
    let endpoints = s.texts("discovery-endpoints");
    let ways = [
        !initial_cluster(s).is_empty(),
        !endpoints.is_empty(),
        !s.text("discovery-srv").is_empty(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        return Err(
            "multiple discovery or bootstrap flags are set. Choose one of \
                    \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""
                .to_owned(),
        );
    }
    if endpoints.is_empty() != s.text("discovery-token").is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    Ok(())
}

fn check_timing(s: &Settings) -> Result<(), String> {
    const MAX_ELECTION_MS: u64 = 50_000;
    let heartbeat = s.unsigned("heartbeat-interval");
    let election = s.unsigned("election-timeout");
    for (flag, millis) in [
        ("heartbeat-interval", heartbeat),
        ("election-timeout", election),
    ] {
        if millis == 0 {
            return Err(format!("--{flag} must be >0 (set to 0ms)"));
        }
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > MAX_ELECTION_MS {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {MAX_ELECTION_MS}ms"
        ));
    }
    Ok(())
}

fn check_tracing(s: &Settings) -> Result<(), String> {
    if !s.flag("enable-distributed-tracing") {
        return Ok(());
    }
    let cause = match s.signed("distributed-tracing-sampling-rate") {
        rate if rate < 0 => "tracing sampling rate must be positive",
        rate if rate > 1_000_000 => "tracing sampling rate must be less than 1000000",
        _ => return Ok(()),
    };
    // The misspelling is etcd's.
    Err(format!(
        "distributed tracing configurition is not valid: ({cause})"
    ))
}

fn check_gates(s: &Settings, records: &mut Vec<Record>) -> Result<(), String> {
    let gates = match s.value("feature-gates") {
        Value::Gates(gates) => gates.clone(),
        _ => FeatureGates::default(),
    };
    let checkpoint = gates.is_enabled(Feature::LeaseCheckpoint);
    let persist = gates.is_enabled(Feature::LeaseCheckpointPersist);
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                    LeaseCheckpoint"
                .to_owned(),
        );
    }
    if checkpoint && !persist {
        records.push(Record::new(
            Level::Warn,
            "Detected that checkpointing is enabled without persistence. Consider enabling feature \
             gate LeaseCheckpointPersist",
        ));
    }
    Ok(())
}

fn check_tls_versions(s: &Settings) -> Result<(), String> {
    let version = |flag| match s.text(flag).as_str() {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(2)),
        "TLS1.3" => Ok(Some(3)),
        other => Err(format!(
            "unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)",
            quote(other)
        )),
    };
    let min = version("tls-min-version")?;
    let max = version("tls-max-version")?;
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(format!(
            "min version (TLS1.{min}) is greater than max version (TLS1.{max})"
        ));
    }
    if min == Some(3) && !s.texts("cipher-suites").is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Ok(())
}

use crate::{FileKey, Flag, Kind, Section};

const fn logging(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag::new(Section::Logging, name, kind, default, help)
}

const fn tracing(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag::new(Section::Tracing, name, kind, default, help)
}

const fn feature(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag::new(Section::Features, name, kind, default, help)
}

pub(super) static FLAGS: &[Flag] = &[
    Flag::new(
        Section::Monitoring,
        "enable-pprof",
        Kind::Bool,
        "false",
        "Serve profiles below /debug/pprof/ of the client URLs.",
    ),
    Flag::new(
        Section::Monitoring,
        "metrics",
        Kind::Text,
        "basic",
        "'extensive' adds histograms of all gRPC calls to the metrics.",
    ),
    Flag::new(
        Section::Monitoring,
        "listen-metrics-urls",
        Kind::Urls,
        "",
        "URLs to listen on for metrics and health alone; https uses the TLS settings of the client URLs.",
    ),
    logging(
        "logger",
        Kind::Text,
        "zap",
        "Only 'zap', the name of etcd's log form.",
    ),
    logging(
        "log-outputs",
        Kind::TextSet,
        "default",
        "Where log lines go: 'stdout', 'stderr' (the default), 'systemd/journal', files.",
    ),
    logging(
        "log-level",
        Kind::Text,
        "info",
        "Lowest level that is logged: debug, info, warn, error, panic or fatal.",
    ),
    logging(
        "log-format",
        Kind::Text,
        "json",
        "Form of log lines: json or console.",
    ),
    logging(
        "enable-log-rotation",
        Kind::Bool,
        "false",
        "Rename the log file when it gets too big and begin a new one.",
    ),
    logging(
        "log-rotation-config-json",
        Kind::Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "How: size in MB, age in days and number of old files (0: no limit), names in local time, gzip.",
    ),
    logging(
        "warning-unary-request-duration",
        Kind::Duration,
        "300ms",
        "Time after which a finished request is logged as slow.",
    ),
    tracing(
        "enable-distributed-tracing",
        Kind::Bool,
        "false",
        "Send traces to a collector.",
    ),
    tracing(
        "distributed-tracing-address",
        Kind::Text,
        "localhost:4317",
        "Address of the collector (OTLP over gRPC).",
    ),
    tracing(
        "distributed-tracing-service-name",
        Kind::Text,
        "etcd",
        "Service name in traces; the same for all members.",
    ),
    tracing(
        "distributed-tracing-instance-id",
        Kind::Text,
        "",
        "Instance id in traces; different for each member.",
    ),
    tracing(
        "distributed-tracing-sampling-rate",
        Kind::Signed,
        "0",
        "How many of a million requests are traced.",
    ),
    feature(
        "corrupt-check-time",
        Kind::Duration,
        "0s",
        "Time between two comparisons of all members' data (0: none).",
    ),
    feature(
        "compact-hash-check-time",
        Kind::Duration,
        "1m",
        "Time between two comparisons of compaction hashes (see CompactHashCheck).",
    ),
    feature(
        "compaction-batch-limit",
        Kind::Signed,
        "0",
        "Revisions that one step of a compaction deletes; 0 means 1000.",
    ),
    feature(
        "peer-skip-client-san-verification",
        Kind::Bool,
        "false",
        "Do not compare the names in another member's certificate with its address.",
    )
    .in_file(FileKey::Peer("skip-client-san-verification")),
    feature(
        "watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Time between two progress notifications of a quiet watch; 0 means 10m.",
    ),
    feature(
        "warning-apply-duration",
        Kind::Duration,
        "100ms",
        "Time after which an applied request is logged as slow.",
    ),
    feature(
        "bootstrap-defrag-threshold-megabytes",
        Kind::Unsigned,
        "0",
        "Rewrite the database at the start if that frees so many MiB (0: never).",
    ),
    feature(
        "max-learners",
        Kind::Signed,
        "1",
        "Learners a cluster may have; must be the same on all members.",
    ),
    feature(
        "compaction-sleep-interval",
        Kind::Duration,
        "0s",
        "Pause between two steps of a compaction; 0 means 10ms.",
    ),
    feature(
        "downgrade-check-time",
        Kind::Duration,
        "5s",
        "Time between two checks whether a downgrade is complete (0: none).",
    ),
    feature(
        "snapshot-catchup-entries",
        Kind::Unsigned,
        "5000",
        "Entries kept in memory behind a snapshot for slow members.",
    ),
    Flag::new(
        Section::Unsafe,
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Make a cluster of one out of this member's data. All other members are forgotten.",
    ),
    Flag::new(
        Section::Unsafe,
        "unsafe-no-fsync",
        Kind::Bool,
        "false",
        "Never sync files to disk: a crash of the machine loses data.",
    ),
];

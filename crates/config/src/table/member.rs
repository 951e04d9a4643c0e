use crate::{FileKey, Flag, Kind, Section};

const fn member(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag::new(Section::Member, name, kind, default, help)
}

pub(super) static FLAGS: &[Flag] = &[
    member("name", Kind::Text, "default", "Name of this member, for people; must differ between members."),
    member(
        "data-dir",
        Kind::Text,
        "",
        "Directory for everything this member keeps; '${name}.etcd' when empty.",
    ),
    member("wal-dir", Kind::Text, "", "Directory for the write-ahead log alone, to put it on another disk."),
    member(
        "snapshot-count",
        Kind::Unsigned,
        "10000",
        "Entries applied after which a snapshot is written to disk.",
    ),
    member("heartbeat-interval", Kind::Unsigned, "100", "Milliseconds between two heartbeats of the leader."),
    member(
        "election-timeout",
        Kind::Unsigned,
        "1000",
        "Milliseconds without a heartbeat after which a member stands for election.",
    ),
    member(
        "initial-election-tick-advance",
        Kind::Bool,
        "true",
        "Shorten the wait for the first election after a start.",
    ),
    member(
        "listen-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs to listen on for other members.",
    ),
    member(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
    ),
    member(
        "listen-client-http-urls",
        Kind::Urls,
        "",
        "URLs to listen on for HTTP clients only; takes HTTP away from --listen-client-urls.",
    ),
    member(
        "max-snapshots",
        Kind::Unsigned,
        "5",
        "Snapshot files to keep (0 keeps all). Deprecated since v3.6, will be decommissioned in v3.8.",
    )
    .deprecated("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    member("max-wals", Kind::Unsigned, "5", "Write-ahead log files to keep (0 keeps all)."),
    member("memory-mlock", Kind::Bool, "false", "Keep the pages of the database in memory with mlock."),
    member(
        "quota-backend-bytes",
        Kind::Signed,
        "0",
        "Size of the database in bytes that raises a NOSPACE alarm: 0 means 2 GiB, a negative value none.",
    ),
    member(
        "backend-bbolt-freelist-type",
        Kind::Text,
        "map",
        "How free pages are remembered (array or map); both are accepted, the file is the same.",
    ),
    member(
        "backend-batch-interval",
        Kind::Duration,
        "0s",
        "Longest time a change waits to be committed to the database; 0 means 100ms.",
    ),
    member(
        "backend-batch-limit",
        Kind::Signed,
        "0",
        "Changes after which the database is committed early; 0 means 10000.",
    ),
    member("max-txn-ops", Kind::Unsigned, "128", "Operations that one transaction may have."),
    member("max-request-bytes", Kind::Unsigned, "1572864", "Largest request of a client in bytes."),
    member(
        "max-concurrent-streams",
        Kind::Unsigned32,
        "4294967295",
        "Streams that one connection of a client may have open.",
    ),
    member(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "5s",
        "Shortest time between two pings of a client that is tolerated.",
    ),
    member(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h",
        "Time after which a silent connection is pinged (0 never does).",
    ),
    member(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "Time to wait for the answer to such a ping before the connection is closed (0 never does).",
    ),
    member(
        "socket-reuse-port",
        Kind::Bool,
        "false",
        "Listen with SO_REUSEPORT, so that several processes can share a port.",
    )
    .in_file(FileKey::Path(&["socket-options", "reuse-port"])),
    member(
        "socket-reuse-address",
        Kind::Bool,
        "false",
        "Listen with SO_REUSEADDR, so that an address in TIME_WAIT can be used.",
    )
    .in_file(FileKey::Path(&["socket-options", "reuse-address"])),
    member("enable-grpc-gateway", Kind::Bool, "true", "Serve the JSON form of the API over HTTP."),
    member(
        "raft-read-timeout",
        Kind::Duration,
        "5s",
        "Time without data after which a connection from another member is closed; 5s at least.",
    )
    .in_file(FileKey::None),
    member(
        "raft-write-timeout",
        Kind::Duration,
        "5s",
        "Time a write to another member may take; 5s at least.",
    )
    .in_file(FileKey::None),
    member(
        "feature-gates",
        Kind::Gates,
        "",
        "Switches features on and off: Name=true,Other=false. The features and their defaults:",
    ),
];

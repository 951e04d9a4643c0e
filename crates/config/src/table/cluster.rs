use crate::{FileKey, Flag, Kind, Section};

const fn clustering(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag::new(Section::Clustering, name, kind, default, help)
}

/// A discovery option and its keys below `discovery-config`.
const fn discovery(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    path: &'static [&'static str],
    help: &'static str,
) -> Flag {
    clustering(name, kind, default, help).in_file(FileKey::Path(path))
}

pub(super) static FLAGS: &[Flag] = &[
    clustering(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs of this member that are told to other members.",
    ),
    clustering(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "Founding members as name=url,name=url; only looked at before the first start.",
    ),
    clustering(
        "initial-cluster-state",
        Kind::Choice(&["new", "existing"]),
        "new",
        "'new' to found a cluster, 'existing' to join one.\nOnly looked at before the first start.",
    ),
    clustering(
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Goes into the ids of a new cluster, so that clusters with the same URLs cannot be mistaken for\n\
         each other.",
    ),
    clustering(
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs of this member that are told to clients.\nThey must be reachable from where the clients are.",
    ),
    discovery(
        "discovery-token",
        Kind::Text,
        "",
        &["discovery-config", "token"],
        "Discovery: token of the cluster to be founded.",
    ),
    discovery(
        "discovery-endpoints",
        Kind::TextSet,
        "",
        &["discovery-config", "client", "endpoints"],
        "Discovery: endpoints of the etcd that serves as discovery service.",
    ),
    discovery(
        "discovery-dial-timeout",
        Kind::Duration,
        "2s",
        &["discovery-config", "client", "dial-timeout"],
        "Discovery: time to connect.",
    ),
    discovery(
        "discovery-request-timeout",
        Kind::Duration,
        "5s",
        &["discovery-config", "client", "request-timeout"],
        "Discovery: time for one request once connected.",
    ),
    discovery(
        "discovery-keepalive-time",
        Kind::Duration,
        "2s",
        &["discovery-config", "client", "keepalive-time"],
        "Discovery: time after which a silent connection is pinged.",
    ),
    discovery(
        "discovery-keepalive-timeout",
        Kind::Duration,
        "6s",
        &["discovery-config", "client", "keepalive-timeout"],
        "Discovery: time to wait for the answer to such a ping.",
    ),
    discovery(
        "discovery-insecure-transport",
        Kind::Bool,
        "true",
        &["discovery-config", "client", "secure", "insecure-transport"],
        "Discovery: connect without TLS.",
    ),
    discovery(
        "discovery-insecure-skip-tls-verify",
        Kind::Bool,
        "false",
        &[
            "discovery-config",
            "client",
            "secure",
            "insecure-skip-tls-verify",
        ],
        "Discovery: do not verify the certificate of the service (only for tests).",
    ),
    discovery(
        "discovery-cert",
        Kind::Text,
        "",
        &["discovery-config", "client", "secure", "cert"],
        "Discovery: certificate file to present.",
    ),
    discovery(
        "discovery-key",
        Kind::Text,
        "",
        &["discovery-config", "client", "secure", "key"],
        "Discovery: key file of that certificate.",
    ),
    discovery(
        "discovery-cacert",
        Kind::Text,
        "",
        &["discovery-config", "client", "secure", "cacert"],
        "Discovery: file with the authorities that may have signed the certificate of the service.",
    ),
    discovery(
        "discovery-user",
        Kind::Text,
        "",
        &["discovery-config", "client", "auth", "username"],
        "Discovery: user to log in as.",
    ),
    discovery(
        "discovery-password",
        Kind::Text,
        "",
        &["discovery-config", "client", "auth", "password"],
        "Discovery: password of that user.",
    ),
    clustering(
        "discovery-fallback",
        Kind::Choice(&["exit", "proxy"]),
        "exit",
        "What to do when discovery fails; only 'exit' is left.",
    )
    .in_file(FileKey::None),
    clustering(
        "discovery-srv",
        Kind::Text,
        "",
        "DNS domain whose SRV records name the founding members.",
    ),
    clustering(
        "discovery-srv-name",
        Kind::Text,
        "",
        "Suffix of the service name that is asked for.",
    ),
    clustering(
        "strict-reconfig-check",
        Kind::Bool,
        "true",
        "Refuse membership changes that would lose the quorum.",
    ),
    clustering(
        "pre-vote",
        Kind::Bool,
        "true",
        "Ask for votes before an election, so that a member that was cut off does not disturb the others.",
    ),
    clustering(
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "How much history automatic compaction keeps; 0 switches it off.",
    ),
    clustering(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "What the retention counts: 'periodic' time (hours without a unit, or '5m'), 'revision' revisions.",
    ),
    clustering(
        "v2-deprecation",
        Kind::LoudChoice(&[
            "write-only",
            "write-only-skip-check",
            "write-only-drop-data",
            "gone",
        ]),
        "write-only",
        "Stage of the removal of the v2 store. Without effect: there is no v2 store any more.",
    )
    .deprecated(
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is \
         enforced, ignoring user input.",
    ),
];

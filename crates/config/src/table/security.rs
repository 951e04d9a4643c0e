use crate::{FileKey, Flag, Kind, Section};

const fn security(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag::new(Section::Security, name, kind, default, help)
}

const fn client(name: &'static str, kind: Kind, key: &'static str, help: &'static str) -> Flag {
    security(name, kind, default_of(kind), help).in_file(FileKey::Client(key))
}

const fn peer(name: &'static str, kind: Kind, key: &'static str, help: &'static str) -> Flag {
    security(name, kind, default_of(kind), help).in_file(FileKey::Peer(key))
}

const fn default_of(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Bool) {
        "false"
    } else {
        ""
    }
}

pub(super) static FLAGS: &[Flag] = &[
    client(
        "cert-file",
        Kind::Text,
        "cert-file",
        "Certificate file for the client ports.",
    ),
    client(
        "key-file",
        Kind::Text,
        "key-file",
        "Key file of that certificate.",
    ),
    client(
        "client-cert-auth",
        Kind::Bool,
        "client-cert-auth",
        "Demand a certificate from clients.",
    ),
    client(
        "client-cert-file",
        Kind::Text,
        "client-cert-file",
        "Certificate file this member presents as a client; --cert-file if empty.",
    ),
    client(
        "client-key-file",
        Kind::Text,
        "client-key-file",
        "Key file of that certificate.",
    ),
    security(
        "client-crl-file",
        Kind::Text,
        "",
        "File with revoked certificates of clients.",
    )
    .in_file(FileKey::None),
    client(
        "client-cert-allowed-hostname",
        Kind::TextList,
        "allowed-hostname",
        "Host names of which a client's certificate must have one.",
    ),
    client(
        "trusted-ca-file",
        Kind::Text,
        "trusted-ca-file",
        "File with the authorities that may have signed the certificates of clients.",
    ),
    client(
        "auto-tls",
        Kind::Bool,
        "auto-tls",
        "Use TLS with a certificate made at the start.",
    ),
    peer(
        "peer-cert-file",
        Kind::Text,
        "cert-file",
        "Certificate file for the peer port.",
    ),
    peer(
        "peer-key-file",
        Kind::Text,
        "key-file",
        "Key file of that certificate.",
    ),
    peer(
        "peer-client-cert-auth",
        Kind::Bool,
        "client-cert-auth",
        "Demand a certificate from other members.",
    ),
    peer(
        "peer-client-cert-file",
        Kind::Text,
        "client-cert-file",
        "Certificate file this member presents to other members; --peer-cert-file if empty.",
    ),
    peer(
        "peer-client-key-file",
        Kind::Text,
        "client-key-file",
        "Key file of that certificate.",
    ),
    peer(
        "peer-trusted-ca-file",
        Kind::Text,
        "trusted-ca-file",
        "File with the authorities that may have signed the certificates of other members.",
    ),
    peer(
        "peer-cert-allowed-cn",
        Kind::TextList,
        "allowed-cn",
        "Common names of which another member's certificate must have one.",
    ),
    peer(
        "peer-cert-allowed-hostname",
        Kind::TextList,
        "allowed-hostname",
        "Host names of which another member's certificate must have one.",
    ),
    peer(
        "peer-auto-tls",
        Kind::Bool,
        "auto-tls",
        "Use TLS between members with a certificate made at the start, if no other is given.",
    ),
    security(
        "self-signed-cert-validity",
        Kind::Unsigned,
        "1",
        "Years for which certificates made at the start are valid.",
    ),
    security(
        "peer-crl-file",
        Kind::Text,
        "",
        "File with revoked certificates of other members.",
    )
    .in_file(FileKey::None),
    security(
        "cipher-suites",
        Kind::TextList,
        "",
        "Cipher suites of TLS 1.2 to use, for clients and members; a sensible set if empty.",
    ),
    security(
        "cors",
        Kind::Origins,
        "*",
        "Origins from which browsers may use the API (* means all).",
    ),
    security(
        "host-whitelist",
        Kind::TextSet,
        "*",
        "Host names that requests without TLS may name (empty or * means all).",
    ),
    security(
        "tls-min-version",
        Kind::Text,
        "TLS1.2",
        "Lowest version of TLS: TLS1.2 or TLS1.3.",
    ),
    security(
        "tls-max-version",
        Kind::Text,
        "",
        "Highest version of TLS: TLS1.2 or TLS1.3 (the newest if empty).",
    ),
    Flag::new(
        Section::FileOnly,
        "client-cert-allowed-cn",
        Kind::TextList,
        "",
        "",
    )
    .in_file(FileKey::Client("allowed-cn")),
    Flag::new(
        Section::FileOnly,
        "client-skip-client-san-verification",
        Kind::Bool,
        "false",
        "",
    )
    .in_file(FileKey::Client("skip-client-san-verification")),
    Flag::new(
        Section::Auth,
        "auth-token",
        Kind::Text,
        "simple",
        "Kind of token users get: 'simple', or 'jwt' with its options after commas.",
    ),
    Flag::new(
        Section::Auth,
        "bcrypt-cost",
        Kind::Unsigned,
        "10",
        "Cost of hashing a password, 4 to 31; each step doubles the time.",
    ),
    Flag::new(
        Section::Auth,
        "auth-token-ttl",
        Kind::Unsigned,
        "300",
        "Seconds a simple token lives unused.",
    ),
];

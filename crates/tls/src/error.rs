//! What can be wrong with the configuration.

/// Why TLS cannot be set up. Texts are etcd's and Go's (`docs/tls.md`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only one of certificate and key was given.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair {
        /// The key file, or nothing.
        key: String,
        /// The certificate file, or nothing.
        cert: String,
    },
    /// Only one of client certificate and client key was given. The bracket that closes nothing is etcd's.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    HalfClientPair {
        /// The key file, or nothing.
        key: String,
        /// The certificate file, or nothing.
        cert: String,
    },
    /// A peer port with scheme `https` lacks a certificate.
    #[error("cannot listen on TLS for {address}: KeyFile and CertFile are not presented")]
    NotPresented {
        /// `host:port` of the port.
        address: String,
    },
    /// Common names and host names were both restricted.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns}, hostnames={hostnames})"
    )]
    TwoLists {
        /// The common names, quoted.
        cns: String,
        /// The host names, quoted.
        hostnames: String,
    },
    /// A file cannot be read: `open <path>: <reason>`.
    #[error("{operation} {path}: {reason}")]
    File {
        /// What failed: `open`, `read`.
        operation: &'static str,
        /// The file.
        path: String,
        /// The reason in the system's words.
        reason: String,
    },
    /// A certificate, key or revocation list is not one.
    #[error("{0}")]
    Malformed(String),
    /// A cipher suite has no name like that.
    #[error("unexpected TLS cipher suite {0}")]
    UnknownSuite(String),
    /// A cipher suite exists, but not here.
    #[error(
        "TLS cipher suite {0} is not supported: only suites with forward secrecy and authenticated encryption are \
         (TLS_ECDHE_{{ECDSA,RSA}}_WITH_{{AES_128_GCM_SHA256,AES_256_GCM_SHA384,CHACHA20_POLY1305_SHA256}} and those of \
         TLS 1.3)"
    )]
    UnsupportedSuite(String),
    /// HTTP/2 demands one of two suites.
    #[error(
        "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of \
         TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)"
    )]
    SuiteOfHttp2,
    /// A version has no name like that.
    #[error("unexpected TLS version {0} (must be one of: TLS1.2, TLS1.3)")]
    UnknownVersion(String),
    /// The oldest version is newer than the newest.
    #[error("min version ({min}) is greater than max version ({max})")]
    VersionOrder {
        /// The oldest.
        min: &'static str,
        /// The newest.
        max: &'static str,
    },
    /// TLS 1.3 leaves no choice of suites.
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesOfTls13,
    /// A self-signed certificate was asked for zero years, or for more than a calendar has.
    #[error("{0}")]
    Validity(&'static str),
}

impl Error {
    /// A file that cannot be opened or read.
    pub(crate) fn file(operation: &'static str, path: &str, error: &std::io::Error) -> Self {
        Self::File {
            operation,
            path: path.to_owned(),
            reason: gotext::os_error(error),
        }
    }
}

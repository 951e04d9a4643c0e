//! Why a certificate is refused.

use std::fmt;

use rustls::CertificateError;

use crate::go;

/// Why a certificate is refused. `Display` is what Go's verifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No path leads to a trusted authority.
    Unknown,
    /// It is over.
    Expired { now: i64, not_after: i64 },
    /// It has not begun.
    NotYet { now: i64, not_before: i64 },
    /// It, or an authority above it, is for something else.
    Usage,
    /// Anything else, as text.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TIME: &str = "x509: certificate has expired or is not yet valid: current time";
        match self {
            Self::Unknown => f.write_str("x509: certificate signed by unknown authority"),
            Self::Expired { now, not_after } => {
                write!(
                    f,
                    "{TIME} {} is after {}",
                    go::moment(*now),
                    go::moment(*not_after)
                )
            }
            Self::NotYet { now, not_before } => {
                write!(
                    f,
                    "{TIME} {} is before {}",
                    go::moment(*now),
                    go::moment(*not_before)
                )
            }
            Self::Usage => f.write_str("x509: certificate specifies an incompatible key usage"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Refusal {
    /// The error that makes rustls send the alert Go sends.
    pub(crate) fn alert(&self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::Unknown => CertificateError::UnknownIssuer,
            Self::Expired { .. } | Self::NotYet { .. } => CertificateError::Expired,
            // Becomes the alert `bad_certificate`.
            Self::Usage | Self::Other(_) => CertificateError::BadEncoding,
        })
    }

    /// What webpki found.
    pub(crate) fn from_webpki(error: &webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::CertExpired { time, not_after } => Self::Expired {
                now: time.as_secs() as i64,
                not_after: not_after.as_secs() as i64,
            },
            E::CertNotValidYet { time, not_before } => Self::NotYet {
                now: time.as_secs() as i64,
                not_before: not_before.as_secs() as i64,
            },
            E::RequiredEkuNotFoundContext(_) => Self::Usage,
            E::UnknownIssuer
            | E::InvalidSignatureForPublicKey
            | E::CaUsedAsEndEntity
            | E::EndEntityUsedAsCa
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumPathDepthExceeded
            | E::MaximumSignatureChecksExceeded
            | E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::Unknown,
            E::PathLenConstraintViolated => Self::path_length(),
            E::NameConstraintViolation => Self::Other(
                "x509: a root or intermediate certificate is not authorized to sign for this name"
                    .to_owned(),
            ),
            E::UnsupportedCriticalExtension => Self::critical_extension(),
            other => Self::Other(format!("x509: malformed certificate: {other}")),
        }
    }

    pub(crate) fn path_length() -> Self {
        Self::Other("x509: too many intermediates for path length constraint".to_owned())
    }

    pub(crate) fn critical_extension() -> Self {
        Self::Other("x509: unhandled critical extension".to_owned())
    }

    pub(crate) fn malformed() -> Self {
        Self::Other("x509: malformed certificate".to_owned())
    }
}

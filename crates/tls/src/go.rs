//! Texts and alerts in Go's words.

use rustls::{AlertDescription, CipherSuite, Error, PeerIncompatible};

/// A list of texts as `%q` prints it.
pub(crate) fn quoted_list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|item| gotext::quote(item.as_ref()))
        .collect();
    format!("[{}]", items.join(" "))
}

/// A moment (seconds since 1970) as RFC 3339 writes it, in UTC.
pub(crate) fn moment(unix: i64) -> String {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(unix) else {
        return format!("@{unix}");
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// What a client offered, as far as refusals repeat it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) server_name: String,
    pub(crate) protocols: Vec<Vec<u8>>,
    pub(crate) suites: Vec<CipherSuite>,
}

/// A failed handshake. `offer` is what the client said, on the server's side.
pub(crate) fn handshake_error(error: &Error, offer: &Offer) -> String {
    match error {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        Error::NoApplicationProtocol => {
            let names: Vec<_> = offer
                .protocols
                .iter()
                .map(|name| String::from_utf8_lossy(name))
                .collect();
            let names = quoted_list(&names);
            format!("tls: client requested unsupported application protocols ({names})")
        }
        Error::PeerIncompatible(why) => incompatible(why, offer),
        Error::InvalidMessage(_) => "local error: tls: error decoding message".to_owned(),
        Error::DecryptError => "local error: tls: bad record MAC".to_owned(),
        Error::PeerSentOversizedRecord => "local error: tls: record overflow".to_owned(),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "local error: tls: unexpected message".to_owned()
        }
        other => format!("tls: {other}"),
    }
}

fn incompatible(why: &PeerIncompatible, offer: &Offer) -> String {
    match why {
        PeerIncompatible::NoCipherSuitesInCommon => {
            let offered: Vec<String> = offer
                .suites
                .iter()
                .map(|suite| format!("{:x}", u16::from(*suite)))
                .collect();
            format!(
                "tls: no cipher suite supported by both client and server; client offered: [{}]",
                offered.join(" ")
            )
        }
        PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "tls: client offered only unsupported versions".to_owned()
        }
        PeerIncompatible::NoKxGroupsInCommon => {
            "tls: no ECDHE curve supported by both client and server".to_owned()
        }
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "tls: peer doesn't support any of the certificate's signature algorithms".to_owned()
        }
        other => format!("tls: peer is incompatible: {other:?}"),
    }
}

/// The text Go's TLS has for an alert of the other side.
fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::DecryptionFailed => "decryption failed",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::DecompressionFailure => "decompression failure",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ExportRestriction => "export restriction",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::InappropriateFallback => "inappropriate fallback",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoRenegotiation => "no renegotiation",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::UnknownPSKIdentity => "unknown PSK identity",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_go_writes_them() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(1_795_187_259), "2026-11-20T15:07:39Z");
        assert_eq!(moment(i64::MAX), "@9223372036854775807");
    }

    #[test]
    fn refusals_repeat_what_was_offered() {
        let offer = Offer {
            server_name: String::new(),
            protocols: vec![b"foo".to_vec()],
            suites: vec![CipherSuite::from(0xc024), CipherSuite::from(0x00ff)],
        };
        assert_eq!(
            handshake_error(&Error::NoApplicationProtocol, &offer),
            "tls: client requested unsupported application protocols ([\"foo\"])"
        );
        assert_eq!(
            handshake_error(&PeerIncompatible::NoCipherSuitesInCommon.into(), &offer),
            "tls: no cipher suite supported by both client and server; client offered: [c024 ff]"
        );
        assert_eq!(
            handshake_error(
                &Error::AlertReceived(AlertDescription::BadCertificate),
                &offer
            ),
            "remote error: tls: bad certificate"
        );
    }
}

//! Making connections.

use std::io;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::go::Offer;
use crate::observer::{Material, NoObserver, Observer};
use crate::pair::{self, WatchedPair};
use crate::server::{now, watch_trust};
use crate::server_verifier::ConnectionVerifier;
use crate::trust::Trust;
use crate::watched::Watched;
use crate::{ClientStream, Error, HANDSHAKE_LIMIT, Protocol, TlsFiles, go};

/// How a client differs from others.
#[derive(Clone)]
pub struct ClientOptions {
    /// Demand this name of the server's certificate, and ask for it, whatever the address is.
    pub server_name: Option<String>,
    /// Offer HTTP/2. Never to peer ports: etcd's agrees to it and does not speak it.
    pub http2: bool,
    /// Told about files.
    pub observer: Arc<dyn Observer>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            server_name: None,
            http2: false,
            observer: Arc::new(NoObserver),
        }
    }
}

/// Why a handshake failed, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HandshakeError(String);

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        Self::other(error)
    }
}

struct Inner {
    options: ClientOptions,
    protocol: Protocol,
    pair: Option<WatchedPair>,
    trust: TrustSource,
}

enum TrustSource {
    /// Every certificate is accepted.
    Everybody,
    File(Box<Watched<Trust>>),
    System(Arc<Trust>),
}

/// Connects to servers that speak TLS. Cheap to clone; used by any number of threads.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

impl ClientTls {
    /// Checks and loads the files. The client pair is presented if there is one, else certificate and key, else
    /// nothing. Without `trusted_ca`, the system's authorities are trusted.
    pub fn new(
        files: &TlsFiles,
        protocol: &Protocol,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        files.check_client()?;
        let (cert, key) = files.client_pair();
        let pair = (!cert.is_empty())
            .then(|| {
                let material = Material::ClientCertificate;
                pair::watch(material, cert, key, protocol.provider(), &options.observer)
            })
            .transpose()?;
        let trust = if files.insecure_skip_verify {
            TrustSource::Everybody
        } else if files.trusted_ca.is_empty() {
            TrustSource::System(Arc::new(Trust::system(now())))
        } else {
            TrustSource::File(Box::new(watch_trust(&files.trusted_ca, &options.observer)?))
        };
        Ok(Self(Arc::new(Inner {
            options,
            protocol: protocol.clone(),
            pair,
            trust,
        })))
    }

    /// Does the handshake, within [`HANDSHAKE_LIMIT`]. `host` is the host of the address dialled, a name or an address
    /// (brackets are fine), without port.
    pub async fn connect<IO>(&self, io: IO, host: &str) -> Result<ClientStream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.0.options.server_name.as_deref().unwrap_or(host);
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare.strip_suffix('.').unwrap_or(bare))
            .map_err(|_| {
                HandshakeError(format!("tls: invalid server name {}", gotext::quote(host)))
            })?
            .to_owned();
        let (config, verifier) = self
            .connection_config()
            .map_err(|error| HandshakeError(error.to_string()))?;
        let handshake = TlsConnector::from(config).connect(name, io);
        match timeout(HANDSHAKE_LIMIT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(&error, verifier.take_refusal())),
            Err(_) => Err(HandshakeError("net/http: TLS handshake timeout".to_owned())),
        }
    }

    /// The configuration of one connection, made of the newest files.
    fn connection_config(&self) -> Result<(Arc<ClientConfig>, Arc<ConnectionVerifier>), Error> {
        let inner = &self.0;
        let trust = match &inner.trust {
            TrustSource::Everybody => None,
            TrustSource::File(watched) => Some(watched.get()?),
            TrustSource::System(trust) => Some(Arc::clone(trust)),
        };
        let pair = inner.pair.as_ref().map(Watched::get).transpose()?;
        let provider = inner.protocol.provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(ConnectionVerifier::new(trust, algorithms));
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(inner.protocol.versions())
            .map_err(|error| Error::Malformed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut config = match pair {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(Always(Arc::clone(&*pair)))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        if inner.options.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok((Arc::new(config), verifier))
    }
}

/// Presents one certificate, whatever authorities the server names, as etcd's clients do.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn failed(error: &io::Error, refusal: Option<String>) -> HandshakeError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    HandshakeError(match (refusal, tls) {
        (Some(text), _) => text,
        (None, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        (None, Some(error)) => go::handshake_error(error, &Offer::default()),
        (None, None) if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        (None, None) => gotext::os_error(error),
    })
}

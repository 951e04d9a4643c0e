//! Accepting connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::StartHandshake;

use crate::allowed::Allowed;
use crate::client_verifier::{ConnectionVerifier, Finding};
use crate::crl::Revoked;
use crate::go::Offer;
use crate::hello::NoHello;
use crate::observer::{Material, NoObserver, Observer};
use crate::pair::WatchedPair;
use crate::resolver::{Resolver, SystemResolver};
use crate::trust::Trust;
use crate::watched::Watched;
use crate::{
    Error, HANDSHAKE_LIMIT, Identity, Protocol, Rejection, ServerStream, TlsFiles, go, hello, pair,
    remote,
};

/// Time to say goodbye to a client whose certificate is not let in.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// Which of etcd's lines a refusal is logged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Client and metrics ports.
    Client,
    /// The peer port.
    Peer,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// How a port differs from others.
#[derive(Clone)]
pub struct ServerOptions {
    /// Names the port in log lines.
    pub endpoint: Endpoint,
    /// Offer HTTP/2. Clients that know only HTTP/1.1, or name no protocol, are served without an agreement either way.
    pub http2: bool,
    /// Compare client certificates with the address connections come from, unless
    /// [`TlsFiles::skip_client_san_verification`] is set.
    pub check_remote: bool,
    /// Looks up names for that comparison.
    pub resolver: Arc<dyn Resolver>,
    /// Told about files and refusals.
    pub observer: Arc<dyn Observer>,
    /// How long a handshake may take; [`HANDSHAKE_LIMIT`].
    pub handshake_limit: Duration,
}

impl ServerOptions {
    fn of(endpoint: Endpoint, http2: bool, check_remote: bool) -> Self {
        Self {
            endpoint,
            http2,
            check_remote,
            resolver: Arc::new(SystemResolver),
            observer: Arc::new(NoObserver),
            handshake_limit: HANDSHAKE_LIMIT,
        }
    }

    /// A client port.
    pub fn client() -> Self {
        Self::of(Endpoint::Client, true, false)
    }

    /// A peer port. It must not agree to HTTP/2, which it does not speak.
    pub fn peer() -> Self {
        Self::of(Endpoint::Peer, false, true)
    }

    /// A metrics port.
    pub fn metrics() -> Self {
        Self::of(Endpoint::Client, true, true)
    }

    /// The same with another observer.
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// The same with another resolver.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }
}

/// The two ends of a connection, for checks and log lines.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Where it comes from; `None` for a socket in the file system.
    pub remote: Option<SocketAddr>,
    /// Where it arrived.
    pub local: Option<SocketAddr>,
}

impl Ends {
    /// The ends of a TCP connection.
    pub fn of(stream: &TcpStream) -> Self {
        Self {
            remote: stream.peer_addr().ok(),
            local: stream.local_addr().ok(),
        }
    }

    /// A TCP connection known to come from there.
    pub fn from_remote(remote: SocketAddr) -> Self {
        Self {
            remote: Some(remote),
            local: None,
        }
    }

    fn remote_ip(&self) -> Option<IpAddr> {
        self.remote.map(|address| address.ip())
    }

    fn remote_text(&self) -> String {
        text(self.remote)
    }

    /// A failed read as Go describes it.
    fn read_error(&self, why: &str) -> String {
        format!(
            "read tcp {}->{}: {why}",
            text(self.local),
            text(self.remote)
        )
    }
}

/// An address as Go prints it; a nameless socket in the file system is `@`.
fn text(address: Option<SocketAddr>) -> String {
    address.map_or_else(
        || "@".to_owned(),
        |address| SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
    )
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// The connection.
    pub stream: ServerStream<IO>,
    /// Who is at the other end.
    pub identity: Identity,
    /// HTTP/2 was agreed upon; otherwise it is HTTP/1.1.
    pub http2: bool,
}

struct Inner {
    options: ServerOptions,
    protocol: Protocol,
    pair: WatchedPair,
    /// Only loaded, to find errors early; used by [`crate::ClientTls`].
    client_pair: Option<WatchedPair>,
    trust: Option<TrustSource>,
    allowed: Arc<Allowed>,
    revoked: Option<Watched<Revoked>>,
    check_remote: bool,
}

enum TrustSource {
    File(Box<Watched<Trust>>),
    System(Arc<Trust>),
}

/// A port that speaks TLS. Cheap to clone; used by any number of threads.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

impl ServerTls {
    /// Checks and loads the files. Errors are etcd's (`docs/tls.md`); a bad revocation list is none: as in etcd,
    /// connections with client certificates are refused until it is good.
    pub fn new(
        files: &TlsFiles,
        protocol: &Protocol,
        options: ServerOptions,
    ) -> Result<Self, Error> {
        files.check_server()?;
        if options.http2 {
            protocol.check_http2()?;
        }
        let watch_pair = |material, cert: &str, key: &str| {
            pair::watch(material, cert, key, protocol.provider(), &options.observer)
        };
        let pair = watch_pair(Material::Certificate, &files.cert, &files.key)?;
        let client_pair = (!files.client_cert.is_empty())
            .then(|| {
                let (cert, key) = files.client_pair();
                watch_pair(Material::ClientCertificate, cert, key)
            })
            .transpose()?;
        let trust = trust_source(files, &options.observer)?;
        let allowed = Allowed::new(files);
        if allowed.is_limited() && trust.is_none() {
            tracing::warn!(
                "allowed common names or host names have no effect: neither a trusted CA nor client-cert-auth is set"
            );
        }
        let revoked = (!files.crl.is_empty()).then(|| {
            Watched::new(Material::Crl, &[&files.crl], &options.observer, |bytes| {
                Revoked::parse(&bytes[0])
            })
        });
        let tls = Self(Arc::new(Inner {
            check_remote: options.check_remote && !files.skip_client_san_verification,
            options,
            protocol: protocol.clone(),
            pair,
            client_pair,
            trust,
            allowed: Arc::new(allowed),
            revoked,
        }));
        if let Some(Err(error)) = tls.0.revoked.as_ref().map(Watched::get) {
            tracing::error!(
                error = %error,
                "the revocation list cannot be used; clients with certificates are refused"
            );
        }
        Ok(tls)
    }

    /// Looks at all files now instead of at the next handshake, so that bad ones are reported and metrics are right on
    /// a port nobody connects to. Costs one `stat` per file when nothing changed.
    pub fn refresh(&self) {
        let inner = &self.0;
        let _ = inner.pair.get();
        let _ = inner.client_pair.as_ref().map(Watched::get);
        if let Some(TrustSource::File(trust)) = &inner.trust {
            let _ = trust.get();
        }
        let _ = inner.revoked.as_ref().map(Watched::get);
    }

    /// Client certificates are demanded and verified.
    pub fn verifies_clients(&self) -> bool {
        self.0.trust.is_some()
    }

    /// Does the handshake and all checks, within the limit (lookups of names may take as long again). A
    /// refusal is logged here, with etcd's line and fields; the caller has nothing left to do.
    pub async fn accept<IO>(&self, io: IO, ends: &Ends) -> Result<Accepted<IO>, Rejection>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let result = self.try_accept(io, ends).await;
        if let Err(rejection) = &result {
            self.0.options.observer.rejected();
            rejection.log(self.0.options.endpoint, &ends.remote_text());
        }
        result
    }

    async fn try_accept<IO>(&self, io: IO, ends: &Ends) -> Result<Accepted<IO>, Rejection>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let too_late = || Rejection::new(ends.read_error("i/o timeout"));
        let handshake = self.handshake(io, ends);
        let (mut stream, finding, server_name) = timeout(self.0.options.handshake_limit, handshake)
            .await
            .map_err(|_| too_late())??;
        let checks = self.check_certificate(&finding, ends);
        let verdict = timeout(self.0.options.handshake_limit, checks)
            .await
            .unwrap_or_else(|_| Err(ends.read_error("i/o timeout")));
        if let Err(text) = verdict {
            let _ = timeout(GOODBYE_LIMIT, stream.shutdown()).await;
            return Err(Rejection::new(text).of(&server_name).with(finding.names));
        }
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Accepted {
            stream,
            identity: finding.identity,
            http2,
        })
    }

    async fn handshake<IO>(
        &self,
        mut io: IO,
        ends: &Ends,
    ) -> Result<(ServerStream<IO>, Finding, String), Rejection>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (accepted, offer) = hello::read(&mut io)
            .await
            .map_err(|why| no_hello(why, ends))?;
        let name = offer.server_name.clone();
        let (config, verifier) = self
            .connection_config(&offer)
            .map_err(|text| Rejection::new(text).of(&name))?;
        let finding = || {
            verifier
                .as_ref()
                .map(|v| v.take_finding())
                .unwrap_or_default()
        };
        match StartHandshake::from_parts(accepted, io)
            .into_stream(config)
            .await
        {
            Ok(stream) => Ok((stream, finding(), name)),
            Err(error) => Err(failed(&error, finding(), &offer, ends)),
        }
    }

    /// The configuration of one connection, made of the newest files. Sessions are never resumed: every connection
    /// proves its certificate anew.
    fn connection_config(
        &self,
        offer: &Offer,
    ) -> Result<(Arc<ServerConfig>, Option<Arc<ConnectionVerifier>>), String> {
        let inner = &self.0;
        let pair = inner.pair.get().map_err(|error| error.to_string())?;
        let verifier = self.verifier().map_err(|error| error.to_string())?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(inner.protocol.provider()))
            .with_protocol_versions(inner.protocol.versions())
            .map_err(|error| error.to_string())?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
            None => builder.with_no_client_auth(),
        };
        let resolver = SingleCertAndKey::from(Arc::clone(&*pair));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // HTTP/1.1 alone is served without an agreement. Who offers other protocols gets an alert.
        let only_http1 = offer.protocols.iter().any(|name| name == b"http/1.1")
            && !offer.protocols.iter().any(|name| name == b"h2");
        if inner.options.http2 && !only_http1 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok((Arc::new(config), verifier))
    }

    fn verifier(&self) -> Result<Option<Arc<ConnectionVerifier>>, Error> {
        let trust = match &self.0.trust {
            None => return Ok(None),
            Some(TrustSource::File(watched)) => watched.get()?,
            Some(TrustSource::System(trust)) => Arc::clone(trust),
        };
        let algorithms = self.0.protocol.provider().signature_verification_algorithms;
        let allowed = Arc::clone(&self.0.allowed);
        Ok(Some(Arc::new(ConnectionVerifier::new(
            trust, allowed, algorithms,
        ))))
    }

    /// What is checked of a certificate after the handshake.
    async fn check_certificate(&self, finding: &Finding, ends: &Ends) -> Result<(), String> {
        if !finding.identity.is_verified() {
            return Ok(());
        }
        if let Some(revoked) = &self.0.revoked {
            let revoked = revoked.get().map_err(|error| error.to_string())?;
            revoked.check(&finding.identity.chain)?;
        }
        if let Some(names) = &finding.names
            && self.0.check_remote
        {
            remote::check(names, ends.remote_ip(), &*self.0.options.resolver).await?;
        }
        Ok(())
    }
}

fn trust_source(
    files: &TlsFiles,
    observer: &Arc<dyn Observer>,
) -> Result<Option<TrustSource>, Error> {
    if files.trusted_ca.is_empty() {
        return Ok(files
            .client_cert_auth
            .then(|| TrustSource::System(Arc::new(Trust::system(now())))));
    }
    let watched = watch_trust(&files.trusted_ca, observer)?;
    Ok(Some(TrustSource::File(Box::new(watched))))
}

/// A bundle of authorities, loaded once to find errors early. One that lists nobody is valid, but worth a warning; a
/// changed file that lists nobody is not taken over: no operator wants everybody locked out.
pub(crate) fn watch_trust(
    path: &str,
    observer: &Arc<dyn Observer>,
) -> Result<Watched<Trust>, Error> {
    let first = std::sync::atomic::AtomicBool::new(true);
    let file = path.to_owned();
    let watched = Watched::new(Material::TrustedCa, &[path], observer, move |bytes| {
        let trust = Trust::from_pem(&bytes[0], now())?;
        if trust.is_useless() {
            let text = "no authority in it can sign certificates, or all have expired";
            if !first.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Error::Malformed(text.to_owned()));
            }
            tracing::warn!(path = %file, reason = text, "the trusted CA file vouches for nobody");
        }
        first.store(false, std::sync::atomic::Ordering::Relaxed);
        let ends = crate::certificate::first_end(trust.certificates());
        Ok((trust, ends))
    });
    watched.get()?;
    Ok(watched)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

fn no_hello(why: NoHello, ends: &Ends) -> Rejection {
    match why {
        NoHello::Silent => Rejection::left(),
        NoHello::Cut => Rejection::new("unexpected EOF"),
        NoHello::Plain => Rejection::new("tls: first record does not look like a TLS handshake"),
        NoHello::Bad(error) => Rejection::new(go::handshake_error(&error, &Offer::default())),
        NoHello::Io(error) => Rejection::new(io_text(&error, ends)),
    }
}

/// A handshake that began and failed. What our own checks said comes first.
fn failed(error: &io::Error, finding: Finding, offer: &Offer, ends: &Ends) -> Rejection {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let rejection = match (finding.refusal, tls) {
        (Some(text), _) => Rejection::new(text),
        (None, Some(error)) => Rejection::new(go::handshake_error(error, offer)),
        (None, None) if error.kind() == io::ErrorKind::UnexpectedEof => Rejection::left(),
        (None, None) => Rejection::new(io_text(error, ends)),
    };
    rejection.of(&offer.server_name).with(finding.names)
}

fn io_text(error: &io::Error, ends: &Ends) -> String {
    ends.read_error(&format!("read: {}", gotext::os_error(error)))
}

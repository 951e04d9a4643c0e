//! Connections: how they are made, accepted and watched.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use crate::PeerUrl;
use crate::url::Place;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection of any kind, on the heap.
pub type BoxIo = Box<dyn Io>;

/// Makes connections to members. The one of this crate, [`PlainDialer`], knows no TLS; another may wrap it.
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the URL, and agrees on TLS if it asks for that (offering no protocol but HTTP/1.1: etcd's peer
    /// port agrees to HTTP/2 and then cannot speak it). The caller limits the time.
    fn dial<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<BoxIo>>;
}

/// Takes connections from a peer listener; with TLS, this is where the handshake happens.
pub trait Acceptor: Send + Sync + 'static {
    /// Prepares an accepted connection. Logs why it refuses one and returns `None`.
    fn accept(&self, io: Accepted) -> BoxFuture<'_, Option<BoxIo>>;
}

/// A connection somebody made to us.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, from this address.
    Tcp(TcpStream, SocketAddr),
    /// Over a socket in the file system.
    Unix(UnixStream),
}

/// Connections without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDialer;

impl PlainDialer {
    /// Connects without looking at the scheme: what TLS is put upon.
    pub async fn connect(url: &PeerUrl) -> io::Result<BoxIo> {
        match url.place() {
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                configure(&stream);
                Ok(Box::new(stream))
            }
            Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

impl Dialer for PlainDialer {
    fn dial<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            if url.is_tls() {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "TLS is not configured",
                ));
            }
            Self::connect(url).await
        })
    }
}

/// Accepts without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainAcceptor;

impl Acceptor for PlainAcceptor {
    fn accept(&self, io: Accepted) -> BoxFuture<'_, Option<BoxIo>> {
        let io: BoxIo = match io {
            Accepted::Tcp(stream, _) => Box::new(stream),
            Accepted::Unix(stream) => Box::new(stream),
        };
        Box::pin(std::future::ready(Some(io)))
    }
}

/// Messages leave at once; a dead host is noticed. Neither is needed for the connection to work.
pub(crate) fn configure(stream: &TcpStream) {
    const KEEPALIVE: Duration = Duration::from_secs(30);
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Says where dialling failed, as Go's errors do.
pub(crate) fn dial_error(url: &PeerUrl, error: &io::Error) -> String {
    let cause = if error.kind() == io::ErrorKind::TimedOut {
        "i/o timeout".to_owned()
    } else {
        gotext::os_error(error)
    };
    match url.place() {
        Place::Tcp { .. } if error.raw_os_error().is_some() => {
            format!("dial tcp {}: connect: {cause}", url.authority())
        }
        Place::Tcp { .. } => format!("dial tcp {}: {cause}", url.authority()),
        Place::Unix(path) => format!("dial unix {}: connect: {cause}", path.display()),
    }
}

/// A connection on which single reads or writes may take only so long.
pub(crate) struct Deadlines<T> {
    io: T,
    read: Deadline,
    write: Deadline,
}

/// Watches waits without touching the timer for each of them: it runs through, and is set again when it ends.
struct Deadline {
    limit: Option<Duration>,
    sleep: Pin<Box<Sleep>>,
    /// When the running wait began.
    since: Option<Instant>,
}

impl Deadline {
    fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            since: None,
        }
    }

    /// Passes on a result; a wait that takes too long becomes an error.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(limit) = self.limit else {
            return result;
        };
        if result.is_ready() {
            self.since = None;
            return result;
        }
        let end = *self.since.get_or_insert_with(Instant::now) + limit;
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= end {
                self.since = None;
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")));
            }
            self.sleep.as_mut().reset(end);
        }
    }
}

impl<T> Deadlines<T> {
    /// Must be called on a runtime.
    pub fn new(io: T, read: Option<Duration>, write: Option<Duration>) -> Self {
        Self {
            io,
            read: Deadline::new(read),
            write: Deadline::new(write),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Deadlines<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read.watch(cx, result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Deadlines<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.write.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.write.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.write.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn silence_and_stuck_writes_end_a_connection() {
        let (near, mut far) = tokio::io::duplex(16);
        let limit = Some(Duration::from_millis(30));
        let mut near = Deadlines::new(near, limit, limit);
        far.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        near.read_exact(&mut buf).await.unwrap();
        let error = near.read(&mut buf).await.unwrap_err();
        assert_eq!(error.to_string(), "i/o timeout");
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // It goes on when the other side does.
        far.write_all(b"again").await.unwrap();
        near.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"again");
    }

    #[tokio::test]
    async fn dialling_fails_with_gos_words() {
        let url = PeerUrl::parse("http://127.0.0.1:1").unwrap();
        let error = PlainDialer.dial(&url).await.err().unwrap();
        assert_eq!(
            dial_error(&url, &error),
            "dial tcp 127.0.0.1:1: connect: connection refused"
        );
        let url = PeerUrl::parse("https://127.0.0.1:1").unwrap();
        assert!(PlainDialer.dial(&url).await.is_err());
    }
}

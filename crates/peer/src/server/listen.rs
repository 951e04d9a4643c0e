//! Listeners of the peer port, on the transport's own threads.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PeerServer;
use super::raft::READ_TIMEOUT;
use crate::io::{Accepted, Acceptor, BoxIo, Deadlines, configure};

/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that takes connections of other members.
#[derive(Debug)]
pub enum Listener {
    /// At an address.
    Tcp(std::net::TcpListener),
    /// In the file system.
    Unix(std::os::unix::net::UnixListener),
}

/// A listener at work.
#[derive(Debug)]
pub struct Listening {
    stop: CancellationToken,
    connections: TaskTracker,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                configure(&stream);
                Ok(Accepted::Tcp(stream, address))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl Listening {
    /// Serves a listener from now on. Must be called on the runtime that shall do it.
    pub(crate) fn start(
        listener: Listener,
        acceptor: Arc<dyn Acceptor>,
        server: PeerServer,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let socket = match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(listener)?)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Socket::Unix(UnixListener::from_std(listener)?)
            }
        };
        let connections = TaskTracker::new();
        let listening = Self {
            stop: stop.clone(),
            connections: connections.clone(),
        };
        tokio::spawn(accept(socket, acceptor, server, stop, connections));
        Ok(listening)
    }

    /// Takes no more connections and lets the requests under way be answered; streams end.
    pub fn stop(&self) {
        self.stop.cancel();
        self.connections.close();
    }

    /// Waits until the connections have ended after [`Listening::stop`].
    pub async fn stopped(&self) {
        self.connections.wait().await;
    }
}

async fn accept(
    socket: Socket,
    acceptor: Arc<dyn Acceptor>,
    server: PeerServer,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(accepted) => {
                let (acceptor, server, stop) =
                    (Arc::clone(&acceptor), server.clone(), stop.clone());
                connections.spawn(async move {
                    let io = tokio::select! {
                        io = acceptor.accept(accepted) => io,
                        () = stop.cancelled() => None,
                    };
                    if let Some(io) = io {
                        server.serve_connection(io, stop).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl PeerServer {
    /// Serves one connection until it ends; after `stop` was cancelled, until its request is answered.
    pub async fn serve_connection(&self, io: BoxIo, stop: CancellationToken) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.handle(request).await) }
        });
        // Reads are watched where they are expected: a stream's request side is silent for ever.
        let io = TokioIo::new(Deadlines::new(io, None, Some(READ_TIMEOUT)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // As Go writes them.
            .title_case_headers(true)
            .header_read_timeout(READ_TIMEOUT)
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection of a peer ended");
        }
    }
}

//! One connection.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Handler;

/// How connections are treated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `--max-concurrent-streams` of a connection; the largest number means no limit.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-interval`: a silent connection is probed; zero switches that off.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: how long the answer may take; zero switches probing off.
    pub keepalive_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Duration::from_hours(2),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// As grpc-go; hyper's own limit would refuse long tokens.
const MAX_HEADER_LIST: u32 = 16 << 20;
/// How much a client may send ahead on one stream,
const STREAM_WINDOW: u32 = 1 << 20;
/// and on all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Time to send a request's headers over HTTP/1.
const HEADER_TIMEOUT: Duration = Duration::from_mins(5);

impl Options {
    /// A builder for any number of connections on the current runtime.
    pub(super) fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        let limit = Some(self.max_concurrent_streams).filter(|limit| *limit != u32::MAX);
        let probing = !self.keepalive_interval.is_zero() && !self.keepalive_timeout.is_zero();
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(limit)
            .max_header_list_size(MAX_HEADER_LIST)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(probing.then_some(self.keepalive_interval))
            .keep_alive_timeout(self.keepalive_timeout);
        builder
    }
}

/// Serves a connection until it ends; when `stop` is cancelled, until its requests are answered.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    builder: Builder<TokioExecutor>,
    handler: impl Handler,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let answer = handler.clone().handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients come and go as they like.
        tracing::debug!(error, "a connection ended");
    }
}

//! HTTP/1.1 requests over connections of a [`Dialer`].

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::ClientError;
use crate::PeerUrl;
use crate::io::{BoxIo, Deadlines, Dialer, dial_error};

/// An idle connection is not used any more after this time: etcd's listener closes it after 5 s.
const MAX_IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one URL.
const MAX_IDLE_COUNT: usize = 8;

/// Body of a request.
pub(crate) struct OutBody(Kind);

enum Kind {
    /// What there is, known at once.
    Full(Option<Bytes>),
    /// What somebody sends; ends well only if that one says so with an empty piece.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
    Done,
}

/// A body that is there already.
pub(crate) fn full(bytes: Bytes) -> OutBody {
    OutBody(Kind::Full(Some(bytes)))
}

impl OutBody {
    /// A body that comes in pieces, the last one empty. Without that one, the request is cut off.
    pub fn pieces(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self(Kind::Pieces(pieces))
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.0 {
            Kind::Full(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Done => return Poll::Ready(None),
            Kind::Pieces(pieces) => match pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece,
            },
        };
        match piece {
            Some(Ok(bytes)) if !bytes.is_empty() => {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Some(Err(error)) => {
                self.0 = Kind::Done;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(_)) => {}
            None => {
                self.0 = Kind::Done;
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
        }
        self.0 = Kind::Done;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Pieces(_) => false,
            Kind::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Pieces(_) => SizeHint::default(),
            Kind::Done => SizeHint::with_exact(0),
        }
    }
}

/// A connection while it is driven by whoever reads from it.
pub(crate) type Driver = Connection<TokioIo<Deadlines<BoxIo>>, OutBody>;

/// Opens a connection for one use. Both deadlines are of single reads and writes.
pub(crate) async fn open(
    dialer: &dyn Dialer,
    url: &PeerUrl,
    dial_timeout: Duration,
    read: Option<Duration>,
    write: Option<Duration>,
) -> Result<(SendRequest<OutBody>, Driver), ClientError> {
    let dialled = tokio::time::timeout(dial_timeout, dialer.dial(url))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let io = dialled.map_err(|error| ClientError::Io(dial_error(url, &error)))?;
    let io = TokioIo::new(Deadlines::new(io, read, write));
    // As Go writes them.
    Builder::new()
        .title_case_headers(true)
        .handshake(io)
        .await
        .map_err(|error| ClientError::Io(error_text(&error)))
}

/// Fills in where a request goes.
pub(crate) fn address(
    request: &mut Request<OutBody>,
    url: &PeerUrl,
    path: &str,
) -> Result<(), ClientError> {
    *request.uri_mut() = path
        .parse::<Uri>()
        .map_err(|error| ClientError::Url(format!("{path}: {error}")))?;
    let host = HeaderValue::try_from(url.authority())
        .map_err(|error| ClientError::Url(format!("{url}: {error}")))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

/// The innermost cause, which says what happened. Ends of connections are called as Go calls them.
pub(crate) fn error_text(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if let Some(io) = cause.downcast_ref::<io::Error>() {
        if io.kind() == io::ErrorKind::UnexpectedEof {
            return "unexpected EOF".to_owned();
        }
        return gotext::os_error(io);
    }
    if error.is_incomplete_message() {
        return "unexpected EOF".to_owned();
    }
    cause.to_string()
}

/// Requests that are answered at once, over connections that are kept for a while.
pub(crate) struct Http {
    pub dialer: Arc<dyn Dialer>,
    pub dial_timeout: Duration,
    idle: Mutex<HashMap<String, Vec<Idle>>>,
}

struct Idle {
    sender: SendRequest<OutBody>,
    since: Instant,
}

impl Http {
    pub fn new(dialer: Arc<dyn Dialer>, dial_timeout: Duration) -> Self {
        Self {
            dialer,
            dial_timeout,
            idle: Mutex::default(),
        }
    }

    /// Sends a request to `path` and reads the whole answer, of at most `max` bytes. Must run on the runtime that
    /// keeps the connections.
    pub async fn fetch(
        &self,
        url: &PeerUrl,
        path: &str,
        mut request: Request<OutBody>,
        timeout: Duration,
        max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        address(&mut request, url, path)?;
        tokio::time::timeout(timeout, self.exchange(url, request, max))
            .await
            .unwrap_or_else(|_| Err(ClientError::Io("context deadline exceeded".to_owned())))
    }

    async fn exchange(
        &self,
        url: &PeerUrl,
        mut request: Request<OutBody>,
        max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        while let Some(mut sender) = self.take_idle(url) {
            match sender.try_send_request(request).await {
                Ok(response) => return self.finish(url, sender, response, max).await,
                Err(mut failed) => match failed.take_message() {
                    // It was closed before anything was sent: the next one may be better.
                    Some(unsent) => request = unsent,
                    None => return Err(ClientError::Io(error_text(failed.error()))),
                },
            }
        }
        let (mut sender, driver) =
            open(self.dialer.as_ref(), url, self.dial_timeout, None, None).await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a peer ended");
            }
        });
        match sender.send_request(request).await {
            Ok(response) => self.finish(url, sender, response, max).await,
            Err(error) => Err(ClientError::Io(error_text(&error))),
        }
    }

    async fn finish(
        &self,
        url: &PeerUrl,
        sender: SendRequest<OutBody>,
        response: Response<Incoming>,
        max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let (head, body) = response.into_parts();
        let body = collect(body, max).await?;
        self.put_idle(url, sender);
        Ok(Response::from_parts(head, body))
    }

    fn take_idle(&self, url: &PeerUrl) -> Option<SendRequest<OutBody>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(url.as_str())?;
        waiting.retain(|idle| idle.since.elapsed() < MAX_IDLE && idle.sender.is_ready());
        waiting.pop().map(|idle| idle.sender)
    }

    fn put_idle(&self, url: &PeerUrl, sender: SendRequest<OutBody>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections to URLs that are not used any more must not stay.
        idle.retain(|_, waiting| {
            waiting.retain(|idle| idle.since.elapsed() < MAX_IDLE && !idle.sender.is_closed());
            !waiting.is_empty()
        });
        let waiting = idle.entry(url.as_str().to_owned()).or_default();
        if waiting.len() < MAX_IDLE_COUNT {
            waiting.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn collect(mut body: Incoming, max: usize) -> Result<Bytes, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Io(error_text(&error)))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > max {
                return Err(ClientError::TooLong);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.into())
}

//! Bodies of answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tonic::Status;

use super::pieces::Pieces;

/// What comes after the headers of an answer, gRPC or plain HTTP.
#[derive(Debug, Default)]
pub struct ResponseBody(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Done,
    /// Plain HTTP: bytes and nothing after them.
    Text(Bytes),
    /// One encoded message, then trailers that say OK.
    Message(Bytes),
    /// One message too big to be encoded at once, then trailers that say OK.
    Pieces(Box<Pieces>),
    /// Encoded messages until the work is done, then trailers that tell how.
    Stream(Box<Stream>),
    /// The trailers.
    Trailers(Status),
}

impl ResponseBody {
    /// Plain bytes.
    pub fn text(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() {
            Kind::Done
        } else {
            Kind::Text(bytes)
        })
    }

    /// One message with its header, see [`super::frame::encode`].
    pub(crate) fn message(encoded: Bytes) -> Self {
        Self(Kind::Message(encoded))
    }

    /// One big message.
    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Self(Kind::Pieces(Box::new(pieces)))
    }

    /// Messages that `work` sends.
    pub(crate) fn stream<W>(work: impl FnOnce(Outlet) -> W) -> Self
    where
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let work = Box::pin(work(Outlet(sender)));
        Self(Kind::Stream(Box::new(Stream {
            work: Some(work),
            receiver,
            end: Status::ok(""),
        })))
    }
}

/// Encoded messages that may wait for the transport; the work stops until there is room.
const QUEUE: usize = 8;

/// Where the work of a stream puts its messages.
#[derive(Debug)]
pub(crate) struct Outlet(mpsc::Sender<Bytes>);

impl Outlet {
    /// Hands over an encoded message; waits while the transport cannot take more.
    pub async fn send(&self, encoded: Bytes) {
        // The receiver lives in the same body as the work that calls this.
        let _ = self.0.send(encoded).await;
    }
}

/// What a stream does, until it ends with this result.
type Work = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// A stream of messages. Its work has no task of its own: it runs when the transport asks for data, so it pauses
/// with a slow client and ends with a gone one.
struct Stream {
    work: Option<Work>,
    receiver: mpsc::Receiver<Bytes>,
    end: Status,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("working", &self.work.is_some())
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// The next message, or how the stream ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        loop {
            // Not `poll_recv`: once the task has used up its share of the runtime's time it answers "pending" however
            // many messages wait, and this loop would never end. Nobody has to be woken by a message anyway, as
            // only the work below sends any.
            if let Ok(message) = self.receiver.try_recv() {
                return Poll::Ready(Ok(message));
            }
            // Empty, and closed once the work is gone.
            let Some(work) = &mut self.work else {
                return Poll::Ready(Err(self.end.clone()));
            };
            match work.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    self.end = result.err().unwrap_or_else(|| Status::ok(""));
                    self.work = None;
                }
                // It may have sent something before it paused.
                Poll::Pending if self.receiver.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match std::mem::take(&mut self.0) {
            Kind::Done => return Poll::Ready(None),
            Kind::Text(bytes) => (Frame::data(bytes), Kind::Done),
            Kind::Message(bytes) => (Frame::data(bytes), Kind::Trailers(Status::ok(""))),
            Kind::Pieces(mut pieces) => {
                if pieces.poll_rest(cx).is_pending() {
                    self.0 = Kind::Pieces(pieces);
                    return Poll::Pending;
                }
                match pieces.next() {
                    Some(bytes) => (Frame::data(bytes), Kind::Pieces(pieces)),
                    None => (Frame::trailers(trailers(&Status::ok(""))), Kind::Done),
                }
            }
            Kind::Stream(mut stream) => match stream.poll_next(cx) {
                Poll::Ready(Ok(bytes)) => (Frame::data(bytes), Kind::Stream(stream)),
                Poll::Ready(Err(end)) => (Frame::trailers(trailers(&end)), Kind::Done),
                Poll::Pending => {
                    self.0 = Kind::Stream(stream);
                    return Poll::Pending;
                }
            },
            Kind::Trailers(status) => (Frame::trailers(trailers(&status)), Kind::Done),
        };
        self.0 = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Done => SizeHint::with_exact(0),
            Kind::Text(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(2);
    super::status::write(status, &mut map);
    map
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    /// A frontend once span for ever inside one poll: the runtime's budget for the task was used up while messages
    /// waited.
    #[test]
    fn a_stream_that_is_never_idle_does_not_hang_its_runtime() {
        const MESSAGES: usize = 10_000;
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let frames = runtime.block_on(async {
                let body = ResponseBody::stream(|out| async move {
                    for _ in 0..MESSAGES {
                        out.send(Bytes::from_static(b"message")).await;
                    }
                    Ok(())
                });
                tokio::spawn(async move {
                    let mut body = std::pin::pin!(body);
                    let mut frames = 0;
                    while body.frame().await.is_some() {
                        frames += 1;
                    }
                    frames
                })
                .await
                .unwrap()
            });
            done.send(frames).unwrap();
        });
        let frames = ended
            .recv_timeout(Duration::from_mins(1))
            .expect("the stream hangs");
        assert_eq!(frames, MESSAGES + 1); // and the trailers
    }
}

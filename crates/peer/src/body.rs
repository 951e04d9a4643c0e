//! Bodies of answers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::writer::StreamWriter;

/// The body of an answer on the peer port: some text, or raft messages without end.
#[derive(Debug, Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Text(Bytes),
    /// Text after which the connection is cut off: after a pause, in which the text is sent.
    Abort(Option<Bytes>),
    Aborting,
    Stream(Box<StreamWriter>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Text(_) => "Text",
            Self::Abort(_) | Self::Aborting => "Abort",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Body {
    pub(crate) fn text(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Text(bytes)
        })
    }

    pub(crate) fn abort_after(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Abort(Some(bytes.into())))
    }

    pub(crate) fn stream(writer: StreamWriter) -> Self {
        Self(Kind::Stream(Box::new(writer)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Text(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Abort(Some(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Abort(None);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Abort(None) => {
                self.0 = Kind::Aborting;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Kind::Aborting => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            Kind::Stream(writer) => writer.poll_chunk(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Text(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Abort(_) | Kind::Aborting | Kind::Stream(_) => SizeHint::default(),
        }
    }
}

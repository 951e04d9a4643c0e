//! Answers as Go's HTTP library writes them.

use http::{HeaderValue, Method, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::Reply;
use crate::body::Body;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// 200 with a content type.
pub(super) fn with_type(body: Body, content_type: HeaderValue) -> Reply {
    let mut reply = Reply::new(body);
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    reply
}

/// 200 with plain text.
pub(super) fn text(text: String) -> Reply {
    with_type(Body::text(text), TEXT)
}

/// 200 with JSON.
pub(super) fn json(text: String) -> Reply {
    with_type(
        Body::text(text),
        HeaderValue::from_static("application/json"),
    )
}

/// 200 with an encoded message.
pub(super) fn protobuf(message: &impl prost::Message) -> Reply {
    let kind = HeaderValue::from_static("application/protobuf");
    with_type(Body::text(message.encode_to_vec()), kind)
}

/// 204.
pub(super) fn no_content() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// An error: its text, and a line feed behind it.
pub(super) fn error(status: StatusCode, text: &str) -> Reply {
    error_with(status, Body::text(format!("{text}\n")))
}

/// An error after which the connection ends.
pub(super) fn error_and_abort(status: StatusCode, text: &str) -> Reply {
    error_with(status, Body::abort_after(format!("{text}\n")))
}

fn error_with(status: StatusCode, body: Body) -> Reply {
    let mut reply = with_type(body, TEXT);
    *reply.status_mut() = status;
    let nosniff = HeaderValue::from_static("nosniff");
    reply
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let old_name = ReasonPhrase::from_static(b"Request Entity Too Large");
        reply.extensions_mut().insert(old_name);
    }
    reply
}

/// There is nothing at this path.
pub(super) fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// Another method is wanted; some paths do not say which.
pub(super) fn not_allowed(method: Option<&Method>) -> Reply {
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(method) = method.and_then(|method| HeaderValue::from_str(method.as_str()).ok()) {
        reply.headers_mut().insert(header::ALLOW, method);
    }
    reply
}

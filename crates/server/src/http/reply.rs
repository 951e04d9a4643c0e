//! Answers as Go's HTTP library writes them.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use crate::grpc::ResponseBody;

/// An answer on its way to a client.
pub type Reply = Response<ResponseBody>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// 200 with plain text.
pub fn text(body: impl Into<bytes::Bytes>) -> Reply {
    with_type(body, TEXT)
}

/// 200 with JSON.
pub fn json(body: String) -> Reply {
    with_type(body, HeaderValue::from_static("application/json"))
}

/// 200 with a content type.
pub fn with_type(body: impl Into<bytes::Bytes>, content_type: HeaderValue) -> Reply {
    let mut reply = Response::new(ResponseBody::text(body));
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    reply
}

/// 200 without anything.
pub fn empty() -> Reply {
    Response::default()
}

/// An error: its text, and a line feed behind it.
pub fn error(status: StatusCode, message: &str) -> Reply {
    let mut reply = no_sniff(text(format!("{message}\n")));
    *reply.status_mut() = status;
    reply
}

/// Tells browsers to believe the content type.
pub fn no_sniff(mut reply: Reply) -> Reply {
    let value = HeaderValue::from_static("nosniff");
    reply
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, value);
    reply
}

/// There is nothing at this path.
pub fn not_found() -> Reply {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The refusal of anything but GET; `None` when the request is one.
pub fn unless_get<B>(request: &Request<B>) -> Option<Reply> {
    if request.method() == Method::GET {
        return None;
    }
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    Some(reply)
}

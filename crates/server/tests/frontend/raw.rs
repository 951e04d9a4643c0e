//! Requests as no client library sends them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Sends a request over HTTP/1.1 and returns head and body of the answer.
pub fn http1(to: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    let request = request.replacen(" HTTP/1.1\n", " HTTP/1.1\nConnection: close\n", 1);
    stream
        .write_all(request.replace('\n', "\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// GET over HTTP/1.1: status and body.
pub fn get(to: SocketAddr, path: &str) -> (u16, String) {
    let (head, body) = http1(to, &format!("GET {path} HTTP/1.1\nHost: localhost\n\n"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// Value of a header in an answer's head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A raw answer over HTTP/2.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub trailers: http::HeaderMap,
}

impl Answer {
    /// A header, or a trailer if there is no such header.
    pub fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name).or_else(|| self.trailers.get(name));
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request over HTTP/2 with prior knowledge.
pub async fn http2(to: SocketAddr, request: http::Request<Full<Bytes>>) -> Answer {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        trailers,
    }
}

/// A request for a gRPC method with more headers.
pub fn call(
    to: SocketAddr,
    path: &str,
    body: impl Into<Bytes>,
    headers: &[(&str, &str)],
) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::post(format!("http://{to}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// A message with its frame header.
pub fn framed(compressed: bool, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![u8::from(compressed)];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

//! Telling TLS from plain text by the first byte.

use std::io;

use tokio::net::TcpStream;

/// A connection that begins with this byte speaks TLS (a record of a handshake). Neither a request of HTTP/1 nor the
/// preface of HTTP/2 does.
pub const fn looks_like_tls(first: u8) -> bool {
    first == 0x16
}

/// Waits for the first byte without taking it: whether the connection speaks TLS, or `None` if it was closed before.
/// For a port that serves both, and for one that must refuse TLS. The caller limits the time.
pub async fn speaks_tls(stream: &TcpStream) -> io::Result<Option<bool>> {
    let mut first = [0];
    let count = stream.peek(&mut first).await?;
    Ok((count > 0).then(|| looks_like_tls(first[0])))
}

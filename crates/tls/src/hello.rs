//! The first message of a client.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::go::Offer;
use crate::sniff::looks_like_tls;

/// Why there is no first message.
#[derive(Debug)]
pub(crate) enum NoHello {
    /// The client left before it said anything.
    Silent,
    /// It left in the middle.
    Cut,
    /// It does not speak TLS.
    Plain,
    /// The message is wrong; the client was told so.
    Bad(rustls::Error),
    /// The connection failed.
    Io(io::Error),
}

/// Reads the first message of a client. Plain text is noticed at its first byte and never answered, as in etcd.
pub(crate) async fn read<IO>(io: &mut IO) -> Result<(Accepted, Offer), NoHello>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut buffer = [0; 4096];
    let mut begun = false;
    loop {
        let count = io.read(&mut buffer).await.map_err(NoHello::Io)?;
        if count == 0 {
            return Err(if begun { NoHello::Cut } else { NoHello::Silent });
        }
        if !begun && !looks_like_tls(buffer[0]) {
            return Err(NoHello::Plain);
        }
        begun = true;
        // What follows the message in the same piece stays in the acceptor's buffer. That is limited, and so is the
        // length of the message.
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).map_err(NoHello::Io)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let offer = offer(&accepted);
                return Ok((accepted, offer));
            }
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                let _ = io.write_all(&bytes).await;
                return Err(NoHello::Bad(error));
            }
        }
    }
}

fn offer(accepted: &Accepted) -> Offer {
    let hello = accepted.client_hello();
    Offer {
        server_name: hello.server_name().unwrap_or_default().to_owned(),
        protocols: hello
            .alpn()
            .into_iter()
            .flatten()
            .map(<[u8]>::to_vec)
            .collect(),
        suites: hello.cipher_suites().to_vec(),
    }
}

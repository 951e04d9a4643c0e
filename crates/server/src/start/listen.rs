//! Opening the ports.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::os_text;

/// Pending connections a listener holds.
const BACKLOG: i32 = 4096;

/// Opens a TCP port given as `host:port`. The error is in Go's words, which operators look for.
pub(super) fn listen(host_port: &str) -> Result<TcpListener, String> {
    let addresses: Vec<SocketAddr> = host_port
        .to_socket_addrs()
        .map_err(|e| format!("listen tcp: lookup {host_port}: {}", os_text(&e)))?
        .collect();
    // Go listens on the first IPv4 address of a name.
    let address = addresses
        .iter()
        .find(|a| a.is_ipv4())
        .or(addresses.first())
        .ok_or_else(|| format!("listen tcp: lookup {host_port}: no such host"))?;
    bind(*address).map_err(|e| format!("listen tcp {address}: bind: {}", os_text(&e)))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_as_go_names_it() {
        let first = listen("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(&address.to_string()).unwrap_err();
        assert_eq!(
            error,
            format!("listen tcp {address}: bind: address already in use")
        );
    }
}

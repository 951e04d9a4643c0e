//! Telling systemd that the member is ready (the protocol of sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `READY=1` to `$NOTIFY_SOCKET`, if there is one.
pub(super) fn ready() {
    tracing::info!("notifying init daemon");
    if let Ok(path) = std::env::var("NOTIFY_SOCKET")
        && let Err(error) = send(&path)
    {
        tracing::error!(%error, "failed to notify systemd for readiness");
        return;
    }
    tracing::info!("successfully notified init daemon");
}

fn send(path: &str) -> std::io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(b"READY=1", &address)
        .map(drop)
}

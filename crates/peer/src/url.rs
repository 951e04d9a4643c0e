//! Where a member listens.

use std::fmt;
use std::path::{Path, PathBuf};

use gotext::{Url, UrlError};

/// A peer URL that can be dialled: `http`, `https`, `unix` or `unixs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerUrl {
    text: String,
    place: Place,
    tls: bool,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A host (without brackets) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl PeerUrl {
    /// Takes a URL apart. etcd checks its lists of URLs when they are configured; this demands only what dialling needs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error: UrlError| error.to_string())?;
        let tls = url.is_tls();
        let place = if url.is_unix() {
            // As etcd: the authority is the name of the file, the path is ignored.
            Place::Unix(PathBuf::from(&url.host))
        } else {
            let default = match url.scheme.as_str() {
                "http" => 80,
                "https" => 443,
                other => return Err(format!("unsupported protocol scheme \"{other}\"")),
            };
            let port = match url.port() {
                "" => default,
                port => port
                    .parse()
                    .map_err(|_| format!("invalid port \"{port}\" in {text}"))?,
            };
            let host = url.hostname().to_owned();
            Place::Tcp { host, port }
        };
        let empty = match &place {
            Place::Tcp { host, .. } => host.is_empty(),
            Place::Unix(path) => path.as_os_str().is_empty(),
        };
        if empty {
            return Err(format!("no host in {text}"));
        }
        let text = text.trim_end_matches('/').to_owned();
        Ok(Self { text, place, tls })
    }

    /// The URL as configured, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Where it leads.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The host's name or address; what a certificate has to be for.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host,
            Place::Unix(path) => path.to_str().unwrap_or_default(),
        }
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => gotext::join_host_port(host, &port.to_string()),
            Place::Unix(path) => path_text(path),
        }
    }
}

/// A path where a host is expected.
fn path_text(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
    if plain {
        text.into_owned()
    } else {
        "localhost".to_owned()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_places() {
        let url = PeerUrl::parse("http://10.0.0.1:2380").unwrap();
        assert_eq!(
            url.place(),
            &Place::Tcp {
                host: "10.0.0.1".into(),
                port: 2380
            }
        );
        assert_eq!(
            (url.is_tls(), url.authority().as_str()),
            (false, "10.0.0.1:2380")
        );
        let url = PeerUrl::parse("https://[::1]:2380/").unwrap();
        assert_eq!(
            (url.is_tls(), url.host(), url.authority().as_str()),
            (true, "::1", "[::1]:2380")
        );
        assert_eq!(url.as_str(), "https://[::1]:2380");
        let url = PeerUrl::parse("unix://m1.sock:0/ignored").unwrap();
        assert_eq!(url.place(), &Place::Unix("m1.sock:0".into()));
        for bad in [
            "",
            "h:1",
            "ftp://h:1",
            "http://:1",
            "http://h:99999",
            "unix://",
        ] {
            assert!(PeerUrl::parse(bad).is_err(), "{bad}");
        }
    }
}

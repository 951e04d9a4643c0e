//! Connections that are refused.

use std::fmt;

use crate::certificate::Names;
use crate::server::Endpoint;

/// Why a connection was refused. It was logged already.
#[derive(Debug)]
pub struct Rejection {
    pub(crate) text: String,
    pub(crate) server_name: String,
    /// What the client's certificate says, once it was verified.
    pub(crate) names: Option<Names>,
    /// The client just left.
    pub(crate) quiet: bool,
}

impl Rejection {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            server_name: String::new(),
            names: None,
            quiet: false,
        }
    }

    pub(crate) fn left() -> Self {
        Self {
            quiet: true,
            ..Self::new("EOF")
        }
    }

    pub(crate) fn of(mut self, server_name: &str) -> Self {
        server_name.clone_into(&mut self.server_name);
        self
    }

    pub(crate) fn with(mut self, names: Option<Names>) -> Self {
        self.names = names;
        self
    }

    /// Writes etcd's line.
    pub(crate) fn log(&self, endpoint: Endpoint, remote: &str) {
        let endpoint = endpoint.name();
        if self.quiet {
            tracing::debug!(
                "remote-addr" = %remote,
                "server-name" = %self.server_name,
                error = %self.text,
                "rejected connection on {endpoint} endpoint"
            );
            return;
        }
        let Some(names) = &self.names else {
            tracing::warn!(
                "remote-addr" = %remote,
                "server-name" = %self.server_name,
                error = %self.text,
                "rejected connection on {endpoint} endpoint"
            );
            return;
        };
        let addresses: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "remote-addr" = %remote,
            "server-name" = %self.server_name,
            "ip-addresses" = %logging::Json(&addresses),
            "dns-names" = %logging::Json(&names.dns),
            error = %self.text,
            "rejected connection on {endpoint} endpoint"
        );
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Rejection {}

//! Which requests of browsers are let through: `--cors` and `--host-whitelist`.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use super::reply::{self, Reply};

/// The rules for one listener.
#[derive(Clone, Debug)]
pub struct Filter {
    origins: BTreeSet<String>,
    /// Empty: any host.
    hosts: BTreeSet<String>,
    secure: bool,
}

const ANY: &str = "*";

impl Filter {
    /// `origins` is `--cors`, `hosts` is `--host-whitelist`; `secure` listeners do not look at hosts.
    pub fn new(
        origins: impl IntoIterator<Item = String>,
        hosts: impl IntoIterator<Item = String>,
        secure: bool,
    ) -> Self {
        Self {
            origins: origins.into_iter().collect(),
            hosts: hosts.into_iter().collect(),
            secure,
        }
    }

    /// The answer to a request that goes no further.
    pub(super) fn refuse<B>(&self, request: &Request<B>) -> Option<Reply> {
        if !self.secure {
            let host = host(request);
            if !self.hosts.is_empty() && !self.hosts.contains(ANY) && !self.hosts.contains(host) {
                tracing::warn!(
                    host,
                    "rejecting HTTP request to prevent DNS rebinding attacks"
                );
                return Some(reply::error(
                    StatusCode::MISDIRECTED_REQUEST,
                    &unknown_host(host),
                ));
            }
        }
        (request.method() == Method::OPTIONS).then(reply::empty)
    }

    /// The headers that let a browser's page of this origin see the answer.
    pub(super) fn allow(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        let origin = if self.origins.contains(ANY) {
            HeaderValue::from_static(ANY)
        } else {
            match origin {
                Some(origin)
                    if origin
                        .to_str()
                        .is_ok_and(|text| self.origins.contains(text)) =>
                {
                    origin
                }
                _ => return,
            }
        };
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        let allowed = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
}

fn host<B>(request: &Request<B>) -> &str {
    let host = match request.headers().get(header::HOST) {
        Some(value) => value.to_str().unwrap_or_default(),
        None => request.uri().host().unwrap_or_default(),
    };
    gotext::split_host_port(host).map_or(host, |(host, _)| host)
}

fn unknown_host(host: &str) -> String {
    format!(
        "\n\
        etcd received your request, but the Host header was unrecognized.\n\n\
        To fix this, choose one of the following options:\n\
        - Enable TLS, then any HTTPS request will be allowed.\n\
        - Add the hostname you want to use to the whitelist in settings:\n\
        \u{20}\u{20}- e.g. etcd --host-whitelist {}\n\n\
        This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n",
        gotext::quote(host)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str) -> Request<()> {
        Request::get("/version")
            .header("host", host)
            .body(())
            .unwrap()
    }

    #[test]
    fn hosts_are_compared_without_port_and_only_without_tls() {
        let hosts = || vec!["good.com".to_owned()];
        let filter = Filter::new([], hosts(), false);
        assert!(filter.refuse(&request("good.com:2379")).is_none());
        assert_eq!(filter.refuse(&request("evil.com")).unwrap().status(), 421);
        assert!(
            Filter::new([], hosts(), true)
                .refuse(&request("evil.com"))
                .is_none()
        );
        assert!(
            Filter::new([], [], false)
                .refuse(&request("evil.com"))
                .is_none()
        );
        assert!(
            Filter::new([], ["*".to_owned()], false)
                .refuse(&request("evil.com"))
                .is_none()
        );
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let filter = Filter::new(["http://a:1".to_owned()], [], false);
        let mut headers = HeaderMap::new();
        filter.allow(Some(HeaderValue::from_static("http://b:1")), &mut headers);
        assert!(headers.is_empty());
        filter.allow(Some(HeaderValue::from_static("http://a:1")), &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "http://a:1");
        let mut headers = HeaderMap::new();
        Filter::new(["*".to_owned()], [], false).allow(None, &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "*");
    }
}

//! The client port and the metrics port.

use std::fmt::Write;
use std::io::Write as _;
use std::sync::Arc;

use http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;

use super::reply::{self, Reply};
use super::{Endpoints, Filter, checks, json};
use crate::frontend::Frontend;
use crate::grpc::Services;
use crate::net::Handler;

/// A client listener: gRPC over HTTP/2, the endpoints over HTTP/1. Either may be absent
/// (`--listen-client-http-urls`).
#[derive(Debug)]
pub struct ClientHandler<F> {
    services: Option<Arc<Services<F>>>,
    endpoints: Option<Arc<Endpoints<F>>>,
    filter: Arc<Filter>,
}

impl<F: Frontend> ClientHandler<F> {
    /// Serves gRPC, endpoints or both.
    pub fn new(
        services: Option<Arc<Services<F>>>,
        endpoints: Option<Arc<Endpoints<F>>>,
        filter: Filter,
    ) -> Self {
        Self {
            services,
            endpoints,
            filter: Arc::new(filter),
        }
    }
}

impl<F> Clone for ClientHandler<F> {
    fn clone(&self) -> Self {
        Self {
            services: self.services.clone(),
            endpoints: self.endpoints.clone(),
            filter: Arc::clone(&self.filter),
        }
    }
}

impl<F: Frontend> Handler for ClientHandler<F> {
    async fn handle(self, request: Request<Incoming>) -> Reply {
        match (self.services, self.endpoints) {
            (Some(services), None) => services.call(request).await,
            (Some(services), _) if request.version() == Version::HTTP_2 => {
                services.call(request).await
            }
            (_, Some(endpoints)) => Box::pin(endpoints.client(request, &self.filter)).await,
            (None, None) => reply::not_found(),
        }
    }
}

/// A metrics listener: metrics and health, without the rules for browsers.
#[derive(Debug)]
pub struct MetricsHandler<F>(Arc<Endpoints<F>>);

impl<F: Frontend> MetricsHandler<F> {
    /// Serves some of the endpoints.
    pub const fn new(endpoints: Arc<Endpoints<F>>) -> Self {
        Self(endpoints)
    }
}

impl<F> Clone for MetricsHandler<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Frontend> Handler for MetricsHandler<F> {
    async fn handle(self, request: Request<Incoming>) -> Reply {
        Box::pin(self.0.health_or_metrics(&request))
            .await
            .unwrap_or_else(reply::not_found)
    }
}

impl<F: Frontend> Endpoints<F> {
    async fn client<B>(&self, request: Request<B>, filter: &Filter) -> Reply
    where
        B: Send + Sync,
    {
        let mut reply = match filter.refuse(&request) {
            Some(refusal) => refusal,
            None => self.route(&request).await,
        };
        filter.allow(
            request.headers().get(header::ORIGIN).cloned(),
            reply.headers_mut(),
        );
        reply
    }

    async fn route<B: Sync>(&self, request: &Request<B>) -> Reply {
        if let Some(reply) = self.health_or_metrics(request).await {
            return reply;
        }
        match request.uri().path() {
            "/version" => self.version(request),
            "/debug/vars" => reply::unless_get(request).unwrap_or_else(|| self.vars()),
            _ => reply::not_found(),
        }
    }

    /// The endpoints that client and metrics ports share.
    async fn health_or_metrics<B: Sync>(&self, request: &Request<B>) -> Option<Reply> {
        let path = request.uri().path();
        if path == "/metrics" {
            return Some(self.metrics(request));
        }
        if path == "/health" {
            return Some(match reply::unless_get(request) {
                Some(refusal) => refusal,
                None => self.health(request.uri().query()).await,
            });
        }
        let (kind, check) = checks::of_path(path)?;
        Some(match reply::unless_get(request) {
            Some(refusal) => refusal,
            None => self.run_checks(kind, check, request.uri()).await,
        })
    }

    /// `/version`, also on the peer port.
    pub(super) fn version<B>(&self, request: &Request<B>) -> Reply {
        if let Some(refusal) = reply::unless_get(request) {
            return refusal;
        }
        let versions = self.member.versions();
        let or = |text: String, absent: &str| {
            if text.is_empty() {
                absent.to_owned()
            } else {
                text
            }
        };
        let fields = [
            ("etcdserver", versions.server),
            ("etcdcluster", or(versions.cluster, "not_decided")),
            ("storage", or(versions.storage, "unknown")),
        ];
        let mut body = String::from("{");
        for (name, value) in fields {
            json::field(&mut body, name);
            json::string(&mut body, &value);
        }
        body.push('}');
        reply::json(body)
    }

    fn metrics<B>(&self, request: &Request<B>) -> Reply {
        const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        let text = self.metrics.render(&*self.member).into_bytes();
        let accepts = request
            .headers()
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok());
        let wants_gzip = accepts.is_some_and(|list| {
            list.split(',')
                .any(|entry| entry.split(';').next().unwrap_or_default().trim() == "gzip")
        });
        let compressed = wants_gzip.then(|| gzip(&text)).flatten();
        let encoded = compressed.is_some();
        let mut reply =
            reply::with_type(compressed.unwrap_or(text), HeaderValue::from_static(TEXT));
        if encoded {
            reply
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    }

    /// What Go's `expvar` would tell, as far as it means something here.
    fn vars(&self) -> Reply {
        let status = self.member.raft_status();
        let mut body = String::from("{\n\"cmdline\": [");
        for argument in std::env::args_os() {
            json::item(&mut body);
            json::string(&mut body, &argument.to_string_lossy());
        }
        let state = match status.leader {
            leader if leader == status.id => "StateLeader",
            _ => "StateFollower",
        };
        // Writing to a string does not fail.
        let _ = write!(
            body,
            "],\n\"raft.status\": {{\"id\":\"{:x}\",\"term\":{},\"vote\":\"{:x}\",\"commit\":{},\"lead\":\"{:x}\",\
            \"raftState\":\"{state}\",\"applied\":{}}}\n}}\n",
            status.id, status.term, status.vote, status.commit, status.leader, status.applied,
        );
        reply::with_type(
            body,
            HeaderValue::from_static("application/json; charset=utf-8"),
        )
    }
}

fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}

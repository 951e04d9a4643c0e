//! `/health`: one answer for load balancers.

use api::Error;
use api::etcdserverpb as pb;
use http::StatusCode;

use super::reply::{self, Reply};
use super::{Endpoints, query};
use crate::frontend::{Caller, Frontend};

impl<F: Frontend> Endpoints<F> {
    pub(super) async fn health(&self, query: Option<&str>) -> Reply {
        let serializable = query::first(query, "serializable").as_deref() == Some("true");
        let reason = self
            .illness(&query::values(query, "exclude"), serializable)
            .await;
        let healthy = reason.is_empty();
        let body = format!("{{\"health\":\"{healthy}\",\"reason\":\"{reason}\"}}");
        if healthy {
            self.metrics.server.health_success.inc();
            return reply::text(body);
        }
        self.metrics.server.health_failures.inc();
        tracing::warn!(output = body, "status-code" = 503, "/health error");
        reply::error(StatusCode::SERVICE_UNAVAILABLE, &body)
    }

    /// What is wrong with the member; empty if nothing is.
    async fn illness(&self, excluded: &[String], serializable: bool) -> String {
        for alarm in self.member.alarms() {
            let name = match alarm.alarm {
                1 => "NOSPACE",
                2 => "CORRUPT",
                _ => "UNKNOWN",
            };
            if !excluded.iter().any(|excluded| excluded == name) {
                tracing::warn!(alarm = name, "serving /health false due to an alarm");
                return format!("ALARM {name}");
            }
        }
        if !serializable && !self.member.has_leader() {
            tracing::warn!("serving /health false; no leader");
            return "RAFT NO LEADER".to_owned();
        }
        match tokio::time::timeout(self.request_timeout, self.read(serializable)).await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => range_error(&error),
            Err(_) => range_error(&Error::DeadlineExceeded),
        }
    }

    /// The smallest read there is.
    pub(super) async fn read(&self, serializable: bool) -> Result<(), Error> {
        let request = pb::RangeRequest {
            key: vec![0].into(),
            limit: 1,
            keys_only: true,
            serializable,
            ..Default::default()
        };
        self.member.range(&Caller::Root, request).await.map(drop)
    }
}

fn range_error(error: &Error) -> String {
    tracing::warn!(%error, "serving /health false; Range fails");
    format!("RANGE ERROR:{error}")
}

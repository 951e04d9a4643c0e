//! The standard health service: it tells that this server serves, not whether the cluster does.

use std::sync::Arc;

use api::Error;
use api::health::health_check_response::ServingStatus;
use api::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use tonic::{Code, Status};

use super::call::Call;
use super::services::{Sender, Services, only_message};
use crate::frontend::Frontend;
use crate::metrics::Tally;

/// The only name with a state: the server as a whole.
const SERVER: &str = "";

impl<F: Frontend> Services<F> {
    pub(super) async fn health_check(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<HealthCheckResponse, Status> {
        let request: HealthCheckRequest = self.receive(call, tally).await?;
        if request.service != SERVER {
            return Err(Status::new(Code::NotFound, "unknown service"));
        }
        Ok(state(ServingStatus::Serving))
    }

    pub(super) async fn health_list(
        &self,
        call: &mut Call,
        tally: &Tally,
    ) -> Result<HealthListResponse, Status> {
        let HealthListRequest {} = self.receive(call, tally).await?;
        Ok(HealthListResponse {
            statuses: [(SERVER.to_owned(), state(ServingStatus::Serving))].into(),
        })
    }

    /// The state now, and that the server stops when it does.
    pub(super) async fn health_watch(
        self: Arc<Self>,
        mut call: Call,
        out: Sender,
    ) -> Result<(), Status> {
        let request: HealthCheckRequest = only_message(&mut call, &out.tally).await?;
        let known = request.service == SERVER;
        out.send(&state(if known {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        }))
        .await;
        self.stop.cancelled().await;
        if known {
            out.send(&state(ServingStatus::NotServing)).await;
        }
        Err(Error::Stopped.into())
    }
}

fn state(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}

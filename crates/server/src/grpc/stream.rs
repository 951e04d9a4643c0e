//! What streams have in common.

use std::future::Future;
use std::sync::Arc;

use api::Error;
use tonic::Status;

use super::services::Services;
use crate::frontend::Frontend;

/// Checks without a leader after which a stream that needs one ends.
const LEADERLESS_CHECKS: u32 = 3;

/// Runs a stream's work. When the client asked for a leader (`services` is set), the stream ends once there has
/// been none for three looks in a row, one each election timeout.
pub async fn while_led<F: Frontend>(
    services: Option<Arc<Services<F>>>,
    work: impl Future<Output = Result<(), Status>>,
) -> Result<(), Status> {
    match services {
        None => work.await,
        Some(services) => tokio::select! {
            result = work => result,
            () = leader_lost(&services) => Err(Error::NoLeader.into()),
        },
    }
}

async fn leader_lost<F: Frontend>(services: &Services<F>) {
    let mut without = 0;
    while without < LEADERLESS_CHECKS {
        tokio::time::sleep(services.settings.election_timeout).await;
        without = if services.member.has_leader() {
            0
        } else {
            without + 1
        };
    }
}

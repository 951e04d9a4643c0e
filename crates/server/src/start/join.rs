//! What a member asks others before it has a log: whether it was founded already, and which cluster it joins.

use std::sync::Arc;
use std::time::Duration;

use cluster::InitialCluster;
use gotext::Hex;
use peer::{PeerClient, PeerRuntime};

use super::StartError;
use super::boot::{BootOptions, Origin};
use super::resolve::same_urls;

/// How long each member may take when a cluster is founded: most of them are not up yet.
const FOUNDING: Duration = Duration::from_secs(1);
/// How long each member may take when a cluster is joined.
const JOINING: Duration = Duration::from_secs(10);
/// How long threads may take to end.
const STOP: Duration = Duration::from_secs(1);

fn failed(error: String) -> StartError {
    tracing::error!(%error, "bootstrap failed");
    StartError::Failed(error)
}

/// Asks on threads of its own, which end with the answer.
fn ask<T, F: Future<Output = T>>(
    options: &BootOptions,
    question: impl FnOnce(PeerClient) -> F,
) -> Result<T, StartError> {
    let runtime = PeerRuntime::start(1).map_err(|error| failed(error.to_string()))?;
    let client = PeerClient::new(&runtime, Arc::new(peer::PlainDialer), options.dial_timeout);
    let answer = runtime.block_on(question(client));
    runtime.stop(STOP);
    Ok(answer)
}

/// A member that lost its files must not found its cluster for a second time.
pub(super) fn not_bootstrapped(
    options: &BootOptions,
    founders: &[cluster::Member],
) -> Result<(), StartError> {
    let Some(own) = founders.iter().find(|m| m.name == options.name) else {
        return Ok(());
    };
    let urls: Vec<String> = founders
        .iter()
        .filter(|m| m.id != own.id)
        .flat_map(|m| m.peer_urls.clone())
        .collect();
    if urls.is_empty() {
        return Ok(());
    }
    let answer = ask(options, |client| async move {
        client.get_members(&urls, FOUNDING, false).await
    })?;
    let known = answer.is_ok_and(|cluster| {
        let mut members = cluster.members.iter();
        members.any(|m| m.id == own.id && !m.client_urls.is_empty())
    });
    if known {
        return Err(failed(format!(
            "member {} has already been bootstrapped",
            Hex(own.id)
        )));
    }
    Ok(())
}

/// The cluster that the listed members belong to; they take their ids from it.
pub(super) fn existing_cluster(options: &BootOptions) -> Result<Origin, StartError> {
    let listed = InitialCluster::parse(&options.initial_cluster)
        .map_err(|e| failed(format!("error setting up initial cluster: {e}")))?;
    listed
        .verify_join(
            &options.name,
            &options.initial_advertise_peer_urls,
            &mut same_urls,
        )
        .map_err(|e| failed(e.to_string()))?;
    let others = listed.other_urls(&options.name);
    let cluster = ask(options, |client| async move {
        client.get_members(&others, JOINING, true).await
    })?
    .map_err(|e| failed(format!("cannot fetch cluster info from peer urls: {e}")))?;
    let members = listed
        .members(&options.initial_cluster_token)
        .map_err(|e| failed(e.to_string()))?;
    let members = cluster::adopt_existing(cluster.id, members, &cluster.members, &mut same_urls)
        .map_err(failed)?;
    if !ask(options, |client| compatible(client, options, &members))? {
        return Err(failed("incompatible with current running cluster".into()));
    }
    let learners = members.iter().filter(|m| m.is_learner).count();
    if learners > options.max_learners {
        return Err(failed(cluster::Error::TooManyLearners.to_string()));
    }
    Ok(Origin::Existing {
        cluster_id: cluster.id,
        members,
    })
}

/// Whether this release can work with what the others agreed on.
async fn compatible(
    client: PeerClient,
    options: &BootOptions,
    members: &[cluster::Member],
) -> bool {
    let mut versions = Vec::new();
    let others = || members.iter().filter(|m| m.name != options.name);
    for member in others() {
        match client.get_versions(&member.peer_urls, JOINING).await {
            Ok(answer) => {
                let version = answer
                    .cluster
                    .and_then(|v| v.parse::<cluster::Version>().ok());
                versions.extend(version);
            }
            Err(error) => tracing::warn!(
                "remote-member-id" = %Hex(member.id),
                %error,
                "failed to get version"
            ),
        }
    }
    let own = super::server_version();
    if cluster::compatible_with_cluster(own, versions.iter().copied(), false) {
        return true;
    }
    // Only now: the answer needs a quorum, which may be waiting for this very member.
    let mut downgrade = false;
    for member in others() {
        let answer = client.downgrade_enabled(&member.peer_urls, JOINING).await;
        if let Ok(enabled) = answer {
            downgrade = enabled;
            break;
        }
    }
    cluster::compatible_with_cluster(own, versions, downgrade)
}

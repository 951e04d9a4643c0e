//! The Watch service: a client's stream on one side, the watch hub on the other.

use std::sync::Arc;
use std::time::Duration;

use api::Error;
use api::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status};
use watch::{StreamConfig, StreamControl, WatchItem};

use super::call::Call;
use super::services::{Sender, Services};
use crate::frontend::{Caller, Frontend, Need};

impl<F: Frontend> Services<F> {
    /// Serves a stream until the client cancels it; a client that only ends its own side gets events on and on.
    pub(super) async fn watch(self: Arc<Self>, mut call: Call, out: Sender) -> Result<(), Status> {
        let (control, mut receiver) = self.member.watch_hub().stream(StreamConfig::default());
        let mut ticks = ticker(self.settings.watch_progress_interval);
        let mut half_closed = false;
        let caller = call.caller();
        loop {
            tokio::select! {
                item = receiver.recv() => match item {
                    Some(item) => self.send_item(item, &out).await,
                    None => return Err(Error::Stopped.into()),
                },
                request = next_request(&control, &mut call), if !half_closed => match request {
                    Ok(Some((request, length))) => {
                        out.tally.received(length);
                        if let Some(refusal) = self.refusal(&caller, &request).await {
                            out.send(&refusal).await;
                        } else {
                            take_request(&control, request)?;
                        }
                    }
                    Ok(None) => half_closed = true,
                    Err(status) if status.code() == Code::Cancelled => {
                        return Err(Error::WatchCanceled.into());
                    }
                    Err(status) => return Err(status),
                },
                _ = ticks.tick() => control.tick_progress(),
                () = self.stop.cancelled() => return Err(Error::Stopped.into()),
            }
        }
    }

    /// The answer to the creation of a watcher on what its creator may not read. Nobody asks again later.
    async fn refusal(
        &self,
        caller: &Caller,
        request: &pb::WatchRequest,
    ) -> Option<pb::WatchResponse> {
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else {
            return None;
        };
        let need = Need::Watch(&create.key, &create.range_end);
        let error = self.member.permit(caller, need).await.err()?;
        Some(pb::WatchResponse {
            header: Some(self.member.header()),
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: format!(
                "rpc error: code = {:?} desc = {}",
                error.code(),
                error.text()
            ),
            ..Default::default()
        })
    }

    async fn send_item(&self, item: WatchItem, out: &Sender) {
        let history = self.member.watch_hub().history();
        let limit = self.settings.max_receive_bytes();
        for response in item.into_responses(self.member.header(), &*history, limit) {
            out.send(&response).await;
        }
    }
}

/// The client's next request, once the hub can take one: a client that asks without reading answers waits.
async fn next_request(
    control: &StreamControl,
    call: &mut Call,
) -> Result<Option<(pb::WatchRequest, usize)>, Status> {
    control.ready().await;
    call.messages.next().await
}

fn take_request(control: &StreamControl, request: pb::WatchRequest) -> Result<(), Status> {
    let taken = match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => control.create(create.into()),
        Some(RequestUnion::CancelRequest(cancel)) => control.cancel(cancel.watch_id),
        Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) => control.progress(),
        None => {
            tracing::info!("not supported request type on a watch stream");
            Ok(())
        }
    };
    // It was ready, and nobody else makes requests; so the hub has gone away meanwhile.
    taken.map_err(|_| Error::Stopped.into())
}

/// Ticks with a period that differs by up to a tenth between streams, lest all clients get progress at once.
fn ticker(interval: Duration) -> tokio::time::Interval {
    let period = interval + interval.mul_f64(fastrand() / 10.0);
    let mut ticker = tokio::time::interval_at(Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// A number between 0 and 1 that differs between calls; nothing depends on its quality.
fn fastrand() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

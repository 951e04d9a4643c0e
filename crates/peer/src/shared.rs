//! What all parts of a transport know.

use std::sync::{Arc, OnceLock};

use api::raftpb::{Message, MessageType};
use consensus::StepError;
use gotext::Hex;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::client::Http;
use crate::{BoxError, Config, Observer, Sink, SnapshotFile, headers};

/// Why a message of another member goes nowhere. The texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("cannot process message from removed member")]
    RemovedSender,
    #[error("cannot process message to mismatch member")]
    NotForUs,
    #[error(transparent)]
    Raft(#[from] StepError),
}

/// The member's end of the transport.
pub(crate) struct Shared {
    pub config: Config,
    pub headers: HeaderMap,
    pub http: Http,
    pub observer: Arc<dyn Observer>,
    pub runtime: Handle,
    pub stop: CancellationToken,
    sink: OnceLock<Arc<dyn Sink>>,
}

impl Shared {
    pub fn new(config: Config, http: Http, observer: Arc<dyn Observer>, runtime: Handle) -> Self {
        Self {
            headers: headers::own(&config),
            config,
            http,
            observer,
            runtime,
            stop: CancellationToken::new(),
            sink: OnceLock::new(),
        }
    }

    /// Connects the member; only the first one counts.
    pub fn connect(&self, sink: Arc<dyn Sink>) {
        if self.sink.set(sink).is_err() {
            tracing::error!("a transport was connected twice");
        }
    }

    pub fn report_unreachable(&self, id: u64) {
        if let Some(sink) = self.sink.get() {
            sink.report_unreachable(id);
        }
    }

    pub fn report_snapshot(&self, id: u64, ok: bool) {
        if let Some(sink) = self.sink.get() {
            sink.report_snapshot(id, ok);
        }
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.sink.get().is_some_and(|sink| sink.is_removed(id))
    }

    /// Another member says that this one is none.
    pub fn removed(&self) {
        if let Some(sink) = self.sink.get() {
            sink.removed();
        }
    }

    pub fn receive_snapshot(&self, index: u64) -> Result<Box<dyn SnapshotFile>, BoxError> {
        match self.sink.get() {
            Some(sink) => sink.receive_snapshot(index),
            None => Err(consensus::Stopped.into()),
        }
    }

    /// Hands a message to raft, if it is for us and from a member.
    pub fn process(&self, message: Message) -> Result<(), Rejected> {
        let Some(sink) = self.sink.get() else {
            return Err(StepError::Stopped(consensus::Stopped).into());
        };
        let id = self.config.id_text();
        if sink.is_removed(message.from) {
            tracing::warn!(
                "local-member-id" = %id,
                "removed-member-id" = %Hex(message.from),
                "rejected Raft message from removed member"
            );
            return Err(Rejected::RemovedSender);
        }
        if message.to != self.config.id {
            tracing::warn!(
                "local-member-id" = %id,
                "mismatch-member-id" = %Hex(message.to),
                "rejected Raft message to mismatch member"
            );
            return Err(Rejected::NotForUs);
        }
        Ok(sink.step(message)?)
    }
}

/// The type of a message as etcd's log names it.
pub(crate) fn type_name(message: &Message) -> String {
    MessageType::try_from(message.r#type)
        .map_or_else(|_| message.r#type.to_string(), |kind| format!("{kind:?}"))
}

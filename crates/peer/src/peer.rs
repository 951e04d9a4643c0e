//! A member of the cluster, seen from another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::raftpb::{Message, MessageType};
use gotext::Hex;

use crate::kind::StreamKind;
use crate::link::Link;
use crate::outbox::{Outbox, Pushed};
use crate::{probe, reader};

/// A member and the streams to and from it.
pub(crate) struct Peer {
    pub link: Arc<Link>,
    /// Connections the member opened to get our messages, by kind.
    outboxes: [Mutex<Option<Arc<Outbox>>>; 2],
    paused: AtomicBool,
}

impl Peer {
    /// Starts to talk to a member.
    pub fn start(link: Arc<Link>) -> Arc<Self> {
        let peer = Arc::new(Self {
            link,
            outboxes: Default::default(),
            paused: AtomicBool::new(false),
        });
        let link = &peer.link;
        tracing::info!("remote-peer-id" = %Hex(link.id), "starting remote peer");
        for kind in StreamKind::ALL {
            link.shared
                .runtime
                .spawn(reader::run(Arc::clone(&peer), kind));
        }
        link.shared.runtime.spawn(probe::run(Arc::clone(link)));
        tracing::info!("remote-peer-id" = %Hex(link.id), "started remote peer");
        peer
    }

    fn outbox(&self, kind: StreamKind) -> MutexGuard<'_, Option<Arc<Outbox>>> {
        self.outboxes[kind as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends by the best way there is; never waits.
    pub fn send(&self, mut message: Message) {
        if self.is_paused() {
            return;
        }
        let kind = message.r#type;
        let streams: &[StreamKind] = if kind == MessageType::MsgApp as i32 {
            &[StreamKind::MsgApp, StreamKind::Message]
        } else if kind == MessageType::MsgSnap as i32 {
            &[]
        } else {
            &[StreamKind::Message]
        };
        for stream in streams {
            let Some(outbox) = self.outbox(*stream).clone() else {
                continue;
            };
            match outbox.push(message) {
                Pushed::Ok => return,
                Pushed::Full(message) => return self.link.dropped(&message, &stream.to_string()),
                Pushed::Closed(unsent) => message = unsent,
            }
        }
        self.link.post(message);
    }

    /// The member opened a stream: what is sent from now on goes there. An older connection of that kind is closed.
    pub fn attach(&self, kind: StreamKind) -> Arc<Outbox> {
        let config = &self.link.shared.config;
        let outbox = Arc::new(Outbox::new(config.stream_queue, config.stream_queue_bytes));
        let old = self.outbox(kind).replace(Arc::clone(&outbox));
        let (from, to) = (config.id_text(), Hex(self.link.id));
        tracing::info!(from = %from, to = %to, "stream-type" = %kind, "set message encoder");
        self.link.activity.activate();
        if let Some(old) = old {
            self.close_outbox(kind, &old);
        }
        tracing::info!(
            "stream-writer-type" = %kind,
            "local-member-id" = %from,
            "remote-peer-id" = %to,
            "established TCP streaming connection with remote peer"
        );
        // Stopped while it was attached: nobody else would close it.
        if self.link.stop.is_cancelled() {
            outbox.close();
        }
        outbox
    }

    /// We end a connection.
    fn close_outbox(&self, kind: StreamKind, outbox: &Outbox) {
        let Some(lost) = outbox.close() else { return };
        if lost > 0 {
            self.link.shared.report_unreachable(self.link.id);
        }
        tracing::warn!(
            "stream-writer-type" = %kind,
            "local-member-id" = %self.link.shared.config.id_text(),
            "remote-peer-id" = %Hex(self.link.id),
            "closed TCP streaming connection with remote peer"
        );
    }

    /// A connection ended, or takes nothing any more.
    pub fn lost_outbox(&self, kind: StreamKind, outbox: &Arc<Outbox>, cause: &str) {
        let mut attached = self.outbox(kind);
        if attached
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, outbox))
        {
            *attached = None;
        }
        drop(attached);
        if outbox.close().is_none() {
            return;
        }
        tracing::warn!(
            "stream-writer-type" = %kind,
            "local-member-id" = %self.link.shared.config.id_text(),
            "remote-peer-id" = %Hex(self.link.id),
            "lost TCP streaming connection with remote peer"
        );
        self.link
            .activity
            .deactivate("write", &kind.to_string(), cause);
        self.link.shared.report_unreachable(self.link.id);
    }

    /// Gives up connections that have taken nothing for too long.
    pub fn drop_stuck(&self) {
        for kind in StreamKind::ALL {
            let attached = self.outbox(kind).clone();
            if let Some(outbox) = attached
                && outbox.is_stuck(self.link.shared.config.io_timeout)
            {
                self.lost_outbox(kind, &outbox, "i/o timeout");
            }
        }
    }

    /// Whether messages from and to the member are thrown away, for tests.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Closes the connections the member opened; it will open new ones.
    pub fn disconnect(&self) {
        for kind in StreamKind::ALL {
            let attached = self.outbox(kind).take();
            if let Some(outbox) = attached {
                self.close_outbox(kind, &outbox);
            }
        }
    }

    /// Ends everything with the member.
    pub fn stop(&self) {
        let id = Hex(self.link.id);
        tracing::info!("remote-peer-id" = %id, "stopping remote peer");
        self.link.close();
        self.disconnect();
        if self.link.activity.since().is_some() {
            self.link.activity.deactivate(
                "read",
                &StreamKind::MsgApp.to_string(),
                "context canceled",
            );
        }
        tracing::info!("remote-peer-id" = %id, "stopped remote peer");
    }
}

//! Answers as the messages clients get.

use api::RawKv;
use api::etcdserverpb::{ResponseHeader, WatchResponse};
use api::mvccpb;
use prost::Message;

use crate::history::History;
use crate::item::{Body, Events, WatchItem};
use crate::{Event, EventKind};

impl WatchItem {
    /// The messages for this answer, in order. `header` has the member's ids and term; the
    /// revision is filled in here. An answer whose encoding has `fragment_bytes` or more is
    /// divided between events if its watcher wants that, so that each piece is smaller, unless it
    /// is a single event; pieces must not be interleaved with other messages of the stream.
    ///
    /// Reads `history` for the states before the events, where they are wanted and not known.
    pub fn into_responses(
        self,
        header: ResponseHeader,
        history: &dyn History,
        fragment_bytes: usize,
    ) -> Vec<WatchResponse> {
        let mut response = WatchResponse {
            header: Some(ResponseHeader {
                revision: self.revision,
                ..header
            }),
            watch_id: self.watch_id,
            ..WatchResponse::default()
        };
        match self.body {
            Body::Created => response.created = true,
            Body::Refused { reason } => {
                response.created = true;
                response.canceled = true;
                response.cancel_reason = reason.into_owned();
            }
            Body::Progress => {}
            Body::Canceled => response.canceled = true,
            Body::Compacted { compact_revision } => {
                response.canceled = true;
                response.compact_revision = compact_revision;
            }
            Body::Events(events) => {
                response.events = messages(&events, history);
                if events.fragment {
                    return fragments(response, fragment_bytes);
                }
            }
        }
        vec![response]
    }
}

fn messages(events: &Events, history: &dyn History) -> Vec<mvccpb::Event> {
    // What is compacted is not shown, even if somebody still has it.
    let compacted = if events.prev_kv {
        history.compact_revision()
    } else {
        0
    };
    let mut messages = Vec::with_capacity(events.len());
    for part in &events.parts {
        let shown = events.prev_kv && part.revision > compacted;
        messages.extend(
            part.iter()
                .map(|event| message(event, part.revision, shown, history)),
        );
    }
    messages
}

fn message(event: &Event, revision: i64, prev_kv: bool, history: &dyn History) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    let wanted = prev_kv && !event.create;
    let prev_kv = if wanted {
        state_before(event, revision, history)
    } else {
        None
    };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(event.kv.clone()),
        prev_kv,
    }
}

/// The state of the event's key at the revision before; a change of the same transaction is not it.
fn state_before(event: &Event, revision: i64, history: &dyn History) -> Option<RawKv> {
    match &event.prev {
        Some(prev) if event.sub == 0 || prev.mod_revision() < revision => Some(prev.clone()),
        _ => history.kv_at(&event.key, revision - 1),
    }
}

/// Divides a response into pieces below the limit; all but the last are marked.
fn fragments(response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < limit {
        return vec![response];
    }
    let empty = WatchResponse {
        events: Vec::new(),
        fragment: true,
        ..response.clone()
    };
    let base = empty.encoded_len();
    let mut pieces = vec![empty.clone()];
    let mut size = base;
    for event in response.events {
        let length = event.encoded_len();
        // One byte for the field's number.
        let more = 1 + prost::length_delimiter_len(length) + length;
        let mut piece = pieces.len() - 1;
        if size + more >= limit && !pieces[piece].events.is_empty() {
            pieces.push(empty.clone());
            piece += 1;
            size = base;
        }
        size += more;
        pieces[piece].events.push(event);
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use crate::caller::Caller;
use crate::{Level, Record, Value, global};

/// Hands `tracing` events to the log. Spans are not shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSubscriber;

/// Libraries whose own chatter is only of interest when something is wrong.
const FOREIGN: [&str; 9] = [
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio",
    "tokio_util",
    "tonic",
    "tower",
    "mio",
];

fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    let level = Level::from_tracing(*metadata.level())?;
    let origin = first_segment(metadata.target());
    (level >= Level::Warn || !FOREIGN.contains(&origin)).then_some(level)
}

fn first_segment(target: &str) -> &str {
    target.split("::").next().unwrap_or_default()
}

/// Names of parts that have a logger of their own in etcd.
fn logger(target: &str) -> Option<&'static str> {
    let name = first_segment(target);
    ["raft", "bbolt", "client"]
        .into_iter()
        .find(|known| *known == name)
}

impl Subscriber for LogSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level_of(metadata).is_some_and(|level| level >= global::level())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let Some(level) = level_of(metadata) else {
            return;
        };
        let mut record = Record {
            level,
            logger: logger(metadata.target()),
            caller: Caller {
                file: metadata.file().unwrap_or_default(),
                line: metadata.line().unwrap_or_default(),
            },
            message: "".into(),
            fields: Vec::with_capacity(metadata.fields().len()),
        };
        event.record(&mut Fields(&mut record));
        global::emit(&record);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Collects the fields of an event; the one named `message` is the line's message.
struct Fields<'a>(&'a mut Record);

impl Fields<'_> {
    fn push(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            if let Value::Text(text) = value {
                self.0.message = text.into();
            }
        } else {
            self.0.fields.push((field.name().into(), value));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::from_recorded(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, Value::Text(value.to_string()));
    }
}

//! Temporary.
use api::RawKv;
use bytes::Bytes;

/// Kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Put.
    Put,
    /// Delete.
    Delete,
}

/// Event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Kind.
    pub kind: EventKind,
    /// Key.
    pub key: Bytes,
    /// Kv.
    pub kv: RawKv,
    /// Create.
    pub create: bool,
    /// Prev.
    pub prev: Option<RawKv>,
    /// Sub.
    pub sub: i64,
}

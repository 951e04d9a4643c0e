//! A wish for a watcher.

use api::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;

use crate::item::Filters;

/// What a watcher shall watch and how.
#[derive(Debug, Clone, Default)]
pub struct WatchSpec {
    /// Wanted id, unique in the stream; 0 = the next free one.
    pub id: i64,
    /// First key; empty means the smallest one.
    pub key: Bytes,
    /// End of the interval as in requests: empty = only `key`, one zero byte = no end.
    pub end: Bytes,
    /// First revision of interest; 0 = the one after the current one.
    pub start_revision: i64,
    /// Events to leave out.
    pub filters: Filters,
    /// Send the state before each event, too.
    pub prev_kv: bool,
    /// Send progress now and then while nothing happens.
    pub progress_notify: bool,
    /// Large answers may be sent in pieces.
    pub fragment: bool,
}

impl From<WatchCreateRequest> for WatchSpec {
    fn from(request: WatchCreateRequest) -> Self {
        // Numbers of the enumeration; unknown ones are ignored.
        const NO_PUT: i32 = 0;
        const NO_DELETE: i32 = 1;
        Self {
            filters: Filters {
                no_put: request.filters.contains(&NO_PUT),
                no_delete: request.filters.contains(&NO_DELETE),
            },
            id: request.watch_id,
            key: request.key,
            end: request.range_end,
            start_revision: request.start_revision,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
        }
    }
}

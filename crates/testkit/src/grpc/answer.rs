//! An answer in the form in which it is compared.

use std::fmt;

use api::RawKv;
use api::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op, response_op,
};
use tonic::Status;

/// An answer as text, one field per line; or the error.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(pub String);

impl Answer {
    /// Of a message.
    pub fn of(message: &impl fmt::Debug) -> Self {
        Self(format!("{message:#?}"))
    }

    /// Of an error: code and text.
    pub fn error(status: &Status) -> Self {
        Self(format!("error {:?}: {}", status.code(), status.message()))
    }

    /// The first line in which two answers differ, with both lines.
    pub fn first_difference(&self, other: &Self) -> Option<(String, String)> {
        let (mut left, mut right) = (self.0.lines(), other.0.lines());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return None,
                (l, r) if l == r => {}
                (l, r) => {
                    let show = |line: Option<&str>| line.unwrap_or("<nothing>").trim().to_owned();
                    return Some((show(l), show(r)));
                }
            }
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the raft term out; a term of 0 stays visible, since a member that answers has one.
pub(super) fn header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header
        && header.raft_term > 0
    {
        header.raft_term = 1;
    }
}

/// Upstream's sort is not stable: pairs that are equal in what they are sorted by come in any order. Such pairs
/// are put in key order here. Where a limit cuts through them, even the set is open; then only what they
/// are sorted by is kept.
pub(super) fn range(request: &RangeRequest, response: &mut RangeResponse) {
    header(&mut response.header);
    let target = request.sort_target;
    // By key, in either direction: no two are equal.
    if target == 0 {
        return;
    }
    let by = |kv: &RawKv| -> (i64, Vec<u8>) {
        match target {
            1 => (kv.version(), Vec::new()),
            2 => (kv.create_revision(), Vec::new()),
            3 => (kv.mod_revision(), Vec::new()),
            _ => (0, kv.value().to_vec()),
        }
    };
    let mut start = 0;
    while start < response.kvs.len() {
        let group = by(&response.kvs[start]);
        let len = response.kvs[start..]
            .iter()
            .take_while(|kv| by(kv) == group)
            .count();
        let end = start + len;
        response.kvs[start..end].sort_by_key(RawKv::key);
        if len > 1 && request.limit > 0 {
            for kv in &mut response.kvs[start..end] {
                *kv = RawKv::encode(b"<tie>", 0, 0, group.0, &group.1, 0);
            }
        }
        start = end;
    }
    // The last pair may be one of several equal ones of which the others were cut.
    if request.limit > 0
        && response.more
        && let Some(last) = response.kvs.last_mut()
    {
        let group = by(last);
        *last = RawKv::encode(b"<tie>", 0, 0, group.0, &group.1, 0);
    }
}

/// The same for the answers inside a transaction.
pub(super) fn txn(request: &TxnRequest, response: &mut TxnResponse) {
    header(&mut response.header);
    let branch = if response.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (request, response) in branch.iter().zip(&mut response.responses) {
        match (&request.request, &mut response.response) {
            (
                Some(request_op::Request::RequestRange(request)),
                Some(response_op::Response::ResponseRange(response)),
            ) => range(request, response),
            (
                Some(request_op::Request::RequestTxn(request)),
                Some(response_op::Response::ResponseTxn(response)),
            ) => txn(request, response),
            _ => {}
        }
    }
}

//! Load with a memory of what was acknowledged, and the check that none of it was lost.
//!
//! Every writer owns its keys, so the history of a key is one sequence: value n was written after n − 1 was
//! answered or given up. After a crash a key must hold the last acknowledged value, or a later one whose answer
//! was lost; a pair of keys that is only ever written together must agree; and no revision may go back, neither
//! one that a write returned nor one that a read has shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb::request_op::Request as Op;
use api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use tokio::task::JoinSet;

use crate::grpc::Clients;

/// One key's history as its writer knows it.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory {
    /// The number of the last acknowledged write and its revision.
    acknowledged: Option<(u64, i64)>,
    /// Whether that write was a deletion.
    deleted: bool,
    /// The number of the last write that was sent.
    sent: u64,
    /// Whether the last sent write is a deletion.
    sent_delete: bool,
}

/// What all writers know.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, KeyHistory>,
    pairs: BTreeMap<String, KeyHistory>,
    /// The highest revision any answer has shown.
    highest: i64,
    /// How many writes were acknowledged.
    pub writes: u64,
}

/// Load on one server until told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<WriterLedger>,
}

/// Numbers of writers of each kind and of keys per writer.
#[derive(Clone, Copy, Debug)]
pub struct LoadConfig {
    /// Clients that put and delete single keys.
    pub writers: usize,
    /// Clients that write pairs of keys in transactions.
    pub pair_writers: usize,
    /// Clients that read all and watch revisions grow.
    pub readers: usize,
    /// Keys of each writer.
    pub keys: usize,
    /// Bytes of a value beyond its number.
    pub value_size: usize,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            writers: 8,
            pair_writers: 2,
            readers: 2,
            keys: 16,
            value_size: 100,
        }
    }
}

#[derive(Debug, Default)]
struct WriterLedger {
    keys: BTreeMap<String, KeyHistory>,
    pairs: BTreeMap<String, KeyHistory>,
    highest: i64,
    writes: u64,
    broken: Vec<String>,
}

impl Load {
    /// Starts load on the server at this URL, going on from what the ledger knows. Ends by itself only at
    /// [`Load::stop`]; failing requests are repeated as new ones.
    pub fn start(url: &str, config: LoadConfig, ledger: &Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let highest = Arc::new(AtomicI64::new(ledger.highest));
        let mut tasks = JoinSet::new();
        let shared = |url: &str| Shared {
            clients: Clients::new(url),
            stop: Arc::clone(&stop),
            acknowledged: Arc::clone(&acknowledged),
            highest: Arc::clone(&highest),
            value_size: config.value_size,
        };
        for writer in 0..config.writers {
            let keys = own_keys(&ledger.keys, "single", writer, config.keys);
            tasks.spawn(write(shared(url), keys));
        }
        for writer in 0..config.pair_writers {
            let keys = own_keys(&ledger.pairs, "pair", writer, config.keys);
            tasks.spawn(write_pairs(shared(url), keys));
        }
        for _ in 0..config.readers {
            tasks.spawn(read(shared(url)));
        }
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Writes acknowledged so far in this run.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the load and enters what it knows into the ledger. Call it after the server was killed, or the
    /// last writes simply finish.
    ///
    /// # Panics
    /// When a rule was broken that needs no crash to be checked.
    pub async fn stop(mut self, ledger: &mut Ledger) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(result) = self.tasks.join_next().await {
            let one = result.expect("a load task does not panic");
            assert!(one.broken.is_empty(), "{:#?}", one.broken);
            ledger.keys.extend(one.keys);
            ledger.pairs.extend(one.pairs);
            ledger.highest = ledger.highest.max(one.highest);
            ledger.writes += one.writes;
        }
    }
}

impl Ledger {
    /// The highest revision any answer has shown.
    pub fn highest(&self) -> i64 {
        self.highest
    }

    /// Reads everything back and gives every broken promise. Writes that turn out to have happened though
    /// their answer was lost are noted as acknowledged.
    pub async fn check(&mut self, url: &str) -> Vec<String> {
        let mut kv = Clients::new(url).kv;
        let request = RangeRequest {
            key: "load/".into(),
            range_end: "load0".into(),
            ..Default::default()
        };
        let response: RangeResponse = match kv.range(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return vec![format!("cannot read back: {status:?}")],
        };
        let mut broken = Vec::new();
        let revision = response.header.map_or(0, |header| header.revision);
        if revision < self.highest {
            broken.push(format!("revision {revision} after {}", self.highest));
        }
        self.highest = self.highest.max(revision);
        let found: BTreeMap<String, (u64, i64)> = response
            .kvs
            .iter()
            .map(|kv| {
                let key = String::from_utf8_lossy(&kv.key()).into_owned();
                (key, (number(&kv.value()), kv.mod_revision()))
            })
            .collect();
        for (key, history) in &mut self.keys {
            broken.extend(settle(key, history, found.get(key).copied()));
        }
        for (key, history) in &mut self.pairs {
            let (a, b) = (
                found.get(&format!("{key}/a")),
                found.get(&format!("{key}/b")),
            );
            if a != b {
                broken.push(format!("{key}: one transaction in halves: {a:?} and {b:?}"));
            }
            broken.extend(settle(key, history, a.copied()));
        }
        broken
    }
}

/// Compares what is stored under a key with what its writer knows, and brings the history up to date.
fn settle(key: &str, history: &mut KeyHistory, stored: Option<(u64, i64)>) -> Option<String> {
    let problem = match (stored, history.acknowledged) {
        (None, Some(known)) => {
            let may_be_gone = history.sent_delete && history.sent > known.0;
            let gone = history.deleted || may_be_gone;
            (!gone).then(|| format!("{key}: {known:?} is lost"))
        }
        (Some((number, _)), _) if number > history.sent => {
            Some(format!("{key}: {number} was never written"))
        }
        (Some((number, revision)), Some((known, at))) if number == known && !history.deleted => {
            (revision != at).then(|| format!("{key}: {number} moved from {at} to {revision}"))
        }
        (Some((number, _)), Some((known, _))) if number <= known => Some(format!(
            "{key}: {number} is stored, {known} was acknowledged"
        )),
        (Some(_), _) | (None, None) => None,
    };
    match stored {
        Some((number, revision)) => {
            history.acknowledged = Some((number, revision));
            history.deleted = false;
        }
        None => {
            if history.acknowledged.is_some() {
                history.deleted = true;
            }
        }
    }
    // What was sent and is not there now will not come any more: the server that knew of it is dead.
    problem
}

struct Shared {
    clients: Clients,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    highest: Arc<AtomicI64>,
    value_size: usize,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The value with this number.
    fn value(&self, number: u64) -> String {
        format!("{number:020}{}", "x".repeat(self.value_size))
    }

    fn show(&self, revision: i64) {
        self.highest.fetch_max(revision, Ordering::SeqCst);
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.get(..20))
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX)
}

fn own_keys(
    known: &BTreeMap<String, KeyHistory>,
    kind: &str,
    writer: usize,
    count: usize,
) -> BTreeMap<String, KeyHistory> {
    (0..count)
        .map(|key| format!("load/{kind}/{writer}/{key}"))
        .map(|key| {
            let history = known.get(&key).cloned().unwrap_or_default();
            (key, history)
        })
        .collect()
}

/// The pause after a failed request, so that a dead server is not hammered.
const PAUSE: Duration = Duration::from_millis(5);

async fn write(shared: Shared, mut keys: BTreeMap<String, KeyHistory>) -> WriterLedger {
    let mut ledger = WriterLedger::default();
    let mut kv = shared.clients.kv.clone();
    'load: loop {
        for (key, history) in &mut keys {
            if shared.stopped() {
                break 'load;
            }
            history.sent += 1;
            history.sent_delete = history.sent % 7 == 0;
            let result = if history.sent_delete {
                let request = DeleteRangeRequest {
                    key: key.clone().into(),
                    ..Default::default()
                };
                kv.delete_range(request)
                    .await
                    .map(|r| r.into_inner().header)
            } else {
                let request = PutRequest {
                    key: key.clone().into(),
                    value: shared.value(history.sent).into(),
                    ..Default::default()
                };
                kv.put(request).await.map(|r| r.into_inner().header)
            };
            note(&shared, &mut ledger, history, result.ok().flatten()).await;
        }
    }
    ledger.keys = keys;
    ledger
}

async fn write_pairs(shared: Shared, mut keys: BTreeMap<String, KeyHistory>) -> WriterLedger {
    let mut ledger = WriterLedger::default();
    let mut kv = shared.clients.kv.clone();
    'load: loop {
        for (key, history) in &mut keys {
            if shared.stopped() {
                break 'load;
            }
            history.sent += 1;
            let value = shared.value(history.sent);
            let put = |end: &str| RequestOp {
                request: Some(Op::RequestPut(PutRequest {
                    key: format!("{key}/{end}").into(),
                    value: value.clone().into(),
                    ..Default::default()
                })),
            };
            let request = TxnRequest {
                success: vec![put("a"), put("b")],
                ..Default::default()
            };
            let result = kv.txn(request).await.map(|r| r.into_inner().header);
            note(&shared, &mut ledger, history, result.ok().flatten()).await;
        }
    }
    ledger.pairs = keys;
    ledger
}

/// Enters an answer, or the lack of one, into a key's history.
async fn note(
    shared: &Shared,
    ledger: &mut WriterLedger,
    history: &mut KeyHistory,
    header: Option<api::etcdserverpb::ResponseHeader>,
) {
    let Some(header) = header else {
        tokio::time::sleep(PAUSE).await;
        return;
    };
    if history.sent_delete {
        history.deleted = true;
        // A delete keeps the number it was sent with, so that an older value that comes back is seen.
        history.acknowledged = Some((history.sent, header.revision));
    } else {
        history.deleted = false;
        history.acknowledged = Some((history.sent, header.revision));
    }
    shared.show(header.revision);
    shared.acknowledged.fetch_add(1, Ordering::Relaxed);
    ledger.writes += 1;
    ledger.highest = ledger.highest.max(header.revision);
}

/// Reads, linearizable and serializable in turn. A linearizable read may not show less than what was
/// known when it was sent.
async fn read(shared: Shared) -> WriterLedger {
    let mut ledger = WriterLedger::default();
    let mut kv = shared.clients.kv.clone();
    let mut serializable = false;
    while !shared.stopped() {
        serializable = !serializable;
        let before = shared.highest.load(Ordering::SeqCst);
        let request = RangeRequest {
            key: "load/single/0/".into(),
            range_end: "load/single/00".into(),
            serializable,
            ..Default::default()
        };
        let Ok(response) = kv.range(request).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let revision = response
            .into_inner()
            .header
            .map_or(0, |header| header.revision);
        if !serializable && revision < before {
            ledger.broken.push(format!(
                "a read at revision {revision} after {before} was known"
            ));
        }
        ledger.highest = ledger.highest.max(revision);
        shared.show(revision);
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(acknowledged: Option<(u64, i64)>, sent: u64) -> KeyHistory {
        KeyHistory {
            acknowledged,
            sent,
            ..Default::default()
        }
    }

    #[test]
    fn a_lost_or_older_or_moved_value_is_noticed() {
        let mut known = history(Some((5, 50)), 5);
        assert!(settle("k", &mut known.clone(), None).is_some());
        assert!(settle("k", &mut known.clone(), Some((4, 40))).is_some());
        assert!(settle("k", &mut known.clone(), Some((5, 51))).is_some());
        assert!(settle("k", &mut known.clone(), Some((6, 60))).is_some());
        assert!(settle("k", &mut known, Some((5, 50))).is_none());
    }

    #[test]
    fn a_write_without_an_answer_may_or_may_not_have_happened() {
        let mut known = history(Some((5, 50)), 6);
        assert!(settle("k", &mut known.clone(), Some((5, 50))).is_none());
        assert!(settle("k", &mut known, Some((6, 60))).is_none());
        assert_eq!(known.acknowledged, Some((6, 60)));
        assert!(settle("k", &mut known, Some((5, 50))).is_some());
    }

    #[test]
    fn an_acknowledged_delete_must_not_come_back() {
        let mut known = KeyHistory {
            acknowledged: Some((7, 70)),
            deleted: true,
            sent: 7,
            sent_delete: true,
        };
        assert!(settle("k", &mut known.clone(), Some((6, 60))).is_some());
        assert!(settle("k", &mut known, None).is_none());
    }
}

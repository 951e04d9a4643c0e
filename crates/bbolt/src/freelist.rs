use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::format::{PageId, TxId};

/// Consecutive pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: PageId,
    pub(crate) len: u64,
}

impl Span {
    pub(crate) fn end(self) -> PageId {
        self.start + self.len
    }
}

/// Pages that are not part of the current state: free ones, and pending ones that a reader of an older
/// state may still need.
#[derive(Debug, Default)]
pub(crate) struct Freelist {
    by_start: BTreeMap<PageId, u64>,
    by_len: BTreeSet<(u64, PageId)>,
    /// The span that single pages are taken from, so that a commit's pages lie side by side.
    active: Option<Span>,
    free_pages: u64,
    pending: Vec<Pending>,
    pending_pages: u64,
    /// Which transaction allocated a span, by its first page; only for spans that some reader is too old
    /// to see.
    allocated: HashMap<PageId, TxId>,
    newest_allocated: TxId,
}

/// What one transaction freed.
#[derive(Debug)]
struct Pending {
    txid: TxId,
    spans: Vec<(Span, TxId)>,
    /// Not yet compared with the readers.
    fresh: bool,
}

/// How many readers are open at each state.
pub(crate) type Readers = BTreeMap<TxId, usize>;

impl Freelist {
    pub(crate) fn free_pages(&self) -> u64 {
        self.free_pages
    }

    pub(crate) fn pending_pages(&self) -> u64 {
        self.pending_pages
    }

    /// Adds pages that nobody uses.
    pub(crate) fn insert(&mut self, span: Span) {
        self.free_pages += span.len;
        self.merge_in(span);
    }

    fn merge_in(&mut self, mut span: Span) {
        if let Some((&start, &len)) = self.by_start.range(..span.start).next_back()
            && start + len == span.start
        {
            self.remove(Span { start, len });
            span = Span {
                start,
                len: len + span.len,
            };
        }
        if let Some(&len) = self.by_start.get(&span.end()) {
            self.remove(Span {
                start: span.end(),
                len,
            });
            span.len += len;
        }
        self.by_start.insert(span.start, span.len);
        self.by_len.insert((span.len, span.start));
    }

    fn remove(&mut self, span: Span) {
        self.by_start.remove(&span.start);
        self.by_len.remove(&(span.len, span.start));
    }

    /// Takes `len` consecutive pages: from the span in use if it is long enough, else for one page the
    /// first free one, for more the shortest span that suffices.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<PageId> {
        if let Some(active) = self.active
            && active.len >= len
        {
            self.free_pages -= len;
            let rest = Span {
                start: active.start + len,
                len: active.len - len,
            };
            self.active = (rest.len > 0).then_some(rest);
            return Some(active.start);
        }
        let found = if len == 1 {
            self.by_start
                .iter()
                .next()
                .map(|(&start, &len)| Span { start, len })
        } else {
            self.by_len
                .range((len, 0)..)
                .next()
                .map(|&(len, start)| Span { start, len })
        }?;
        self.remove(found);
        if let Some(active) = self.active.take() {
            self.merge_in(active);
        }
        self.free_pages -= len;
        let rest = Span {
            start: found.start + len,
            len: found.len - len,
        };
        self.active = (rest.len > 0).then_some(rest);
        Some(found.start)
    }

    /// Puts the span in use back; to be called at the end of a commit.
    pub(crate) fn settle(&mut self) {
        if let Some(active) = self.active.take() {
            self.merge_in(active);
        }
    }

    /// Takes note of a committed transaction: what it allocated and freed. `readers` are those open now.
    pub(crate) fn commit(&mut self, txid: TxId, took: &[Span], freed: &[Span], readers: &Readers) {
        let mut spans = Vec::with_capacity(freed.len());
        for span in freed {
            self.pending_pages += span.len;
            spans.push((*span, self.allocated.remove(&span.start).unwrap_or(0)));
        }
        if !spans.is_empty() {
            self.pending.push(Pending {
                txid,
                spans,
                fresh: true,
            });
        }
        // Only a reader that is open now can be older than what was just allocated.
        if readers.range(..txid).next().is_some() {
            self.newest_allocated = txid;
            self.allocated
                .extend(took.iter().map(|span| (span.start, txid)));
        }
    }

    /// Frees what no reader can see: a span is seen by the readers from the transaction that allocated
    /// it to the one before it was freed. `closed` is the oldest state whose last reader has gone since
    /// the last call.
    pub(crate) fn release(&mut self, readers: &Readers, closed: Option<TxId>) {
        let oldest = readers.keys().next().copied().unwrap_or(TxId::MAX);
        if oldest >= self.newest_allocated {
            self.allocated.clear();
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain_mut(|entry| {
            let changed = closed.is_some_and(|closed| closed < entry.txid);
            if std::mem::take(&mut entry.fresh) || changed {
                entry.spans.retain(|(span, allocated)| {
                    let seen = oldest < entry.txid
                        && readers.range(*allocated..entry.txid).next().is_some();
                    if !seen {
                        self.pending_pages -= span.len;
                        self.insert(*span);
                    }
                    seen
                });
            }
            !entry.spans.is_empty()
        });
        self.pending = pending;
    }

    /// Free and pending pages, ascending: what a persisted list contains.
    pub(crate) fn all(&self) -> Vec<PageId> {
        let free = self
            .by_start
            .iter()
            .map(|(&start, &len)| Span { start, len });
        let pending = self
            .pending
            .iter()
            .flat_map(|p| p.spans.iter().map(|(span, _)| *span));
        let mut ids: Vec<PageId> = free
            .chain(self.active)
            .chain(pending)
            .flat_map(|span| span.start..span.end())
            .collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: PageId, len: u64) -> Span {
        Span { start, len }
    }

    fn readers(txids: &[TxId]) -> Readers {
        txids.iter().map(|t| (*t, 1)).collect()
    }

    #[test]
    fn neighbours_are_joined_and_runs_found() {
        let mut list = Freelist::default();
        for start in [10, 12, 11, 20, 30, 31] {
            list.insert(span(start, 1));
        }
        assert_eq!(list.all(), [10, 11, 12, 20, 30, 31]);
        assert_eq!(list.allocate(4), None);
        assert_eq!(list.allocate(2), Some(30));
        assert_eq!(list.allocate(1), Some(10));
        assert_eq!(list.allocate(2), Some(11));
        assert_eq!(list.allocate(1), Some(20));
        assert_eq!(list.allocate(1), None);
        list.insert(span(10, 5));
        assert_eq!(list.allocate(1), Some(10));
        list.settle();
        assert_eq!((list.all(), list.free_pages()), (vec![11, 12, 13, 14], 4));
    }

    #[test]
    fn pages_stay_while_a_reader_can_see_them() {
        let mut list = Freelist::default();
        list.commit(5, &[], &[span(10, 2)], &readers(&[4]));
        list.release(&readers(&[4]), None);
        assert_eq!((list.free_pages(), list.pending_pages()), (0, 2));
        // A reader of the state that freed them does not see them.
        list.release(&readers(&[5]), Some(4));
        assert_eq!((list.free_pages(), list.pending_pages()), (2, 0));
    }

    #[test]
    fn pages_that_came_and_went_between_readers_are_reused() {
        let mut list = Freelist::default();
        list.commit(5, &[span(10, 1)], &[span(3, 1)], &readers(&[4]));
        list.release(&readers(&[4]), None);
        list.commit(6, &[span(11, 1)], &[span(10, 1)], &readers(&[4]));
        list.release(&readers(&[4]), None);
        // Page 10 was born at 5 and freed at 6; the only reader is at 4. Page 3 is what it reads.
        assert_eq!((list.free_pages(), list.pending_pages()), (1, 1));
        list.release(&readers(&[]), Some(4));
        assert_eq!((list.free_pages(), list.pending_pages()), (2, 0));
    }
}

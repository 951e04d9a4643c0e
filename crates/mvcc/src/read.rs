//! Range reads.

use std::ops::ControlFlow;

use backend::Backend;

use crate::index::Counter;
use crate::pins::Pin;
use crate::rows::{self, Row};
use crate::span::{Keys, Span};
use crate::state::State;
use crate::{Error, RangeOptions, RangeResult, Store};

/// Entries looked at per hold of the index lock.
const STEP: usize = 256;

/// A list in progress: what the steps have in common.
struct List<'r> {
    span: Span<'r>,
    at: i64,
    options: &'r RangeOptions,
    rows: Vec<Row>,
    /// Where the next step starts.
    next: Option<Vec<u8>>,
}

impl Store {
    /// The pairs of a range of keys. An empty `end` means the key itself, `\0` everything from `key` on; otherwise
    /// the range ends before `end`.
    ///
    /// Fails with [`Error::Compacted`] or [`Error::FutureRev`] if the revision asked for cannot be read.
    pub fn range(
        &self,
        key: &[u8],
        end: &[u8],
        options: &RangeOptions,
    ) -> Result<RangeResult, Error> {
        match Keys::new(key, end) {
            Keys::One(key) => self.range_one(key, options),
            Keys::Span(span) => self.range_span(span, options),
        }
    }

    fn range_one(&self, key: &[u8], options: &RangeOptions) -> Result<RangeResult, Error> {
        let state = self.read();
        let at = state.resolve(options.revision)?;
        let revision = state.current;
        let row = state
            .tree
            .get(key)
            .and_then(|entry| Row::of(entry, at, options.needs_no_records()));
        let count = i64::from(row.is_some());
        let Some(row) = row.filter(|_| !options.count_only) else {
            return Ok(RangeResult {
                revision,
                count,
                ..RangeResult::default()
            });
        };
        // The usual case, a value in memory, is over here.
        let pin = row.kv.is_none().then(|| self.pins.pin(at));
        let backend = pin.is_some().then(|| state.backend.clone());
        drop(state);
        let mut load = |rows: &mut [Row]| self.load(backend.as_deref(), rows);
        let (kvs, more) = rows::settle(vec![row], options, &mut load)?;
        drop(pin);
        Ok(RangeResult {
            revision,
            kvs,
            count,
            more,
        })
    }

    fn range_span(&self, span: Span<'_>, options: &RangeOptions) -> Result<RangeResult, Error> {
        loop {
            // Once more if a snapshot from the leader came in between.
            if let Some(result) = self.try_span(span, options)? {
                return Ok(result);
            }
        }
    }

    /// `None` if the content was replaced while the read was under way.
    fn try_span(
        &self,
        span: Span<'_>,
        options: &RangeOptions,
    ) -> Result<Option<RangeResult>, Error> {
        let state = self.read();
        let epoch = state.epoch;
        let at = state.resolve(options.revision)?;
        let revision = state.current;
        let mut counter = Counter {
            span,
            at,
            count: 0,
            budget: STEP,
            resume: None,
        };
        state.tree.count(&mut counter);
        let mut list = List {
            span,
            at,
            options,
            rows: Vec::new(),
            next: None,
        };
        if !options.count_only {
            list.rows
                .reserve(options.read_limit().min(counter.count).min(STEP));
            list.step(&state, span);
        }
        let complete = counter.resume.is_none() && list.next.is_none();
        let in_memory = list.rows.iter().all(|row| row.kv.is_some());
        let pin = (!complete || !in_memory).then(|| self.pins.pin(at));
        let backend = (!complete || !in_memory).then(|| state.backend.clone());
        drop(state);
        if !self.finish_count(&mut counter, epoch) || !self.finish_list(&mut list, epoch) {
            return Ok(None);
        }
        let List { rows, .. } = list;
        let mut load = |rows: &mut [Row]| self.load(backend.as_deref(), rows);
        let (kvs, more) = rows::settle(rows, options, &mut load)?;
        drop::<Option<Pin<'_>>>(pin);
        Ok(Some(RangeResult {
            revision,
            kvs,
            count: counter.count as i64,
            more,
        }))
    }

    /// Goes on counting, letting others in between steps. The caller has pinned the revision. `false` if the content
    /// was replaced.
    fn finish_count(&self, counter: &mut Counter<'_>, epoch: u64) -> bool {
        let end = counter.span.end;
        while let Some(start) = counter.resume.take() {
            let span = Span { start: &start, end };
            let mut rest = Counter {
                span,
                at: counter.at,
                count: 0,
                budget: STEP,
                resume: None,
            };
            let state = self.read();
            if state.epoch != epoch {
                return false;
            }
            state.tree.count(&mut rest);
            counter.count += rest.count;
            counter.resume = rest.resume;
        }
        true
    }

    /// The same for the list.
    fn finish_list(&self, list: &mut List<'_>, epoch: u64) -> bool {
        while let Some(start) = list.next.take() {
            let span = Span {
                start: &start,
                end: list.span.end,
            };
            let state = self.read();
            if state.epoch != epoch {
                return false;
            }
            list.step(&state, span);
        }
        true
    }

    /// Reads what is missing, and offers the newest values to the cache.
    fn load(&self, backend: Option<&Backend>, rows: &mut [Row]) -> Result<(), Error> {
        let Some(backend) = backend else {
            return Ok(());
        };
        let loaded = rows::load(backend, rows)?;
        for part in loaded.chunks(STEP) {
            // Never at the price of waiting.
            let Some(mut state) = self.try_write() else {
                continue;
            };
            for row in part.iter().map(|i| &rows[*i]) {
                if let Some(kv) = row
                    .kv
                    .as_ref()
                    .filter(|_| state.cache.bytes < state.cache.budget)
                {
                    state.admit(kv.key_slice(), row.meta.modified, kv);
                }
            }
        }
        Ok(())
    }
}

impl List<'_> {
    /// Collects rows under the lock, as many as one step allows.
    fn step(&mut self, state: &State, span: Span<'_>) {
        let limit = self.options.read_limit();
        let (at, from_index) = (self.at, self.options.needs_no_records());
        let mut budget = STEP;
        let _ = state.tree.visit(span, &mut |entry| {
            if self.rows.len() >= limit {
                return ControlFlow::Break(());
            }
            if budget == 0 {
                self.next = Some(entry.key().to_vec());
                return ControlFlow::Break(());
            }
            budget -= 1;
            self.rows.extend(Row::of(entry, at, from_index));
            ControlFlow::Continue(())
        });
    }
}

impl Store {
    /// Counts the keys of a span at a revision that the caller has pinned or that cannot be compacted meanwhile.
    pub(crate) fn count_at(&self, span: Span<'_>, at: i64) -> usize {
        let mut counter = Counter {
            span,
            at,
            count: 0,
            budget: STEP,
            resume: None,
        };
        let state = self.read();
        let epoch = state.epoch;
        state.tree.count(&mut counter);
        drop(state);
        // Only the applying thread asks, and nobody else replaces the content.
        self.finish_count(&mut counter, epoch);
        counter.count
    }

    /// Visits the keys of a span that exist at a revision the caller knows to be safe from compaction, in steps;
    /// the rows are those of [`Row::of`].
    pub(crate) fn each_at(
        &self,
        span: Span<'_>,
        at: i64,
        from_index: bool,
        visit: &mut dyn FnMut(&[u8], Row) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut next = Some(span.start.to_vec());
        while let Some(start) = next.take() {
            let mut budget = STEP;
            let state = self.read();
            let mut found: Vec<(Vec<u8>, Row)> = Vec::new();
            let _ = state.tree.visit(
                Span {
                    start: &start,
                    end: span.end,
                },
                &mut |entry| {
                    if budget == 0 {
                        next = Some(entry.key().to_vec());
                        return ControlFlow::Break(());
                    }
                    budget -= 1;
                    found.extend(
                        Row::of(entry, at, from_index).map(|row| (entry.key().to_vec(), row)),
                    );
                    ControlFlow::Continue(())
                },
            );
            drop(state);
            for (key, row) in found {
                visit(&key, row)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The row of one key at a revision, for the applying thread.
    pub(crate) fn row_at(&self, key: &[u8], at: i64) -> Option<Row> {
        self.read()
            .tree
            .get(key)
            .and_then(|entry| Row::of(entry, at, false))
    }
}

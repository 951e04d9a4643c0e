//! The tree against a sorted map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::{Counter, Entry, Tree};
use crate::Revision;
use crate::span::Span;

/// Keys with all their changes; `true` is a put.
type Model = BTreeMap<Vec<u8>, Vec<(i64, bool)>>;

fn live_at(changes: &[(i64, bool)], at: i64) -> bool {
    changes
        .iter()
        .rev()
        .find(|(main, _)| *main <= at)
        .is_some_and(|(_, put)| *put)
}

fn apply(tree: &mut Tree, model: &mut Model, key: &[u8], main: i64, put: bool) {
    let known = model
        .get(key)
        .is_some_and(|changes| live_at(changes, i64::MAX));
    if !put && !known {
        return;
    }
    let revision = Revision::new(main, 0);
    tree.upsert(key, &mut |entry| match entry {
        Some(entry) if put => {
            entry.put(revision);
            None
        }
        Some(entry) => {
            assert!(entry.tombstone(revision));
            None
        }
        None => Some(Entry::new(key, revision)),
    });
    model.entry(key.to_vec()).or_default().push((main, put));
}

fn count(tree: &Tree, span: Span<'_>, at: i64, budget: usize) -> usize {
    let mut total = 0;
    let mut start = span.start.to_vec();
    loop {
        let span = Span {
            start: &start,
            end: span.end,
        };
        let mut counter = Counter {
            span,
            at,
            count: 0,
            budget,
            resume: None,
        };
        tree.count(&mut counter);
        total += counter.count;
        match counter.resume {
            Some(next) => start = next.into(),
            None => return total,
        }
    }
}

fn keys_at(tree: &Tree, span: Span<'_>, at: i64) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let _ = tree.visit(span, &mut |entry| {
        if entry.at(at).is_some() {
            keys.push(entry.key().to_vec());
        }
        ControlFlow::Continue(())
    });
    keys
}

fn check(tree: &Tree, model: &Model, at: i64) {
    let spans: [(&[u8], Option<&[u8]>); 6] = [
        (b"", None),
        (b"", Some(b"\x80")),
        (b"\x20", Some(b"\xc0")),
        (b"\x20\x10", None),
        (b"\x80", Some(b"\x80")),
        (b"\x81", Some(b"\x80")),
    ];
    for (start, end) in spans {
        let span = Span { start, end };
        let inside = |key: &&Vec<u8>| key[..] >= *start && end.is_none_or(|end| key[..] < *end);
        let expected: Vec<_> = model
            .iter()
            .filter(|(_, changes)| live_at(changes, at))
            .map(|(key, _)| key)
            .filter(inside)
            .collect();
        assert_eq!(keys_at(tree, span, at).iter().collect::<Vec<_>>(), expected);
        assert_eq!(count(tree, span, at, 7), expected.len());
    }
    let live = model
        .values()
        .filter(|changes| live_at(changes, i64::MAX))
        .count();
    assert_eq!(tree.live(), live);
    for (key, changes) in model {
        assert_eq!(
            tree.get(key).is_some_and(|entry| entry.at(at).is_some()),
            live_at(changes, at)
        );
    }
}

/// What a compaction leaves, in both.
fn compact(tree: &mut Tree, model: &mut Model, at: i64) {
    let mut next = Some(Box::default());
    while let Some(from) = next {
        next = tree.sweep_leaf(&from, &mut |entry| entry.compact(at).1);
    }
    for changes in model.values_mut() {
        let newest = changes
            .iter()
            .rposition(|(main, _)| *main <= at)
            .unwrap_or(0);
        changes.drain(..newest);
        if changes
            .first()
            .is_some_and(|(main, put)| !put && *main < at)
        {
            changes.remove(0);
        }
    }
    model.retain(|_, changes| !changes.is_empty());
}

fn keys() -> impl Strategy<Value = Vec<(u16, bool)>> {
    proptest::collection::vec(
        (
            any::<u16>().prop_map(|k| k % 1500),
            prop::bool::weighted(0.7),
        ),
        1..3000,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_counts_and_lists_like_a_map(changes in keys(), compactions in proptest::collection::vec(0..3000_i64, 0..4), bulk: bool) {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        if bulk {
            let sorted = (500..1000_u16).map(|k| k.wrapping_mul(40).to_be_bytes()).collect::<std::collections::BTreeSet<_>>();
            tree = Tree::from_sorted(sorted.iter().map(|key| Entry::new(key, Revision::new(1, 0))));
            model = sorted.iter().map(|key| (key.to_vec(), vec![(1, true)])).collect();
        }
        for (i, (key, put)) in changes.iter().enumerate() {
            apply(&mut tree, &mut model, &key.wrapping_mul(40).to_be_bytes(), i as i64 + 2, *put);
        }
        let last = changes.len() as i64 + 1;
        check(&tree, &model, last);
        check(&tree, &model, last / 2);
        let mut compacted = 0;
        for at in compactions {
            compacted = at.min(last).max(compacted);
            compact(&mut tree, &mut model, compacted);
            check(&tree, &model, last);
            check(&tree, &model, compacted);
            check(&tree, &model, i64::midpoint(compacted, last));
        }
    }
}

#[test]
fn keys_in_order_fill_the_leaves() {
    let (mut tree, mut model) = (Tree::default(), Model::new());
    for i in 0..10_000_u32 {
        apply(
            &mut tree,
            &mut model,
            &i.to_be_bytes(),
            i64::from(i) + 2,
            true,
        );
    }
    assert_eq!(tree.live(), 10_000);
    assert_eq!(
        count(
            &tree,
            Span {
                start: &5000_u32.to_be_bytes(),
                end: None
            },
            i64::MAX,
            64
        ),
        5000
    );
}

#[test]
fn an_emptied_tree_can_be_filled_again() {
    let (mut tree, mut model) = (Tree::default(), Model::new());
    for i in 0..1000_u32 {
        apply(&mut tree, &mut model, &i.to_be_bytes(), 2, true);
        apply(&mut tree, &mut model, &i.to_be_bytes(), 3, false);
    }
    compact(&mut tree, &mut model, 4);
    assert!(model.is_empty() && tree.live() == 0);
    assert_eq!(
        keys_at(
            &tree,
            Span {
                start: b"",
                end: None
            },
            i64::MAX
        ),
        Vec::<Vec<u8>>::new()
    );
    apply(&mut tree, &mut model, b"again", 5, true);
    check(&tree, &model, 5);
}

/// At the present revision a count touches the ends of the range only, however many keys lie between.
#[test]
fn counting_at_the_present_revision_looks_at_few_entries() {
    let (mut tree, mut model) = (Tree::default(), Model::new());
    for i in 0..50_000_u32 {
        apply(
            &mut tree,
            &mut model,
            &i.wrapping_mul(2_654_435_761).to_be_bytes(),
            i64::from(i) + 2,
            true,
        );
    }
    let span = Span {
        start: b"\x10",
        end: Some(b"\xf0"),
    };
    let mut counter = Counter {
        span,
        at: i64::MAX,
        count: 0,
        budget: 1000,
        resume: None,
    };
    tree.count(&mut counter);
    assert!(counter.resume.is_none());
    assert!(1000 - counter.budget <= 128, "{}", counter.budget);
    assert!(counter.count > 40_000);
}

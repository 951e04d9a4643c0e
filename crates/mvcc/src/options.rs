//! What a range read can ask for, and what it gets.

use api::RawKv;

/// In which order a range read returns its pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// None asked for: by key, or ascending by the target if that is not the key.
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// By what a range read sorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// Number of puts since the key came to life.
    Version,
    /// Revision in which the key came to life.
    Create,
    /// Revision of the last change.
    Mod,
    /// The value.
    Value,
}

/// What a range read asks for; the default is everything at the present revision.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeOptions {
    /// At most so many pairs; 0 and less mean all.
    pub limit: i64,
    /// State after this revision; 0 and less mean the present one.
    pub revision: i64,
    /// Order of the result.
    pub sort_order: SortOrder,
    /// What the order is about.
    pub sort_target: SortTarget,
    /// Leave values out. Leases, too, unless sorted by value, as etcd 3.7 does.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Lowest revision of the last change; 0 means any.
    pub min_mod_revision: i64,
    /// Highest revision of the last change; 0 means any.
    pub max_mod_revision: i64,
    /// Lowest revision in which the key came to life; 0 means any.
    pub min_create_revision: i64,
    /// Highest revision in which the key came to life; 0 means any.
    pub max_create_revision: i64,
}

impl RangeOptions {
    pub(crate) fn has_filters(&self) -> bool {
        let filters = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        filters.iter().any(|revision| *revision != 0)
    }

    /// Whether pairs are wanted in key order, so that reading can stop at the limit. This also holds for a target
    /// other than the key without an order: etcd cuts first and sorts what is left.
    pub(crate) fn cuts_in_key_order(&self) -> bool {
        let by_key = match self.sort_order {
            SortOrder::None => true,
            SortOrder::Ascend => self.sort_target == SortTarget::Key,
            SortOrder::Descend => false,
        };
        by_key && !self.has_filters()
    }

    /// How many pairs have to be read: one more than asked for tells whether there are more.
    pub(crate) fn read_limit(&self) -> usize {
        if self.limit > 0 && self.cuts_in_key_order() {
            usize::try_from(self.limit)
                .unwrap_or(usize::MAX)
                .saturating_add(1)
        } else {
            usize::MAX
        }
    }

    /// Whether results carry no value and need not be loaded for anything else.
    pub(crate) fn needs_no_records(&self) -> bool {
        self.keys_only && self.sort_target != SortTarget::Value
    }
}

/// What a range read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The store's revision at the time of the read, whatever revision was asked for.
    pub revision: i64,
    /// The pairs.
    pub kvs: Vec<RawKv>,
    /// Number of keys in the range at the revision asked for, before limit and filters.
    pub count: i64,
    /// Whether the limit cut something off.
    pub more: bool,
}

//! Who belongs to the cluster and at which version it works.
//!
//! Everything here is decided by the log alone: conf changes, member attributes, cluster version and
//! downgrade jobs. The types are plain values; the apply thread owns the [`Membership`] and hands
//! copies of it to readers.
//!
//! Architecture invariant: no network, no clock, no threads, no gRPC. Records are written through the
//! small [`Records`] trait, names are resolved by a function the caller passes in.
//!
//! The rules are described in `docs/membership.md`.

mod bootstrap;
mod change;
mod conf_state;
mod downgrade;
mod error;
mod id;
mod initial;
mod json;
mod legacy;
mod member;
mod membership;
mod records;
mod requests;
mod storage;
mod strict;
mod v2store;
mod version;

pub use bootstrap::{Bootstrap, bootstrap};
pub use change::{Change, ConfChangeContext, Effect};
pub use conf_state::conf_state_json;
pub use downgrade::{Downgrade, DowngradeError, check_downgrade_target, downgrade_finished};
pub use error::{Error, FatalError};
pub use id::{cluster_id, is_valid_member_id, member_id};
pub use initial::{InitialCluster, InitialClusterError, SameUrls, adopt_existing};
pub use legacy::{LegacyRequest, is_legacy_entry};
pub use member::Member;
pub use membership::{AttributesOutcome, Membership, Settings, VersionChange};
pub use records::{Persist, Records, Source, SourceError};
pub use requests::{downgrade_request, publish_request, version_request};
pub use storage::{
    MetaChange, StorageVersionError, check_storage_version, detect_storage_version,
    plan_storage_migration, wal_version,
};
pub use strict::{Link, Reconfiguration, check_promotable, check_strict, is_learner_ready};
pub use v2store::{V2Membership, V2StoreError, parse_v2_store, v2_store_json};
pub use version::{
    Version, VersionDecision, VersionError, compatible_with_cluster, decide_cluster_version,
    min_member_version,
};

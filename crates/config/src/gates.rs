use std::collections::BTreeMap;
use std::fmt;

use gotext::quote;

use crate::kind::parse_bool;

/// How far a feature has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// May change or go.
    Alpha,
    /// Well tested.
    Beta,
}

impl Stage {
    /// As metrics show it: `ALPHA`, `BETA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }
}

/// A feature that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// The leader compares the hashes that members keep of each compaction.
    CompactHashCheck,
    /// A lease is renewed without waiting for the log when it is known here.
    FastLeaseKeepAlive,
    /// Compares hashes with other members before serving.
    InitialCorruptCheck,
    /// The leader replicates remaining times to live.
    LeaseCheckpoint,
    /// Remaining times to live are also stored.
    LeaseCheckpointPersist,
    /// Lease revokes are accepted longer than other requests when apply lags.
    PriorityRequest,
    /// Connections to peers come from an advertised address.
    SetMemberLocalAddr,
    /// The gRPC health service says no while the database is rewritten.
    StopGrpcServiceOnDefrag,
    /// Checks in write transactions read through the shared buffer.
    TxnModeWriteWithSharedBuffer,
}

/// Name, stage and default of every gate, in the order of the names.
pub const FEATURES: [(Feature, &str, Stage, bool); 9] = [
    (
        Feature::CompactHashCheck,
        "CompactHashCheck",
        Stage::Alpha,
        false,
    ),
    (
        Feature::FastLeaseKeepAlive,
        "FastLeaseKeepAlive",
        Stage::Beta,
        true,
    ),
    (
        Feature::InitialCorruptCheck,
        "InitialCorruptCheck",
        Stage::Alpha,
        false,
    ),
    (
        Feature::LeaseCheckpoint,
        "LeaseCheckpoint",
        Stage::Alpha,
        false,
    ),
    (
        Feature::LeaseCheckpointPersist,
        "LeaseCheckpointPersist",
        Stage::Alpha,
        false,
    ),
    (
        Feature::PriorityRequest,
        "PriorityRequest",
        Stage::Alpha,
        false,
    ),
    (
        Feature::SetMemberLocalAddr,
        "SetMemberLocalAddr",
        Stage::Alpha,
        false,
    ),
    (
        Feature::StopGrpcServiceOnDefrag,
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        false,
    ),
    (
        Feature::TxnModeWriteWithSharedBuffer,
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        true,
    ),
];

const GROUPS: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// Which features are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    /// What is not at its default, groups included.
    set: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Whether a feature is on.
    pub fn is_enabled(&self, feature: Feature) -> bool {
        self.all().any(|(f, _, _, enabled)| f == feature && enabled)
    }

    /// Every feature with its name, its stage and whether it is on.
    pub fn all(&self) -> impl Iterator<Item = (Feature, &'static str, Stage, bool)> + '_ {
        FEATURES.into_iter().map(|(feature, name, stage, default)| {
            (
                feature,
                name,
                stage,
                self.set.get(name).copied().unwrap_or(default),
            )
        })
    }

    /// Reads `Name=bool,…` and adds it. A group (`AllAlpha`) sets all features of its stage that the
    /// same text does not name.
    pub(crate) fn set(&mut self, text: &str) -> Result<(), String> {
        let mut named: BTreeMap<&'static str, bool> = BTreeMap::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (name, value) = item
                .split_once('=')
                .map_or((item, None), |(n, v)| (n, Some(v)));
            let (name, value) = (name.trim(), value.map(str::trim));
            let value = value.ok_or_else(|| format!("missing bool value for {name}"))?;
            let enabled = parse_bool(value).ok_or_else(|| {
                format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {}: invalid syntax",
                    quote(value)
                )
            })?;
            named.insert(known(name)?, enabled);
        }
        for (group, stage) in GROUPS {
            let Some(&enabled) = named.get(group) else {
                continue;
            };
            for (_, name, ..) in FEATURES.into_iter().filter(|(_, _, s, _)| *s == stage) {
                self.set.insert(name, enabled);
            }
        }
        self.set.extend(named);
        Ok(())
    }
}

fn known(name: &str) -> Result<&'static str, String> {
    let features = FEATURES.into_iter().map(|(_, known, ..)| known);
    features
        .chain(GROUPS.into_iter().map(|(group, _)| group))
        .find(|known| *known == name)
        .ok_or_else(|| format!("unrecognized feature gate: {name}"))
}

impl fmt::Display for FeatureGates {
    /// What was set, as `Name=bool` in the order of the names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.set.iter().map(|(n, on)| format!("{n}={on}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &str) -> Result<FeatureGates, String> {
        let mut gates = FeatureGates::default();
        gates.set(text).map(|()| gates)
    }

    #[test]
    fn names_groups_and_defaults() {
        let plain = gates("").unwrap();
        assert!(plain.is_enabled(Feature::TxnModeWriteWithSharedBuffer));
        assert!(!plain.is_enabled(Feature::LeaseCheckpoint));
        let alpha = gates("LeaseCheckpoint=f, AllAlpha=true").unwrap();
        assert!(alpha.is_enabled(Feature::PriorityRequest));
        assert!(!alpha.is_enabled(Feature::LeaseCheckpoint));
        assert!(
            !gates("AllBeta=0")
                .unwrap()
                .is_enabled(Feature::FastLeaseKeepAlive)
        );
        assert_eq!(
            gates("LeaseCheckpoint=1").unwrap().to_string(),
            "LeaseCheckpoint=true"
        );
    }

    #[test]
    fn mistakes_have_etcds_texts() {
        for (text, want) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("AllAlpha", "missing bool value for AllAlpha"),
            (
                "AllAlpha=maybe",
                "invalid value of AllAlpha=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(gates(text).unwrap_err(), want);
        }
    }
}

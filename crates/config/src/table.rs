//! Every option, once.

mod cluster;
mod member;
mod observe;
mod security;

use crate::{FileKey, Flag, Kind, Section};

/// All options in the order of the help.
pub fn flags() -> impl Iterator<Item = &'static Flag> + Clone {
    member::FLAGS
        .iter()
        .chain(cluster::FLAGS)
        .chain(security::FLAGS)
        .chain(observe::FLAGS)
        .chain(META)
        .chain(IGNORED)
}

/// The option of this name. Options that only a file can set have names of their own, too.
pub fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

static META: &[Flag] = &[
    Flag::new(Section::Hidden, "config-file", Kind::Text, "", "").in_file(FileKey::None),
    Flag::new(Section::Hidden, "version", Kind::Bool, "false", "").in_file(FileKey::None),
];

macro_rules! ignored {
    ($($name:literal)*) => {
        &[$(Flag::new(Section::Hidden, $name, Kind::Ignored, "", "").in_file(FileKey::None)),*]
    };
}

/// Options of long ago. Scripts still pass them.
static IGNORED: &[Flag] = ignored!(
    "cluster-active-size" "cluster-remove-delay" "cluster-sync-interval" "config" "force"
    "max-result-buffer" "max-retry-attempts" "peer-heartbeat-interval" "peer-election-timeout"
    "retry-interval" "snapshot" "v" "vv" "test.coverprofile" "test.outputdir"
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Value;

    #[test]
    fn names_are_unique_and_defaults_valid() {
        let mut names = BTreeSet::new();
        for flag in flags() {
            assert!(names.insert(flag.name), "{}", flag.name);
            let default = flag.kind.default_value(flag.default);
            let ignored = flag.kind == Kind::Ignored;
            assert_eq!(default == Value::Ignored, ignored, "{}", flag.name);
            let listed = !matches!(flag.section, Section::Hidden | Section::FileOnly);
            assert_eq!(listed, !flag.help.is_empty(), "{}", flag.name);
        }
        let options = flags().filter(|f| f.kind != Kind::Ignored && f.section != Section::FileOnly);
        assert_eq!(options.count(), 113);
    }

    #[test]
    fn variables_are_named_after_flags() {
        assert_eq!(
            find("peer-client-cert-auth").unwrap().variable(),
            "ETCD_PEER_CLIENT_CERT_AUTH"
        );
    }
}

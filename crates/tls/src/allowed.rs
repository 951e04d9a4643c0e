//! Which verified clients are let in.

use crate::certificate::Names;
use crate::files::TlsFiles;

/// `--*-cert-allowed-cn`, `--*-cert-allowed-hostname`.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    Everybody,
    CommonNames(Vec<String>),
    Hosts(Vec<String>),
}

impl Allowed {
    pub(crate) fn new(files: &TlsFiles) -> Self {
        if !files.allowed_cn.is_empty() {
            Self::CommonNames(files.allowed_cn.clone())
        } else if !files.allowed_hostname.is_empty() {
            Self::Hosts(files.allowed_hostname.clone())
        } else {
            Self::Everybody
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        !matches!(self, Self::Everybody)
    }

    pub(crate) fn permits(&self, common_name: &str, names: &Names) -> bool {
        match self {
            Self::Everybody => true,
            Self::CommonNames(list) => list.iter().any(|name| name == common_name),
            Self::Hosts(list) => list.iter().any(|host| names.check_host(host).is_ok()),
        }
    }
}

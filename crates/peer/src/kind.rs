//! The two streams between each pair of members.

use std::fmt;

/// Which messages a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StreamKind {
    /// `MsgApp` only.
    MsgApp,
    /// Everything but snapshots.
    Message,
}

impl StreamKind {
    pub const ALL: [Self; 2] = [Self::MsgApp, Self::Message];

    /// Its part of the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::MsgApp => "msgapp",
            Self::Message => "message",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// As etcd's log names it.
impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MsgApp => "stream MsgApp v2",
            Self::Message => "stream Message",
        })
    }
}

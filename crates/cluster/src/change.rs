use api::raftpb::{ConfChange, ConfChangeType};

use crate::json::{bool_field, object};
use crate::{FatalError, Member};

/// The JSON inside a conf change: a member, and whether a learner is meant to become a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChangeContext {
    /// For promotions only its id counts.
    pub member: Member,
    /// Promotes an existing learner instead of adding a member.
    pub is_promote: bool,
}

impl ConfChangeContext {
    /// As etcd writes it; the list of URLs of a promotion is `null`, other contexts have no
    /// `isPromote` key.
    pub fn to_json(&self) -> String {
        if !self.is_promote {
            return self.member.to_json();
        }
        format!(
            "{{\"id\":{},\"peerURLs\":null,\"isPromote\":true}}",
            self.member.id
        )
    }

    /// Reads the JSON of any version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let map = object(bytes)?;
        let is_promote = bool_field(&map, "isPromote")?;
        Ok(Self {
            member: Member::from_map(&map)?,
            is_promote,
        })
    }
}

/// A membership change as the log carries it, decoded but not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member.
    Add {
        /// With its id.
        member: Member,
        /// Whether raft gets it as a learner; only then the limit on learners is looked at.
        as_learner: bool,
    },
    /// A learner gets a vote.
    Promote(u64),
    /// A member leaves for good.
    Remove(u64),
    /// A member changes its peer URLs; nothing else of the record counts.
    Update {
        /// Which one.
        id: u64,
        /// All its URLs from now on.
        peer_urls: Vec<String>,
    },
}

impl Change {
    /// Reads a conf change. What cannot be read was never written by a sane member: fatal.
    pub fn decode(change: &ConfChange) -> Result<Self, FatalError> {
        let kind = ConfChangeType::try_from(change.r#type)
            .map_err(|_| FatalError::BadChangeType(change.r#type))?;
        if kind == ConfChangeType::RemoveNode {
            return Ok(Self::Remove(change.node_id));
        }
        let context =
            ConfChangeContext::from_json(&change.context).map_err(FatalError::BadContext)?;
        if context.member.id != change.node_id {
            return Err(FatalError::DifferentMemberId);
        }
        let id = change.node_id;
        Ok(match kind {
            ConfChangeType::UpdateNode => Self::Update {
                id,
                peer_urls: context.member.peer_urls,
            },
            _ if context.is_promote => Self::Promote(id),
            _ => Self::Add {
                as_learner: kind == ConfChangeType::AddLearnerNode && context.member.is_learner,
                member: context.member,
            },
        })
    }

    /// The conf change to propose under request id `request`.
    pub fn encode(&self, request: u64) -> ConfChange {
        let context =
            |member: Member, is_promote| ConfChangeContext { member, is_promote }.to_json();
        let (kind, node_id, context) = match self {
            Self::Add { member, .. } => (
                if member.is_learner {
                    ConfChangeType::AddLearnerNode
                } else {
                    ConfChangeType::AddNode
                },
                member.id,
                context(member.clone(), false),
            ),
            Self::Promote(id) => (
                ConfChangeType::AddNode,
                *id,
                context(
                    Member {
                        id: *id,
                        ..Member::default()
                    },
                    true,
                ),
            ),
            Self::Remove(id) => (ConfChangeType::RemoveNode, *id, String::new()),
            Self::Update { id, peer_urls } => {
                let member = Member {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                    ..Member::default()
                };
                (ConfChangeType::UpdateNode, *id, context(member, false))
            }
        };
        ConfChange {
            id: request,
            r#type: kind as i32,
            node_id,
            context: context.into(),
        }
    }

    /// The member that is changed.
    pub fn member_id(&self) -> u64 {
        match self {
            Self::Add { member, .. } => member.id,
            Self::Promote(id) | Self::Remove(id) | Self::Update { id, .. } => *id,
        }
    }
}

/// What the connections to other members have to do after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the change is about this member or about no address.
    None,
    /// Connect to a member.
    AddPeer(Member),
    /// Forget a member.
    RemovePeer(u64),
    /// A member has moved.
    UpdatePeer(Member),
    /// This member was removed and must stop.
    RemovedSelf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learner() -> Member {
        Member {
            id: 7,
            peer_urls: vec!["http://a:1".to_owned()],
            is_learner: true,
            ..Member::default()
        }
    }

    #[test]
    fn contexts_are_those_of_etcd() {
        let add = Change::Add {
            member: learner(),
            as_learner: true,
        };
        for (change, kind, context) in [
            (
                add,
                ConfChangeType::AddLearnerNode,
                r#"{"id":7,"peerURLs":["http://a:1"],"isLearner":true}"#,
            ),
            (
                Change::Promote(7),
                ConfChangeType::AddNode,
                r#"{"id":7,"peerURLs":null,"isPromote":true}"#,
            ),
            (Change::Remove(7), ConfChangeType::RemoveNode, ""),
            (
                Change::Update {
                    id: 7,
                    peer_urls: vec!["http://b:1".to_owned()],
                },
                ConfChangeType::UpdateNode,
                r#"{"id":7,"peerURLs":["http://b:1"]}"#,
            ),
        ] {
            let encoded = change.encode(3);
            assert_eq!((encoded.id, encoded.node_id), (3, 7));
            assert_eq!(encoded.r#type, kind as i32);
            assert_eq!(encoded.context, context.as_bytes());
            assert_eq!(Change::decode(&encoded), Ok(change));
        }
    }

    #[test]
    fn damaged_changes_are_fatal_not_a_panic() {
        let change = |kind: i32, context: &'static str| ConfChange {
            id: 1,
            r#type: kind,
            node_id: 7,
            context: context.into(),
        };
        for (kind, context, want) in [
            (
                0,
                r#"{"id":8,"peerURLs":[]}"#,
                FatalError::DifferentMemberId,
            ),
            (9, "{}", FatalError::BadChangeType(9)),
        ] {
            assert_eq!(Change::decode(&change(kind, context)), Err(want));
        }
        assert!(matches!(
            Change::decode(&change(0, "")),
            Err(FatalError::BadContext(_))
        ));
    }
}

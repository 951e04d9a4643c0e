use crate::{Error, Member, Membership};

/// A membership change somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconfiguration {
    /// Add a member with a vote.
    AddVoter,
    /// Add a member without one.
    AddLearner,
    /// Remove this member.
    Remove(u64),
    /// Give this learner a vote.
    Promote(u64),
}

/// How the connection to a member is, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected.
    Down,
    /// Connected, but for less than five seconds.
    Fresh,
    /// Connected for five seconds or longer.
    Stable,
}

/// The rules of `--strict-reconfig-check`: no change may leave the cluster without a quorum of
/// members that run and are connected. `link` is asked about other members only.
pub fn check_strict(
    membership: &Membership,
    what: Reconfiguration,
    link: &dyn Fn(u64) -> Link,
) -> Result<(), api::Error> {
    let voters = membership.voters().count();
    let stable = membership
        .voters()
        .filter(|m| m.id == membership.local_id() || link(m.id) == Link::Stable)
        .count();
    let started = |skip: Option<u64>| {
        membership
            .voters()
            .filter(|m| Some(m.id) != skip && m.is_started())
            .count()
    };
    let enough_started = |started: usize, of: usize| {
        if started >= quorum(of) {
            Ok(())
        } else {
            Err(api::Error::MemberNotEnoughStarted)
        }
    };
    let connected = |ok: bool| {
        if ok {
            Ok(())
        } else {
            Err(api::Error::Unhealthy)
        }
    };
    match what {
        Reconfiguration::AddVoter => {
            let started = started(None);
            // The step from one member to two has no quorum to protect.
            if !(started == 1 && voters == 1) {
                enough_started(started, voters + 1)?;
            }
            connected(voters <= 1 || stable >= quorum(voters + 1))
        }
        Reconfiguration::AddLearner => connected(voters <= 1 || stable >= quorum(voters + 1)),
        Reconfiguration::Remove(id) => {
            if membership.member(id).is_some_and(|m| m.is_learner) {
                return Ok(());
            }
            let remaining = membership.voters().filter(|m| m.id != id).count();
            enough_started(started(Some(id)), remaining)?;
            // Who is down takes nothing from the active quorum.
            let is_down = id != membership.local_id() && link(id) == Link::Down;
            connected(is_down || stable > 1 + voters.saturating_sub(1) / 2)
        }
        Reconfiguration::Promote(_) => enough_started(started(None) + 1, voters + 1),
    }
}

/// Whether a learner's log is close enough to the leader's: at least nine tenths of it.
pub fn is_learner_ready(learner_match: u64, leader_match: u64) -> bool {
    u128::from(learner_match) * 10 >= u128::from(leader_match) * 9
}

/// The checks of a promotion that need no quorum: the member is there and learns.
pub fn check_promotable(member: Option<&Member>) -> Result<(), Error> {
    let member = member.ok_or(Error::IdNotFound)?;
    if member.is_learner {
        Ok(())
    } else {
        Err(Error::NotLearner)
    }
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::Reconfiguration::{AddLearner, AddVoter, Promote, Remove};
    use super::*;
    use crate::records::testing::MapRecords;
    use crate::{Change, Persist, Settings, Version};

    /// Voters 1..=n of which the first `started` run, learner 100.
    fn cluster(n: u64, started: u64) -> Membership {
        let mut membership = Membership::new(Settings {
            local_id: 1,
            cluster_id: 1,
            max_learners: 1,
            server_version: Version::new(3, 7, 0),
        });
        for id in (1..=n).chain([100]) {
            let member = Member {
                id,
                is_learner: id == 100,
                name: if id <= started {
                    format!("m{id}")
                } else {
                    String::new()
                },
                ..Member::default()
            };
            let change = Change::Add {
                member,
                as_learner: id == 100,
            };
            membership.apply(&change, Persist::Backend(&mut MapRecords::default()));
        }
        membership
    }

    #[test]
    fn a_quorum_must_stay_started_and_connected() {
        const STARTED: Result<(), api::Error> = Err(api::Error::MemberNotEnoughStarted);
        const UNHEALTHY: Result<(), api::Error> = Err(api::Error::Unhealthy);
        for (voters, started, stable_up_to, what, want) in [
            (1, 1, 1, AddVoter, Ok(())),
            (1, 1, 1, AddLearner, Ok(())),
            (2, 1, 2, AddVoter, STARTED),
            (3, 3, 3, AddVoter, Ok(())),
            (3, 3, 2, AddVoter, UNHEALTHY),
            (3, 2, 3, AddVoter, STARTED),
            (3, 2, 3, AddLearner, Ok(())),
            (3, 3, 1, AddLearner, UNHEALTHY),
            (1, 1, 1, Remove(1), STARTED),
            (2, 2, 2, Remove(2), Ok(())),
            (2, 1, 1, Remove(2), Ok(())),
            (3, 3, 3, Remove(1), Ok(())),
            (3, 3, 2, Remove(2), UNHEALTHY),
            (3, 3, 2, Remove(3), Ok(())),
            (3, 1, 3, Remove(3), STARTED),
            (3, 1, 1, Remove(100), Ok(())),
            (3, 2, 3, Promote(100), Ok(())),
            (3, 1, 3, Promote(100), STARTED),
        ] {
            let link = |id: u64| {
                if id <= stable_up_to {
                    Link::Stable
                } else {
                    Link::Down
                }
            };
            let got = check_strict(&cluster(voters, started), what, &link);
            assert_eq!(
                got, want,
                "{voters} voters, {started} started, {stable_up_to}: {what:?}"
            );
        }
    }

    #[test]
    fn learners_are_ready_at_nine_tenths() {
        assert!(is_learner_ready(90, 100) && is_learner_ready(0, 0));
        assert!(!is_learner_ready(89, 100));
        assert!(is_learner_ready(u64::MAX, u64::MAX));
    }
}

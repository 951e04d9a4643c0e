//! Clusters of our own members over real connections.

#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use api::raftpb::{ConfChange, ConfChangeType};

use common::{Member, log_for_debugging, start_cluster, until, wait_leader};

fn refs(members: &[Member]) -> Vec<&Member> {
    members.iter().collect()
}

/// All members applied the same, and these numbers are among it.
fn wait_equal(members: &[&Member], numbers: &HashSet<u64>) {
    until("all members applied all proposals", || {
        members.iter().all(|member| {
            let applied: HashSet<u64> = member.state.applied_numbers().into_iter().collect();
            numbers.is_subset(&applied)
        })
    });
    until("all members are equal", || {
        let first = members[0].state.applied_numbers();
        members
            .iter()
            .all(|member| member.state.applied_numbers() == first)
    });
}

#[test]
fn three_members_elect_a_leader_and_replicate_what_any_of_them_gets() {
    log_for_debugging();
    let members = start_cluster(3, |_| {});
    wait_leader(&refs(&members));
    let numbers: HashSet<u64> = (0..3000).collect();
    for number in &numbers {
        members[(number % 3) as usize].propose(*number);
    }
    wait_equal(&refs(&members), &numbers);
    for member in &members {
        assert_eq!(member.transport.active_peers(), 2);
        for other in 1..=3 {
            let active = member.transport.active_since(other).is_some();
            assert_eq!(active, other != member.id);
        }
    }
}

#[test]
fn messages_go_on_when_streams_break() {
    log_for_debugging();
    let members = start_cluster(3, |_| {});
    wait_leader(&refs(&members));
    let mut numbers = HashSet::new();
    for round in 0..40_u64 {
        let victim = &members[(round % 3) as usize];
        for other in 1..=3 {
            victim.transport.disconnect(other);
        }
        // What is lost with the connection is proposed again, as clients would.
        let number = 1000 + round;
        let mut tries = 0;
        until("a proposal is applied", || {
            if tries % 300 == 0 {
                members[0].propose(number);
            }
            tries += 1;
            members[0].state.applied_numbers().contains(&number)
        });
        numbers.insert(number);
    }
    wait_equal(&refs(&members), &numbers);
}

#[test]
fn a_member_that_was_cut_off_gets_the_database() {
    log_for_debugging();
    let members = start_cluster(3, |config| config.catchup_entries = 10);
    let leader = wait_leader(&refs(&members));
    let cut = members.iter().find(|member| member.id != leader).unwrap();
    let rest: Vec<&Member> = members
        .iter()
        .filter(|member| member.id != cut.id)
        .collect();
    for other in &rest {
        other.transport.pause(cut.id);
        cut.transport.pause(other.id);
        // Longer than what fits into the connection's buffers.
        other.state.padding.store(7_000_003, Ordering::Relaxed);
    }
    let leader = rest.iter().find(|member| member.id == leader).unwrap();
    let numbers: HashSet<u64> = (0..1000).collect();
    for number in &numbers {
        leader.propose(*number);
    }
    wait_equal(&rest, &numbers);
    assert!(cut.state.applied_numbers().is_empty());
    for other in &rest {
        other.transport.resume(cut.id);
        cut.transport.resume(other.id);
    }
    wait_equal(&refs(&members), &numbers);
    assert!(!cut.state.files.lock().unwrap().is_empty());
    // What comes later comes as entries again.
    let more: HashSet<u64> = (1000..1100).collect();
    for number in &more {
        cut.propose(*number);
    }
    wait_equal(&refs(&members), &more);
    let sent: Vec<(u64, bool)> = rest
        .iter()
        .flat_map(|member| member.state.snapshots.lock().unwrap().clone())
        .collect();
    assert!(sent.contains(&(cut.id, true)), "{sent:?}");
}

#[test]
fn a_removed_member_is_told_so_and_heard_no_more() {
    log_for_debugging();
    let members = start_cluster(3, |_| {});
    let leader = wait_leader(&refs(&members));
    let gone = members.iter().find(|member| member.id != leader).unwrap();
    let rest: Vec<&Member> = members
        .iter()
        .filter(|member| member.id != gone.id)
        .collect();
    let change = ConfChange {
        id: 1,
        r#type: ConfChangeType::RemoveNode as i32,
        node_id: gone.id,
        ..ConfChange::default()
    };
    rest[0].node.propose_conf_change(change).unwrap();
    until("the others forgot it", || {
        rest.iter()
            .all(|member| !member.transport.peers().contains(&gone.id))
    });
    until("it is told", || {
        gone.state.told_removed.load(Ordering::SeqCst)
    });
    let numbers: HashSet<u64> = (0..10).collect();
    for number in &numbers {
        rest[0].propose(*number);
    }
    wait_equal(&rest, &numbers);
    assert_eq!(rest[0].transport.active_since(gone.id), None);
}

#[test]
fn a_stopped_leader_is_replaced() {
    log_for_debugging();
    let mut members = start_cluster(3, |_| {});
    let old = wait_leader(&refs(&members));
    let at = members.iter().position(|member| member.id == old).unwrap();
    let mut stopped = members.remove(at);
    stopped.stop();
    until("another leads", || {
        let leader = members[0].node.status().leader;
        leader != 0 && leader != old && members[1].node.status().leader == leader
    });
    until("the stopped one is noticed", || {
        members
            .iter()
            .all(|member| member.transport.active_since(old).is_none())
    });
    let numbers: HashSet<u64> = (0..10).collect();
    for number in &numbers {
        members[0].propose(*number);
    }
    wait_equal(&refs(&members), &numbers);
}

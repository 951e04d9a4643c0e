//! Whole clusters of cores in one thread: messages are lost, doubled, late and cut off; disks and state machines lag;
//! members crash and lose what was not synced, hand over leadership, join and leave.
//!
//! A failing seed is run again with `CONSENSUS_SIM_SEED=<n> cargo test -p consensus --test sim`; more seeds than the
//! default with `CONSENSUS_SIM_SEEDS=<count>`.

mod cluster;
mod disk;
mod history;
mod machine;
mod member;
mod rng;

use cluster::{Cluster, Plan};

const CALM: Plan = Plan {
    founders: 3,
    joiners: 0,
    steps: 3000,
    crash: 0,
    partition: 0,
    drop: 0,
    double: 0,
    late: 20,
    disk_stall: 0,
    apply_stall: 0,
    transfer: 0,
    members_change: 0,
    promote: true,
};

const ROUGH: Plan = Plan {
    steps: 6000,
    crash: 250,
    partition: 800,
    drop: 25,
    double: 30,
    late: 8,
    disk_stall: 200,
    apply_stall: 200,
    transfer: 150,
    ..CALM
};

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    if let Some(seed) = number("CONSENSUS_SIM_SEED") {
        return seed..seed + 1;
    }
    0..number("CONSENSUS_SIM_SEEDS").unwrap_or(default)
}

/// Runs the plan with every seed; the seed of a failure is in the output.
fn run(name: &str, plan: Plan, default_seeds: u64) {
    let mut total = (0, 0, 0, 0, 0);
    for seed in seeds(default_seeds) {
        println!("{name}: seed {seed}");
        let mut cluster = Cluster::new(plan, seed);
        cluster.run();
        let history = &cluster.history;
        total.0 += history.acknowledged.len();
        total.1 += history.elections;
        total.2 += history.reads_done;
        total.3 += history.snapshots;
        total.4 += history.reads_alone;
    }
    println!(
        "{name}: {} acknowledged, {} elections, {} reads, {} snapshots, {} reads alone",
        total.0, total.1, total.2, total.3, total.4
    );
}

#[test]
fn a_calm_cluster_makes_progress() {
    run("calm", CALM, 3);
}

#[test]
fn three_members_survive_everything() {
    run("three", ROUGH, 25);
}

#[test]
fn five_members_survive_everything() {
    run(
        "five",
        Plan {
            founders: 5,
            ..ROUGH
        },
        15,
    );
}

#[test]
fn members_come_and_go() {
    run(
        "change",
        Plan {
            joiners: 3,
            members_change: 100,
            ..ROUGH
        },
        25,
    );
}

/// A sole voter wins its election before its vote is on disk. If it told a learner about entries of that term
/// first, a crash could give the same term other entries.
#[test]
fn a_sole_voter_with_learners_never_reuses_a_term() {
    let plan = Plan {
        founders: 1,
        joiners: 2,
        members_change: 60,
        partition: 0,
        crash: 60,
        disk_stall: 25,
        promote: false,
        ..ROUGH
    };
    run("sole voter", plan, 25);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut cluster = Cluster::new(
            Plan {
                joiners: 2,
                members_change: 100,
                ..ROUGH
            },
            seed,
        );
        cluster.run();
        cluster.history.trace
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

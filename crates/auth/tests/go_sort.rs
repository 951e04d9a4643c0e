//! Our sort leaves elements that compare as equal in the order Go's `sort.Sort` does: `interop/sortcheck` sorts the
//! same lists with real Go.
//!
//! Needs a Go toolchain; without it the test is skipped, unless `CI=true`.

use std::path::{Path, PathBuf};
use std::process::Command;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::{Skip, need};

fn build() -> Result<PathBuf, Skip> {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop");
    let program = testkit::cache::dir("sortcheck").join("sortcheck");
    let output = Command::new("go")
        .args(["build", "-trimpath", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .current_dir(interop.join("sortcheck"))
        .output()
        .map_err(|error| Skip::new(format!("no Go toolchain: {error}")))?;
    if output.status.success() {
        Ok(program)
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Skip::new(format!("go build: {text}")))
    }
}

/// Lists that lead through all parts of the sort: random, nearly sorted, with few different elements, in waves, and
/// the one thing etcd sorts, a sorted list with one more element at its end.
fn lists() -> Vec<Vec<u32>> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut lists = Vec::new();
    for round in 0..4000_u32 {
        let length = match round % 4 {
            0 => random.random_range(0..14),
            1 => random.random_range(0..60),
            2 => random.random_range(0..300),
            _ => random.random_range(0..1200) / (1 + random.random_range(0..4)),
        };
        let distinct = [2, 3, 10, 100, 100_000][random.random_range(0..5)];
        let mut list: Vec<u32> = (0..length)
            .map(|_| random.random_range(0..distinct))
            .collect();
        match random.random_range(0..7) {
            0 => list.sort_unstable(),
            1 => list.sort_unstable_by(|a, b| b.cmp(a)),
            2 => {
                list.sort_unstable();
                for _ in 0..random.random_range(1..8) {
                    if length > 0 {
                        let (a, b) = (
                            random.random_range(0..length),
                            random.random_range(0..length),
                        );
                        list.swap(a as usize, b as usize);
                    }
                }
            }
            3 => {
                list.sort_unstable();
                list.push(random.random_range(0..distinct));
            }
            4 => {
                let wave = random.random_range(1..40);
                for (at, one) in (0_u32..).zip(&mut list) {
                    *one = if (at / wave) % 2 == 0 {
                        at % wave
                    } else {
                        wave - at % wave
                    };
                }
            }
            _ => {}
        }
        lists.push(list);
    }
    lists.extend(killers());
    lists
}

/// Lists made against the choice of pivots, which lead to the heap sort: the comparison decides the values as it goes
/// along (McIlroy's adversary).
fn killers() -> Vec<Vec<u32>> {
    [200_usize, 1000, 3000].map(killer).to_vec()
}

fn killer(length: usize) -> Vec<u32> {
    use std::cell::{Cell, RefCell};
    let gas = length as u32;
    let values = RefCell::new(vec![gas; length]);
    let (solid, candidate) = (Cell::new(0_u32), Cell::new(0_usize));
    let freeze = |at: usize| {
        values.borrow_mut()[at] = solid.get();
        solid.set(solid.get() + 1);
    };
    let mut order: Vec<usize> = (0..length).collect();
    auth::gosort::sort(&mut order, |&a, &b| {
        let is_gas = |at: usize| values.borrow()[at] == gas;
        if is_gas(a) && is_gas(b) {
            freeze(if a == candidate.get() { a } else { b });
        }
        if is_gas(a) {
            candidate.set(a);
        } else if is_gas(b) {
            candidate.set(b);
        }
        values.borrow()[a] < values.borrow()[b]
    });
    values.into_inner()
}

#[test]
fn equal_elements_come_out_in_the_order_of_go() {
    let program = need!(build());
    let lists = lists();
    let mut input = String::new();
    for list in &lists {
        let words: Vec<String> = list.iter().map(ToString::to_string).collect();
        input.push_str(&words.join(" "));
        input.push('\n');
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), input.as_bytes()).unwrap();
    let output = Command::new(program)
        .stdin(file.reopen().unwrap())
        .output()
        .expect("the program was built");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), lists.len());
    for (list, line) in lists.iter().zip(text.lines()) {
        let mut items: Vec<(u32, usize)> = list.iter().copied().zip(0..).collect();
        auth::gosort::sort(&mut items, |a, b| a.0 < b.0);
        let ours: Vec<usize> = items.iter().map(|item| item.1).collect();
        let go: Vec<usize> = line
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        assert_eq!(ours, go, "{list:?}");
    }
}

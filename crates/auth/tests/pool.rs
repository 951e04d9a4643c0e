//! The pool that hashes passwords.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use api::Error;
use auth::{HashError, PasswordCheck, PasswordPool, PoolConfig};
use support::cheap;

fn config() -> PoolConfig {
    PoolConfig {
        threads: 1,
        ..PoolConfig::new(2, cheap(), [9; 32])
    }
}

fn check_of(user: &str, password: &str, revision: u64) -> PasswordCheck {
    let hash = auth::hash(password, cheap(), [5; 16]).unwrap().into();
    PasswordCheck {
        username: user.into(),
        hash,
        revision,
    }
}

/// Checks and waits.
fn check(pool: &PasswordPool, check: &PasswordCheck, password: &str) -> bool {
    let (sender, receiver) = mpsc::channel();
    pool.check(check.clone(), password, move |right| {
        sender.send(right).unwrap();
    })
    .unwrap();
    receiver.recv().unwrap()
}

#[test]
fn passwords_are_checked_and_hashed() {
    let pool = PasswordPool::start(config()).unwrap();
    let ann = check_of("ann", "pw", 1);
    assert!(check(&pool, &ann, "pw"));
    assert!(!check(&pool, &ann, "pW"));
    let (sender, receiver) = mpsc::channel();
    for password in ["new".to_owned(), "x".repeat(73)] {
        let sender = sender.clone();
        pool.hash(password, [1; 16], move |hash| sender.send(hash).unwrap())
            .unwrap();
    }
    assert!(auth::verify(
        "new",
        receiver.recv().unwrap().unwrap().as_bytes()
    ));
    assert_eq!(receiver.recv().unwrap(), Err(HashError::TooLong));
}

/// Blocks the pool's only thread until the sender is dropped.
fn block(pool: &PasswordPool) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    pool.hash(String::new(), [0; 16], move |_| {
        started.send(()).unwrap();
        let _ = receiver.recv();
    })
    .unwrap();
    running.recv().unwrap();
    sender
}

#[test]
fn what_was_right_is_remembered_until_something_changes() {
    let pool = PasswordPool::start(config()).unwrap();
    let ann = check_of("ann", "pw", 1);
    assert!(check(&pool, &ann, "pw"));
    let blocked = block(&pool);
    assert!(
        check(&pool, &ann, "pw"),
        "answered although no thread is free"
    );
    let (sender, receiver) = mpsc::channel();
    for (check, password) in [
        (ann.clone(), "pw "),
        (
            PasswordCheck {
                username: "bob".into(),
                ..ann.clone()
            },
            "pw",
        ),
        (
            PasswordCheck {
                hash: "$2a$".into(),
                ..ann.clone()
            },
            "pw",
        ),
        (PasswordCheck { revision: 2, ..ann }, "pw"),
    ] {
        let sender = sender.clone();
        pool.check(check, password, move |right| sender.send(right).unwrap())
            .unwrap();
    }
    assert_eq!(pool.queued(), 4);
    assert!(receiver.try_recv().is_err(), "nothing else is known");
    drop(blocked);
    let results: Vec<bool> = receiver.iter().take(4).collect();
    assert_eq!(results, [false, true, false, true]);
}

#[test]
fn the_same_check_is_made_once_for_all_who_wait() {
    let pool = PasswordPool::start(PoolConfig {
        waiters: 5,
        ..config()
    })
    .unwrap();
    let blocked = block(&pool);
    let (sender, receiver) = mpsc::channel();
    let ann = check_of("ann", "pw", 1);
    let ask = || {
        let sender = sender.clone();
        pool.check(ann.clone(), "pw", move |right| sender.send(right).unwrap())
    };
    for _ in 0..6 {
        ask().unwrap();
    }
    assert_eq!(pool.queued(), 1);
    assert_eq!(ask(), Err(Error::TooManyRequests));
    drop(blocked);
    assert_eq!(receiver.iter().take(6).collect::<Vec<_>>(), [true; 6]);
    // The places are free again.
    pool.forget();
    let blocked = block(&pool);
    for _ in 0..6 {
        ask().unwrap();
    }
    drop(blocked);
    assert_eq!(receiver.iter().take(6).count(), 6);
}

#[test]
fn a_full_pool_refuses() {
    let pool = PasswordPool::start(PoolConfig {
        queue: 2,
        ..config()
    })
    .unwrap();
    let blocked = block(&pool);
    let ask = |password: &str| pool.check(check_of("ann", "pw", 1), password, |_| {});
    ask("1").unwrap();
    pool.hash("2".into(), [0; 16], |_| {}).unwrap();
    assert_eq!(ask("3"), Err(Error::TooManyRequests));
    assert_eq!(
        pool.hash("4".into(), [0; 16], |_| {}),
        Err(Error::TooManyRequests)
    );
    ask("1").unwrap();
    drop(blocked);
}

#[test]
fn whoever_waits_when_the_pool_ends_is_let_go() {
    let pool = PasswordPool::start(config()).unwrap();
    let blocked = block(&pool);
    let (sender, receiver) = mpsc::channel();
    pool.check(check_of("ann", "pw", 1), "pw", move |right| {
        sender.send(right).unwrap();
    })
    .unwrap();
    let stopper = std::thread::Builder::new()
        .spawn(move || drop(pool))
        .unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop(blocked);
    stopper.join().unwrap();
    // Either the check was made in time, or nobody will answer.
    assert!(matches!(receiver.recv(), Ok(true) | Err(mpsc::RecvError)));
}

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aws_lc_rs::hmac;

use super::cache::{Fingerprint, Verified};
use super::hash::{self, Cost, HashError};
use crate::permissions::PasswordCheck;

/// Limits of a [`PasswordPool`]. Has no `Debug`: the key must not get into a log.
#[derive(Clone)]
pub struct PoolConfig {
    /// Threads that compute hashes.
    pub threads: usize,
    /// Computations that may wait for a thread.
    pub queue: usize,
    /// Callers that may wait for the result of a computation somebody else already asked for.
    pub waiters: usize,
    /// Passwords remembered as right; 0 remembers none.
    pub remembered: usize,
    /// `--bcrypt-cost`.
    pub cost: Cost,
    /// Random bytes, new in each process: without them nothing can be told from what is remembered.
    pub key: [u8; 32],
}

impl PoolConfig {
    /// For a machine with so many cores: half of them hash, at least one.
    pub fn new(cores: usize, cost: Cost, key: [u8; 32]) -> Self {
        Self {
            threads: (cores / 2).max(1),
            queue: 256,
            waiters: 4096,
            remembered: 1024,
            cost,
            key,
        }
    }
}

type CheckDone = Box<dyn FnOnce(bool) + Send>;
type HashDone = Box<dyn FnOnce(Result<String, HashError>) + Send>;

enum Job {
    /// Check a password; those who wait are in `State::checks`.
    Check {
        id: Fingerprint,
        check: PasswordCheck,
        password: String,
    },
    Hash {
        password: String,
        salt: [u8; 16],
        done: HashDone,
    },
}

struct State {
    jobs: VecDeque<Job>,
    /// Who waits for the checks that are queued or running.
    checks: HashMap<Fingerprint, Vec<CheckDone>>,
    waiters: usize,
    verified: Verified,
    stopping: bool,
}

struct Shared {
    config: PoolConfig,
    key: hmac::Key,
    state: Mutex<State>,
    work: Condvar,
}

/// Computes password hashes on a few threads of its own, so that nothing else waits for them.
///
/// A password that was right is remembered (as a keyed hash) until users, roles or permissions change; checks of the
/// same password at the same time are computed once. More work than the pool may hold is refused at once. Dropping the
/// pool drops what waits, without calling back.
pub struct PasswordPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl PasswordPool {
    /// Starts the threads.
    pub fn start(config: PoolConfig) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            key: hmac::Key::new(hmac::HMAC_SHA256, &config.key),
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                checks: HashMap::new(),
                waiters: 0,
                verified: Verified::new(config.remembered),
                stopping: false,
            }),
            work: Condvar::new(),
            config,
        });
        let mut pool = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..pool.shared.config.threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let name = format!("passwords-{number}");
            pool.threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || shared.work())?,
            );
        }
        Ok(pool)
    }

    /// Checks a password. `done` gets the result: right here if the password is remembered, else on one of the
    /// threads, where it must not wait. `TooManyRequests` when the pool is full; `done` is dropped then.
    pub fn check(
        &self,
        check: PasswordCheck,
        password: &str,
        done: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), api::Error> {
        let id = self.shared.fingerprint(&check, password);
        let mut state = self.shared.state();
        if state.verified.contains(check.revision, &id) {
            drop(state);
            done(true);
            return Ok(());
        }
        if state.checks.contains_key(&id) {
            if state.waiters >= self.shared.config.waiters {
                return Err(api::Error::TooManyRequests);
            }
            state.waiters += 1;
        } else {
            let password = password.to_owned();
            self.shared.push(
                &mut state,
                Job::Check {
                    id,
                    check,
                    password,
                },
            )?;
        }
        state.checks.entry(id).or_default().push(Box::new(done));
        Ok(())
    }

    /// Hashes a new password; `done` gets the text on one of the threads, where it must not wait. `TooManyRequests`
    /// when the pool is full; `done` is dropped then.
    pub fn hash(
        &self,
        password: String,
        salt: [u8; 16],
        done: impl FnOnce(Result<String, HashError>) + Send + 'static,
    ) -> Result<(), api::Error> {
        let done = Box::new(done);
        self.shared.push(
            &mut self.shared.state(),
            Job::Hash {
                password,
                salt,
                done,
            },
        )
    }

    /// Forgets all passwords. Not needed after changes of users: those are noticed by the auth revision.
    pub fn forget(&self) {
        self.shared.state().verified.clear();
    }

    /// Computations that wait for a thread.
    pub fn queued(&self) -> usize {
        self.shared.state().jobs.len()
    }
}

impl Drop for PasswordPool {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // It can only have panicked, which was reported then.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State, job: Job) -> Result<(), api::Error> {
        if state.jobs.len() >= self.config.queue {
            return Err(api::Error::TooManyRequests);
        }
        state.jobs.push_back(job);
        self.work.notify_one();
        Ok(())
    }

    fn fingerprint(&self, check: &PasswordCheck, password: &str) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [check.username.as_bytes(), &check.hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(password.as_bytes());
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            match job {
                Job::Check {
                    id,
                    check,
                    password,
                } => {
                    let right = hash::verify(&password, &check.hash);
                    let mut state = self.state();
                    if right {
                        state.verified.insert(check.revision, id);
                    }
                    let waiting = state.checks.remove(&id).unwrap_or_default();
                    state.waiters -= waiting.len().saturating_sub(1);
                    drop(state);
                    for done in waiting {
                        done(right);
                    }
                }
                Job::Hash {
                    password,
                    salt,
                    done,
                } => {
                    done(hash::hash(&password, self.config.cost, salt));
                }
            }
        }
    }

    /// The next job; `None` when the pool stops.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            match state.jobs.pop_front() {
                Some(job) => return Some(job),
                None => {
                    state = self
                        .work
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::user_map::{BuildFnv, spread};

/// Letters of a token's random part.
const PREFIX: usize = 16;
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const SHARDS: usize = 16;
/// Tokens a member keeps before it drops those that would end soonest. A client whose token is gone logs in again.
const CAPACITY: usize = 1 << 20;

/// A prolongation that gains less than this is not written down.
const PRECISION_MILLIS: u64 = 500;

/// Tokens that mean something only because the members remember them.
///
/// The log says which tokens there are, so a token that one member handed out is known to all. How long it lives is
/// each member's own affair: from its last use there.
#[derive(Debug)]
pub struct SimpleTokens {
    ttl: Duration,
    shard_capacity: usize,
    shards: [RwLock<Shard>; SHARDS],
    /// What a user's tokens have in common, so that all of them end at once.
    sessions: Mutex<HashMap<Arc<str>, Arc<Session>>>,
}

type Shard = HashMap<Box<str>, Token, BuildFnv>;

#[derive(Debug)]
struct Token {
    session: Arc<Session>,
    /// Milliseconds.
    deadline: AtomicU64,
}

#[derive(Debug)]
struct Session {
    username: Arc<str>,
    ended: AtomicBool,
}

/// The log index in a token of the form `letters.index`; `None` if it has another form. A member knows whether the
/// token is good only after it has applied that index.
pub fn simple_token_index(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    index.parse().ok()
}

/// The random part of a token: letters, drawn from random bytes.
pub(crate) fn prefix(mut random: impl FnMut(&mut [u8])) -> String {
    let mut text = String::with_capacity(PREFIX);
    let mut bytes = [0; 32];
    while text.len() < PREFIX {
        random(&mut bytes);
        for byte in bytes {
            // Beyond the last multiple of 52 some letters would be likelier than others.
            if byte < 208 && text.len() < PREFIX {
                text.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            }
        }
    }
    text
}

impl SimpleTokens {
    /// No tokens. `ttl` (`--auth-token-ttl`, 300 s) is how long an unused token lives.
    pub fn new(ttl: Duration) -> Self {
        Self::with_capacity(ttl, CAPACITY)
    }

    fn with_capacity(ttl: Duration, capacity: usize) -> Self {
        Self {
            ttl,
            shard_capacity: (capacity / SHARDS).max(1),
            shards: Default::default(),
            sessions: Mutex::default(),
        }
    }

    /// Makes the token of an applied login.
    pub(crate) fn assign(
        &self,
        prefix: &str,
        index: u64,
        username: &Arc<str>,
        now: Duration,
    ) -> String {
        let text = format!("{prefix}.{index}");
        let session = self
            .sessions()
            .entry(Arc::clone(username))
            .or_insert_with(|| {
                let username = Arc::clone(username);
                Arc::new(Session {
                    username,
                    ended: AtomicBool::new(false),
                })
            })
            .clone();
        let deadline = AtomicU64::new(millis(now.saturating_add(self.ttl)));
        let mut shard = write(self.shard(&text));
        if shard.len() >= self.shard_capacity {
            make_room(&mut shard);
        }
        shard.insert(text.as_str().into(), Token { session, deadline });
        text
    }

    /// Whose token this is. Prolongs its life.
    pub fn lookup(&self, token: &str, now: Duration) -> Option<Arc<str>> {
        let shard = self
            .shard(token)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let found = shard.get(token)?;
        let deadline = found.deadline.load(Ordering::Relaxed);
        if deadline < millis(now) || found.session.ended.load(Ordering::Acquire) {
            return None;
        }
        let prolonged = millis(now.saturating_add(self.ttl));
        if prolonged > deadline.saturating_add(PRECISION_MILLIS) {
            // Of two at the same time either is good.
            found.deadline.store(prolonged, Ordering::Relaxed);
        }
        Some(Arc::clone(&found.session.username))
    }

    /// Frees what tokens that ended still take. To be called about once a second.
    pub fn sweep(&self, now: Duration) {
        let now = millis(now);
        for shard in &self.shards {
            write(shard).retain(|_, token| token.is_good(now));
        }
        // A token being made holds its session twice, or makes a new one.
        self.sessions()
            .retain(|_, session| Arc::strong_count(session) > 1);
    }

    /// Ends all tokens of a user, in constant time.
    pub(crate) fn drop_user(&self, username: &str) {
        if let Some(session) = self.sessions().remove(username) {
            session.ended.store(true, Ordering::Release);
        }
    }

    /// Ends all tokens.
    pub(crate) fn drop_all(&self) {
        for (_, session) in self.sessions().drain() {
            session.ended.store(true, Ordering::Release);
        }
    }

    /// Tokens in memory, those included that ended since the last sweep.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, token: &str) -> &RwLock<Shard> {
        &self.shards[spread(token.as_bytes(), SHARDS)]
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    fn is_good(&self, now: u64) -> bool {
        self.deadline.load(Ordering::Relaxed) >= now && !self.session.ended.load(Ordering::Acquire)
    }
}

/// Drops what ended and, as far as that does not give an eighth of the room, what would end soonest.
fn make_room(shard: &mut Shard) {
    let goal = shard.len() - shard.len().div_ceil(8);
    shard.retain(|_, token| !token.session.ended.load(Ordering::Acquire));
    let Some(surplus) = shard.len().checked_sub(goal).filter(|surplus| *surplus > 0) else {
        return;
    };
    let mut deadlines: Vec<u64> = shard
        .values()
        .map(|token| token.deadline.load(Ordering::Relaxed))
        .collect();
    let (_, last, _) = deadlines.select_nth_unstable(surplus - 1);
    let (last, mut left) = (*last, surplus);
    shard.retain(|_, token| {
        let goes = left > 0 && token.deadline.load(Ordering::Relaxed) <= last;
        left -= usize::from(goes);
        !goes
    });
}

fn write(shard: &RwLock<Shard>) -> std::sync::RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(5);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_letters_dot_digits_has_an_index() {
        for (token, index) in [
            ("RgWTkAEgKRsXonAy.22", Some(22)),
            ("x.01", Some(1)),
            (".1", Some(1)),
            ("x.18446744073709551615", Some(u64::MAX)),
            ("x.18446744073709551616", None),
            ("x", None),
            ("", None),
            (".", None),
            ("x.", None),
            ("x.+1", None),
            ("x.-1", None),
            ("x.1_0", None),
            ("x. 1", None),
            ("x.1.1", None),
            ("x.1.", None),
        ] {
            assert_eq!(simple_token_index(token), index, "{token}");
        }
    }

    #[test]
    fn a_prefix_has_sixteen_letters() {
        let mut next = 0_u8;
        for _ in 0..100 {
            let text = prefix(|bytes| {
                for byte in bytes {
                    next = next.wrapping_mul(31).wrapping_add(201);
                    *byte = next;
                }
            });
            assert_eq!(text.len(), 16);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphabetic()));
        }
    }

    #[test]
    fn use_prolongs_a_token_and_silence_ends_it() {
        let tokens = SimpleTokens::new(TTL);
        let token = tokens.assign("abc", 122, &"ann".into(), secs(0));
        assert_eq!(token, "abc.122");
        for use_at in [0, 299, 598] {
            assert_eq!(tokens.lookup(&token, secs(use_at)).as_deref(), Some("ann"));
        }
        assert_eq!(tokens.lookup(&token, secs(898 + 1)), None);
        tokens.sweep(secs(898));
        assert_eq!(tokens.len(), 1);
        tokens.sweep(secs(899));
        assert!(tokens.is_empty());
        assert!(tokens.sessions().is_empty());
    }

    #[test]
    fn tokens_of_one_user_end_together() {
        let tokens = SimpleTokens::new(TTL);
        let ann = [1, 2].map(|index| tokens.assign("a", index, &"ann".into(), secs(0)));
        let bob = tokens.assign("b", 3, &"bob".into(), secs(0));
        tokens.drop_user("ann");
        assert!(
            ann.iter()
                .all(|token| tokens.lookup(token, secs(1)).is_none())
        );
        assert!(tokens.lookup(&bob, secs(1)).is_some());
        let again = tokens.assign("a", 4, &"ann".into(), secs(1));
        assert!(tokens.lookup(&again, secs(1)).is_some());
        tokens.sweep(secs(1));
        assert_eq!(tokens.len(), 2);
        tokens.drop_all();
        assert!(tokens.lookup(&again, secs(1)).is_none());
        assert!(tokens.lookup(&bob, secs(1)).is_none());
        tokens.sweep(secs(1));
        assert!(tokens.is_empty());
    }

    #[test]
    fn when_full_those_go_that_would_end_soonest() {
        let tokens = SimpleTokens::with_capacity(TTL, 16 * 32);
        let user: Arc<str> = "ann".into();
        let all: Vec<String> = (0..1000)
            .map(|index| tokens.assign("a", index, &user, secs(index)))
            .collect();
        assert!(tokens.len() <= 16 * 32);
        for token in &all[900..] {
            assert!(tokens.lookup(token, secs(1000)).is_some(), "{token}");
        }
        assert!(tokens.lookup(&all[0], secs(100)).is_none());
    }
}

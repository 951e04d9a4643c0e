//! Sends a list of requests to two servers and finds the shortest list that still differs.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::clients::Clients;
use super::generate::generate;
use super::request::Request;
use super::watcher::WatchLog;
use crate::server::Server;

/// Requests between two looks at what the watchers saw.
const CHECKPOINT: usize = 60;

/// How long two servers may take until their watchers have seen the same.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How often a failing list is played again to shorten it; `STELE_SHRINK` sets another number.
const SHRINK_RUNS: usize = 30;

/// Two answers to the same request that differ.
#[derive(Debug)]
pub struct Mismatch {
    /// What it takes to see it: the last request is the one answered differently.
    pub requests: Vec<Request>,
    /// The first line that differs, left and right.
    pub line: (String, String),
    /// The left answer.
    pub left: Answer,
    /// The right answer.
    pub right: Answer,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "answers differ after these requests:")?;
        for (number, request) in self.requests.iter().enumerate() {
            writeln!(f, "{:3}: {request:?}", number + 1)?;
        }
        writeln!(f, "first difference:")?;
        writeln!(f, "  left:  {}", self.line.0)?;
        writeln!(f, "  right: {}", self.line.1)?;
        writeln!(f, "left answer:\n{}", cut(&self.left.0))?;
        write!(f, "right answer:\n{}", cut(&self.right.0))
    }
}

/// Plays `count` requests of a seed to fresh servers. A mismatch comes out shortened.
pub async fn run(left: &Path, right: &Path, seed: u64, count: usize) -> Option<Box<Mismatch>> {
    let requests = generate(seed, count);
    let found = run_list(left, right, &requests).await?;
    Some(shrink(left, right, found).await)
}

/// Plays these requests to fresh servers and stops at the first difference.
///
/// # Panics
/// When a server does not start.
pub async fn run_list(left: &Path, right: &Path, requests: &[Request]) -> Option<Box<Mismatch>> {
    let start = |program: &Path| {
        let program = program.to_path_buf();
        tokio::task::spawn_blocking(move || Server::fresh(program))
    };
    let (left, right) = (start(left), start(right));
    let left = left.await.expect("the left server starts");
    let right = right.await.expect("the right server starts");
    let (mut ours, mut theirs) = (Clients::new(&left.url()), Clients::new(&right.url()));
    let (mut our_watch, mut their_watch) = (WatchLog::open(&ours), WatchLog::open(&theirs));
    for (index, request) in requests.iter().enumerate() {
        let (l, r) = tokio::join!(
            request.send(&mut ours, &mut our_watch),
            request.send(&mut theirs, &mut their_watch)
        );
        let mut pair = (l, r);
        let checkpoint = (index + 1) % CHECKPOINT == 0 || index + 1 == requests.len();
        if pair.0 == pair.1 && checkpoint {
            pair = histories(&our_watch, &their_watch).await;
        }
        if let Some(line) = pair.0.first_difference(&pair.1) {
            return Some(Box::new(Mismatch {
                requests: requests[..=index].to_vec(),
                line,
                left: pair.0,
                right: pair.1,
            }));
        }
    }
    None
}

/// What the watchers of both sides saw, once it is the same or time is up.
async fn histories(left: &WatchLog, right: &WatchLog) -> (Answer, Answer) {
    let start = Instant::now();
    loop {
        let pair = (left.history(), right.history());
        if pair.0 == pair.1 || start.elapsed() > CATCH_UP {
            return pair;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Leaves out requests, large pieces first, as long as something still differs.
async fn shrink(left: &Path, right: &Path, mut found: Box<Mismatch>) -> Box<Mismatch> {
    let runs = std::env::var("STELE_SHRINK").ok();
    let mut runs = runs
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(SHRINK_RUNS);
    let mut piece = found.requests.len() / 2;
    while piece > 0 && runs > 0 {
        let mut start = 0;
        // The last request shows the difference and stays.
        while start + 1 < found.requests.len() && runs > 0 {
            let end = (start + piece).min(found.requests.len() - 1);
            let mut fewer = found.requests.clone();
            fewer.drain(start..end);
            runs -= 1;
            match run_list(left, right, &fewer).await {
                Some(smaller) => found = smaller,
                None => start = end,
            }
        }
        piece /= 2;
    }
    found
}

fn cut(text: &str) -> String {
    const SHOWN: usize = 3000;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

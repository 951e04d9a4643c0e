//! The differential runner: one script of command lines, played to two servers, every answer compared.
//!
//! A script is a text file (see [`Script`] for its language). [`run`] starts two servers with the same flags, plays
//! the script to both at once and compares exit code, standard output and standard error of every command,
//! after what must differ (addresses, times, sizes, raft positions, lease ids) was replaced by its name.
//! Member and cluster ids are equal on both by construction and are compared.

mod compare;
mod normal;
mod play;
mod script;

use std::fmt::Write as _;
use std::path::PathBuf;

pub use compare::{Difference, compare};
pub use normal::Normaliser;
pub use play::{Record, play};
pub use script::{Format, Script, ScriptError, Step};

use crate::etcdctl::Output;
use crate::interop;
use crate::server::Server;
use crate::skip::Skip;

/// The programs of one side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// The server.
    pub etcd: PathBuf,
    /// The client that talks to it.
    pub etcdctl: PathBuf,
    /// The offline tool for files made on this side.
    pub etcdutl: PathBuf,
}

impl Side {
    /// A server with the real tools of 3.7.
    pub fn with_real_tools(etcd: impl Into<PathBuf>) -> Result<Self, Skip> {
        Ok(Self {
            etcd: etcd.into(),
            etcdctl: interop::etcdctl(interop::Version::V37)?,
            etcdutl: interop::etcdutl(interop::Version::V37)?,
        })
    }

    /// Real etcd 3.7.
    pub fn real() -> Result<Self, Skip> {
        Self::with_real_tools(interop::etcd(interop::Version::V37)?)
    }
}

/// Plays the script to both sides on fresh servers and gives the differences.
///
/// # Panics
/// When a server does not start.
pub fn run(script: &Script, left: &Side, right: &Side) -> Vec<Difference> {
    run_two(script, script, left, right)
}

/// Plays one script to the left and another to the right side. With two different scripts differences must come
/// out; this is how the runner itself is tested.
///
/// # Panics
/// When a server does not start.
pub fn run_two(
    left_script: &Script,
    right_script: &Script,
    left: &Side,
    right: &Side,
) -> Vec<Difference> {
    let (ours, theirs) = std::thread::scope(|scope| {
        let other = scope.spawn(|| play_fresh(right_script, right));
        let ours = play_fresh(left_script, left);
        (ours, other.join().expect("the right side could be played"))
    });
    if std::env::var_os("STELE_SHOW").is_some() {
        for record in &ours {
            let Output {
                code,
                stdout,
                stderr,
            } = &record.output;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            println!("{}: {} → {code}", record.line, record.label);
            println!("{}\n{}", text(stdout), text(stderr));
        }
    }
    compare(&ours, &theirs, left_script)
}

fn play_fresh(script: &Script, side: &Side) -> Vec<Record> {
    let args: Vec<&str> = script.server_args.iter().map(String::as_str).collect();
    let server = Server::builder(&side.etcd)
        .args(&args)
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    play(script, side, server)
}

/// The differences as one text for a failed assertion.
pub fn report(differences: &[Difference]) -> String {
    let shown = 6;
    let mut text = format!("{} answers differ (left | right)\n", differences.len());
    for difference in differences.iter().take(shown) {
        text.push_str(&difference.to_string());
        text.push('\n');
    }
    if differences.len() > shown {
        let _ = writeln!(text, "… and {} more", differences.len() - shown);
    }
    text
}

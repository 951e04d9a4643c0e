//! The two servers that are compared.

use std::path::PathBuf;

use serde::Serialize;
use testkit::{Server, Version, interop};

use crate::Error;
use crate::args::Args;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The server under test.
    Ours,
    /// Real etcd.
    Go,
}

/// Both sides, in the order of a round: the one that goes first changes.
pub fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) {
        [Side::Go, Side::Ours]
    } else {
        [Side::Ours, Side::Go]
    }
}

/// The programs and how they are started.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our server.
    pub ours: PathBuf,
    /// The other one.
    pub go: PathBuf,
    /// Upstream's load tool.
    pub benchmark: PathBuf,
    ours_flags: Vec<String>,
    go_flags: Vec<String>,
}

/// For both: enough quota, and errors only, so that logging is not what is measured.
const FLAGS: [&str; 2] = ["--quota-backend-bytes=8589934592", "--log-level=info"];

impl Programs {
    /// Looks for the programs, building real etcd if needed.
    pub fn find(args: &Args) -> Result<Self, Error> {
        let go = match &args.go {
            Some(path) => path.clone(),
            None => interop::etcd(Version::V37)?,
        };
        let words = |flags: &str| flags.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            ours: absolute(&args.ours)?,
            go: absolute(&go)?,
            benchmark: interop::benchmark()?,
            ours_flags: words(&args.ours_flags),
            go_flags: words(&args.go_flags),
        })
    }

    /// Starts one server with an empty directory.
    pub fn start(&self, side: Side) -> Result<Server, Error> {
        let (program, own) = match side {
            Side::Ours => (&self.ours, &self.ours_flags),
            Side::Go => (&self.go, &self.go_flags),
        };
        let mut builder = Server::builder(program).args(&FLAGS);
        for flag in own {
            builder = builder.arg(flag);
        }
        Ok(builder.start()?)
    }

    /// Starts both.
    pub fn start_both(&self) -> Result<Pair, Error> {
        Ok(Pair {
            ours: self.start(Side::Ours)?,
            go: self.start(Side::Go)?,
        })
    }
}

fn absolute(path: &std::path::Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(path).map_err(|error| {
        Error::Io(std::io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        ))
    })
}

/// Both servers, running. They end when this is dropped.
#[derive(Debug)]
pub struct Pair {
    /// The server under test.
    pub ours: Server,
    /// Real etcd.
    pub go: Server,
}

impl Pair {
    /// One of them.
    pub fn get(&self, side: Side) -> &Server {
        match side {
            Side::Ours => &self.ours,
            Side::Go => &self.go,
        }
    }

    /// One of them, to stop or restart it.
    pub fn get_mut(&mut self, side: Side) -> &mut Server {
        match side {
            Side::Ours => &mut self.ours,
            Side::Go => &mut self.go,
        }
    }
}

//! Running the command line client.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a finished program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; `128 + n` when signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, invalid bytes replaced.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, invalid bytes replaced.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output, when the program succeeded.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out(), self.err());
        self.out()
    }
}

/// An `etcdctl` (or `etcdutl`) program with the endpoint it talks to.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    /// The program.
    pub program: PathBuf,
    /// `host:port` given as `--endpoints`; none for offline tools.
    pub endpoint: Option<String>,
    /// Where it runs.
    pub dir: Option<PathBuf>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
}

impl Etcdctl {
    /// A client of one endpoint.
    pub fn new(program: impl Into<PathBuf>, endpoint: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            endpoint: Some(endpoint.into()),
            dir: None,
            env: Vec::new(),
        }
    }

    /// A tool that works on files.
    pub fn offline(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            endpoint: None,
            dir: None,
            env: Vec::new(),
        }
    }

    /// The command, ready to be started: closed standard input, captured output.
    pub fn command<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(endpoint) = &self.endpoint {
            command.arg(format!("--endpoints={endpoint}"));
        }
        command.args(args.into_iter().map(Into::into));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn run<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        finish(self.command(args), &[])
    }

    /// Runs to the end with the given standard input.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn run_with_input<A: Into<OsString>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        finish(command, input)
    }

    /// Runs and gives standard output; anything but success is a failed test.
    ///
    /// # Panics
    /// When the program fails.
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args.iter().copied()).ok()
    }
}

/// Runs a prepared command to its end.
///
/// # Panics
/// When the program cannot be started.
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input is no fault of the test.
        let _ = stdin.write_all(input);
    }
    let output = child
        .wait_with_output()
        .expect("a started child can be waited for");
    Output {
        code: code(output.status),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

/// The exit code as a shell would show it.
pub fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

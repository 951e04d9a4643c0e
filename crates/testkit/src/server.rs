//! A server as a child process: own ports, own directory, killed when dropped.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::etcdctl::Etcdctl;
use crate::grpc::Clients;
use crate::ports::Port;
use crate::wait;

/// The line every etcd logs once its member is published and a client listener serves.
const READY: &str = "ready to serve client requests";

/// Advertised by every server of a test. Equal on all of them, so that two servers that get the same requests
/// have the same member and cluster ids; a single member never dials itself.
const PEER_URL: &str = "http://127.0.0.1:2380";
const CLIENT_URL: &str = "http://127.0.0.1:2379";

/// Why a server did not come up.
#[derive(thiserror::Error)]
pub enum StartError {
    /// It ended instead of serving.
    #[error("the server ended with {status} instead of serving:\n{}", tail(log))]
    Exited {
        /// How.
        status: ExitStatus,
        /// What it logged in this run.
        log: String,
    },
    /// It neither served nor ended in time.
    #[error("the server was not ready within {0:?}:\n{log}", log = tail(.1))]
    TooLate(Duration, String),
}

impl std::fmt::Debug for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Builder {
    program: PathBuf,
    wrapper: Vec<String>,
    dir: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    limit: Duration,
}

impl Builder {
    /// A single member `m1` run by this program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            wrapper: Vec::new(),
            dir: None,
            args: Vec::new(),
            env: Vec::new(),
            limit: wait::PATIENCE,
        }
    }

    /// Uses this data directory instead of a fresh one; it is not removed afterwards.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Adds a flag; given twice, the later one counts for etcd.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds flags.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the server as the last argument of another program (`prlimit --nofile=64`, …) that replaces itself.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(ToString::to_string).collect();
        self
    }

    /// How long [`Builder::start`] waits.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts and waits until it serves clients.
    pub fn start(self) -> Result<Server, StartError> {
        let mut server = self.spawn();
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts without waiting.
    ///
    /// # Panics
    /// When the program cannot be started at all.
    pub fn spawn(self) -> Server {
        self.spawn_at(Port::reserve(), Port::reserve())
    }

    /// [`Builder::spawn`] at ports that others have to know before: the members of a cluster know each other's.
    ///
    /// # Panics
    /// When the program cannot be started at all.
    pub fn spawn_at(self, client: Port, peer: Port) -> Server {
        let home =
            TempDir::with_prefix("stele-test-").expect("the temporary directory is writable");
        let dir = self.dir.clone().unwrap_or_else(|| home.path().join("data"));
        let mut server = Server {
            log: home.path().join("etcd.log"),
            home,
            dir,
            client,
            peer,
            child: None,
            log_start: 0,
            config: Arc::new(self),
        };
        server.launch();
        server
    }
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Server {
    config: Arc<Builder>,
    home: TempDir,
    dir: PathBuf,
    log: PathBuf,
    log_start: u64,
    client: Port,
    peer: Port,
    child: Option<Child>,
}

impl Server {
    /// A builder for this program.
    pub fn builder(program: impl Into<PathBuf>) -> Builder {
        Builder::new(program)
    }

    /// Starts a fresh single member.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn fresh(program: impl Into<PathBuf>) -> Self {
        Builder::new(program)
            .start()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// `host:port` of the client listener.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client.number())
    }

    /// The client URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.endpoint())
    }

    /// `host:port` of the peer listener.
    pub fn peer_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.peer.number())
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.dir
    }

    /// A directory for files of the test; removed with the server.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The program that runs or ran last.
    pub fn program(&self) -> &Path {
        &self.config.program
    }

    /// A command line client of this server.
    pub fn etcdctl(&self, program: impl Into<PathBuf>) -> Etcdctl {
        let mut etcdctl = Etcdctl::new(program, self.endpoint());
        etcdctl.dir = Some(self.home.path().to_path_buf());
        etcdctl
    }

    /// What was logged since the last start.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.seek(SeekFrom::Start(self.log_start));
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Process id of the running server.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until clients are served.
    pub fn wait_ready(&mut self) -> Result<(), StartError> {
        let limit = self.config.limit;
        let start = Instant::now();
        loop {
            let log = self.log();
            if log.contains(READY) || self.answers() {
                return Ok(());
            }
            if let Some(status) = self.exited() {
                self.child = None;
                return Err(StartError::Exited {
                    status,
                    log: self.log(),
                });
            }
            if start.elapsed() > limit {
                return Err(StartError::TooLate(limit, log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a linearizable read is answered. A server that logs to a file or in another level is found ready
    /// by this.
    fn answers(&self) -> bool {
        if std::net::TcpStream::connect(self.endpoint()).is_err() {
            return false;
        }
        let url = self.url();
        let ask = move || -> bool {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                let mut clients = Clients::new(&url);
                let read = clients.get("\0", 0);
                matches!(
                    tokio::time::timeout(Duration::from_millis(500), read).await,
                    Ok(Ok(_))
                )
            })
        };
        // On a thread of its own: the caller may be inside a runtime.
        std::thread::spawn(ask).join().unwrap_or(false)
    }

    /// How the process ended, when it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Waits for the process to end by itself; `None` after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = wait::until(limit, || self.exited());
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(pid as i32)) {
            // Fails only when it has ended, which the caller notices next.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits for the end: everything the process had not handed to the kernel is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(wait::PATIENCE)
            .unwrap_or_else(|| panic!("no end after SIGTERM:\n{}", self.log()))
    }

    /// SIGSTOP: the process is there, but does nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts again on the same directory and ports.
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.kill();
        self.launch();
        self.wait_ready()
    }

    /// Starts another program on the same directory and ports.
    pub fn restart_as(&mut self, program: impl Into<PathBuf>) -> Result<(), StartError> {
        Arc::make_mut(&mut self.config).program = program.into();
        self.restart()
    }

    /// Changes the flags of later starts.
    pub fn set_args(&mut self, args: &[&str]) {
        Arc::make_mut(&mut self.config).args = args.iter().map(ToString::to_string).collect();
    }

    fn launch(&mut self) {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log of a test server can be opened");
        self.log_start = log.metadata().map_or(0, |meta| meta.len());
        let mut words: Vec<std::ffi::OsString> =
            self.config.wrapper.iter().map(Into::into).collect();
        words.push(self.config.program.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(&name);
            }
        }
        command
            .arg("--name=m1")
            .arg(format!("--data-dir={}", self.dir.display()))
            .arg(format!("--listen-client-urls={}", self.url()))
            .arg(format!("--advertise-client-urls={CLIENT_URL}"))
            .arg(format!(
                "--listen-peer-urls=http://{}",
                self.peer_endpoint()
            ))
            .arg(format!("--initial-advertise-peer-urls={PEER_URL}"))
            .arg(format!("--initial-cluster=m1={PEER_URL}"))
            .args(&self.config.args)
            .envs(self.config.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        self.child = Some(child);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- last lines of {} ---\n{}",
                self.config.program.display(),
                tail(&self.log())
            );
        }
        self.kill();
    }
}

//! The server as a process: ports, files, threads, signals, and the way back.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use config::Config;
use disk::{Fs, RealFs};
use gotext::{Hex, Url};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio_util::sync::CancellationToken;

use super::boot::{BootOptions, Observers, boot};
use super::launch::{LaunchOptions, Running, launch};
use super::observe::DiskObserver;
use super::{DataDir, SERVER_VERSION, StartError, listen, notify, options, server_version};
use crate::core::Member;
use crate::core::applier::Event;
use crate::grpc::{Services, Settings};
use crate::http::{ClientHandler, Endpoints, Filter, MetricsHandler};
use crate::metrics::Metrics;
use crate::net::{self, Threads};

/// All a server needs to know.
#[derive(Clone, Debug)]
pub(super) struct ProgramOptions {
    pub boot: BootOptions,
    pub launch: LaunchOptions,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    pub listen_client_http_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub watch_progress_interval: Duration,
    pub connection: net::Options,
    /// Threads that serve clients.
    pub frontends: usize,
}

/// Runs a server until it is told to stop; returns the exit code of the process. After SIGTERM or SIGINT
/// the process dies of that signal instead of returning.
///
/// `record` makes the log line that tells the whole configuration, given whether the member was there before.
pub fn run(config: &Config, record: impl FnOnce(bool) -> logging::Record) -> i32 {
    let prepared = options::check_supported(config).and_then(|()| options::program_options(config));
    let options = match prepared {
        Ok(options) => &options.clone(),
        Err(error) => return fail(&StartError::Failed(error)),
    };
    let (sender, events) = channel();
    let mut server = match Server::start(options, record, &sender) {
        Ok(server) => server,
        Err(error) => return fail(&error),
    };
    // Not before: a start may wait for a file's lock for ever, and until it is through a signal ends the process at
    // once, as in etcd. What it interrupts is what a crash interrupts.
    if let Err(error) = watch_signals(sender) {
        tracing::error!(%error, "failed to watch for signals");
    }
    loop {
        let event = events
            .recv()
            .unwrap_or_else(|_| Event::Fatal(StartError::Failed("all threads ended".into())));
        match event {
            Event::Published => {
                if let Err(error) = server.serve_clients(options) {
                    let error = error.to_string();
                    std::mem::forget(server);
                    return fail(&StartError::Fatal {
                        message: "listener failed",
                        error,
                    });
                }
            }
            Event::Signal(signal) => {
                let name = if signal == SIGINT {
                    "interrupt"
                } else {
                    "terminated"
                };
                tracing::info!(signal = name, "received signal; shutting down");
                server.stop(options);
                return die_of(signal);
            }
            Event::Removed => {
                tracing::error!(
                    error = "the member has been permanently removed from the cluster",
                    "server error"
                );
                tracing::warn!(
                    "data-dir" = %options.boot.data_dir.display(),
                    "data-dir used by this member must be removed"
                );
                server.stop(options);
                return 0;
            }
            // Nothing more may be written: what the disk holds is all there is. So nothing is closed either.
            Event::Fatal(error) => {
                std::mem::forget(server);
                return fail(&error);
            }
        }
    }
}

/// Logs why the server does not run; returns the exit code.
fn fail(error: &StartError) -> i32 {
    let level = if error.exit_code() == 1 {
        logging::Level::Fatal
    } else {
        logging::Level::Panic
    };
    let record = logging::Record::new(level, error.message().to_owned());
    logging::emit(&record.field("error", error.cause().to_owned()));
    error.exit_code()
}

/// Turns SIGTERM and SIGINT into a wish to stop. A second one while stopping is swallowed.
fn watch_signals(stop: Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if stop.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}

/// Ends the process the way it was asked to, so that its parent sees which signal it was. The first process of a
/// container cannot die of a signal and exits with 0.
fn die_of(signal: i32) -> i32 {
    if std::process::id() != 1 {
        // It does not return; if it ever does, the exit code of a shell says the same.
        if signal_hook::low_level::emulate_default_handler(signal).is_err() {
            return 128 + signal;
        }
    }
    0
}

struct Server {
    running: Running,
    threads: Threads,
    serving: CancellationToken,
    metrics: Arc<Metrics>,
    endpoints: Arc<Endpoints<Member>>,
    /// Client ports, until they are served.
    clients: Vec<(TcpListener, Traffic)>,
}

struct Ports {
    peers: Vec<TcpListener>,
    clients: Vec<(TcpListener, Traffic)>,
    metrics: Vec<TcpListener>,
}

/// What a client listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Both,
    Grpc,
    Http,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Self::Both => "grpc+http",
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl Server {
    fn start(
        options: &ProgramOptions,
        record: impl FnOnce(bool) -> logging::Record,
        stop: &Sender<Event>,
    ) -> Result<Self, StartError> {
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let dirs = DataDir::new(&options.boot.data_dir, options.boot.wal_dir.as_deref());
        log_kind(&dirs, dirs.kind(fs.as_ref())?);
        let ports = open_ports(options)?;
        logging::emit(&record(wal::exists(fs.as_ref(), &dirs.wal)));
        let observer = DiskObserver::new(stop.clone());
        let observers = Observers {
            backend: observer.clone(),
            wal: observer.clone(),
        };
        let boot = boot(&fs, &options.boot, &observers)?;
        let metrics = Arc::new(Metrics::new(SERVER_VERSION, boot.member_id));
        observer.set(&metrics);
        let running = launch(boot, &options.launch, &metrics, stop)?;
        log_started(&running.member);
        let failed = |error: std::io::Error| StartError::Failed(error.to_string());
        let serving = CancellationToken::new();
        let threads = Threads::start(options.frontends, serving.clone()).map_err(failed)?;
        let member = &running.member;
        let endpoints = Endpoints::new(
            Arc::clone(member),
            Arc::clone(&metrics),
            member.limits.request_timeout(),
        );
        let clients = ports.clients;
        let server = Self {
            running,
            threads,
            serving,
            metrics,
            endpoints,
            clients,
        };
        server
            .serve_others(options, ports.peers, ports.metrics)
            .map_err(failed)?;
        Ok(server)
    }

    /// Peers and scrapers are served at once.
    fn serve_others(
        &self,
        options: &ProgramOptions,
        peers: Vec<TcpListener>,
        metrics: Vec<TcpListener>,
    ) -> std::io::Result<()> {
        for listener in peers {
            tracing::info!(address = %listener.local_addr()?, "serving peer traffic");
            self.running.serve_peers(listener)?;
        }
        for listener in metrics {
            tracing::info!(address = %listener.local_addr()?, "serving metrics");
            let handler = MetricsHandler::new(Arc::clone(&self.endpoints));
            self.threads.serve(listener, handler, options.connection)?;
        }
        Ok(())
    }

    /// Clients are served once the cluster knows the member.
    fn serve_clients(&mut self, options: &ProgramOptions) -> std::io::Result<()> {
        let member = &self.running.member;
        let settings = Settings {
            max_request_bytes: member.limits.max_request_bytes,
            max_txn_ops: member.limits.max_txn_ops,
            election_timeout: member.limits.election_timeout,
            watch_progress_interval: options.watch_progress_interval,
        };
        let (metrics, serving) = (Arc::clone(&self.metrics), self.serving.clone());
        let services = Services::new(Arc::clone(member), settings, metrics, serving);
        for (listener, traffic) in std::mem::take(&mut self.clients) {
            let handler = ClientHandler::new(
                (traffic != Traffic::Http).then(|| Arc::clone(&services)),
                (traffic != Traffic::Grpc).then(|| Arc::clone(&self.endpoints)),
                Filter::new(options.cors.clone(), options.host_whitelist.clone(), false),
            );
            let address = listener.local_addr()?;
            tracing::info!("ready to serve client requests");
            tracing::info!(
                traffic = traffic.name(),
                %address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
            self.threads.serve(listener, handler, options.connection)?;
        }
        notify::ready();
        Ok(())
    }

    fn stop(self, options: &ProgramOptions) {
        let name = options.boot.name.clone();
        let data_dir = options.boot.data_dir.display().to_string();
        let peers: Vec<String> = options
            .boot
            .initial_advertise_peer_urls
            .iter()
            .map(ToString::to_string)
            .collect();
        tracing::info!(
            name,
            "data-dir" = data_dir,
            "advertise-peer-urls" = %logging::Json(&peers),
            "advertise-client-urls" = %logging::Json(&options.launch.advertise_client_urls),
            "closing etcd server"
        );
        let limit = self.running.member.limits.request_timeout();
        self.threads.stop(limit);
        self.running.hand_over_leadership();
        self.running.stop();
        tracing::info!(
            name,
            "data-dir" = data_dir,
            "advertise-peer-urls" = %logging::Json(&peers),
            "advertise-client-urls" = %logging::Json(&options.launch.advertise_client_urls),
            "closed etcd server"
        );
    }
}

/// Whether this is a new member, in etcd's two different wordings.
fn log_kind(dirs: &DataDir, kind: &str) {
    let data_dir = dirs.root.display().to_string();
    if kind == "empty" {
        tracing::info!(
            "data-dir" = data_dir,
            "dir-type" = kind,
            "Initialize and start etcd server"
        );
    } else {
        tracing::info!(
            "data-dir" = data_dir,
            "dir-type" = kind,
            "server has already been initialized"
        );
    }
}

fn log_started(member: &Member) {
    let version = member.membership().version();
    tracing::info!(
        "local-member-id" = %Hex(member.id),
        "local-server-version" = %server_version(),
        "cluster-id" = %Hex(member.cluster_id),
        "cluster-version" = version.map_or("to_be_decided".to_owned(), |v| v.to_string()),
        "starting etcd server"
    );
}

/// Opens every port before any file is touched. Peers come first, as in etcd.
fn open_ports(options: &ProgramOptions) -> Result<Ports, StartError> {
    let texts = |urls: &[Url]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    tracing::info!(
        "listen-peer-urls" = %logging::Json(texts(&options.listen_peer_urls)),
        "configuring peer listeners"
    );
    let mut peers = Vec::new();
    for url in &options.listen_peer_urls {
        peers.push(listen::listen(&url.host).map_err(|error| {
            tracing::error!(error, "creating peer listener failed");
            StartError::Failed(error)
        })?);
    }
    tracing::info!(
        "listen-client-urls" = %logging::Json(texts(&options.listen_client_urls)),
        "configuring client listeners"
    );
    let split = !options.listen_client_http_urls.is_empty();
    let traffic = if split { Traffic::Grpc } else { Traffic::Both };
    let mut clients = Vec::new();
    for url in &options.listen_client_urls {
        clients.push((
            listen::listen(&url.host).map_err(StartError::Failed)?,
            traffic,
        ));
    }
    for url in &options.listen_client_http_urls {
        clients.push((
            listen::listen(&url.host).map_err(StartError::Failed)?,
            Traffic::Http,
        ));
    }
    let metrics = options
        .listen_metrics_urls
        .iter()
        .map(|url| listen::listen(&url.host));
    let metrics = metrics
        .collect::<Result<_, _>>()
        .map_err(StartError::Failed)?;
    Ok(Ports {
        peers,
        clients,
        metrics,
    })
}

//! From the files of a data directory to the state a member starts from (docs/operations.md).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::etcdserverpb::Metadata;
use backend::Backend;
use cluster::{InitialCluster, Membership, Settings};
use consensus::Start;
use disk::Fs;
use gotext::Hex;
use prost::Message;
use wal::WalSnapshot;
use wal::snap::Snapshotter;

use super::{DataDir, StartError, checks};

/// What of the configuration decides about the files.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the flags of the same names
pub struct BootOptions {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub initial_cluster: String,
    pub initial_cluster_token: String,
    pub initial_advertise_peer_urls: Vec<gotext::Url>,
    /// `--initial-cluster-state` is `existing`.
    pub existing: bool,
    /// How long a connection to a member may take to be made.
    pub dial_timeout: Duration,
    pub quota_backend_bytes: i64,
    pub backend_batch_limit: usize,
    pub backend_batch_interval: Duration,
    pub bootstrap_defrag_threshold_bytes: u64,
    pub max_learners: usize,
    pub unsafe_no_fsync: bool,
    pub memory_mlock: bool,
}

/// Who is told of what the storage layers measure.
#[derive(Clone)]
pub struct Observers {
    /// Of the database.
    pub backend: Arc<dyn backend::Observer>,
    /// Of the WAL and of snapshot files.
    pub wal: Arc<dyn wal::Observer>,
}

/// A member's state, read from its files or made for a new cluster.
pub struct Boot {
    /// Where the files are.
    pub dirs: DataDir,
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Whether there was a log already.
    pub initialized: bool,
    /// The database.
    pub backend: Arc<Backend>,
    /// Its write side.
    pub db: backend::Writer,
    /// The log, ready to be appended to.
    pub wal: wal::Wal,
    /// Reads and writes `.snap` files.
    pub snapshotter: Snapshotter,
    /// Members and versions as of the database.
    pub membership: Membership,
    /// The members to talk to from the beginning on, this one included.
    pub peers: Vec<cluster::Member>,
    /// What consensus starts from.
    pub start: Start,
}

/// Address space mapped for the database unless the quota says otherwise.
const INITIAL_MMAP: u64 = 10 << 30;
const DEFAULT_QUOTA: i64 = 2 << 30;

/// Opens the data directory or creates it for a new cluster.
pub fn boot(
    fs: &Arc<dyn Fs>,
    options: &BootOptions,
    observers: &Observers,
) -> Result<Boot, StartError> {
    let dirs = DataDir::new(&options.data_dir, options.wal_dir.as_deref());
    dirs.prepare(fs.as_ref())?;
    let initialized = wal::exists(fs.as_ref(), &dirs.wal);
    let origin = if initialized {
        Origin::Files
    } else if options.existing {
        super::join::existing_cluster(options)?
    } else {
        let founders = founding_members(options)?;
        super::join::not_bootstrapped(options, &founders)?;
        Origin::Founders(founders)
    };
    let had_database = fs.exists(&dirs.db());
    let snapshotter = Snapshotter::new(Arc::clone(fs), &dirs.snap, Arc::clone(&observers.wal));

    let snapshot = if initialized {
        newest_snapshot(fs, &dirs)?
    } else {
        WalSnapshot::default()
    };
    checks::database_is_there(fs.as_ref(), &dirs, &snapshot)?;
    let (mut backend, mut db) = open_backend(fs, &dirs, options, observers)?;
    if !initialized {
        checks::no_foreign_database(&dirs, &backend)?;
    }
    let index = backend.position().map_or(0, |p| p.index);
    tracing::info!(index, "restore consistentIndex");
    if had_database && snapshot.index > index {
        (backend, db) = adopt_snapshot_db(
            fs,
            &dirs,
            options,
            observers,
            &snapshotter,
            (backend, db),
            &snapshot,
        )?;
    }
    let size = backend.size();
    let in_use = backend.size_in_use();
    tracing::info!(
        "backend-size-bytes" = size,
        "backend-size" = %backend::human_bytes(size),
        "backend-size-in-use-bytes" = in_use,
        "backend-size-in-use" = %backend::human_bytes(in_use),
        "recovered v3 backend"
    );
    check_storage_version(&backend, had_database)?;
    let opened = Opened {
        fs,
        dirs: &dirs,
        options,
        observers,
        backend: &backend,
    };
    let (wal, member_id, cluster_id, membership, start) = match &origin {
        Origin::Files => opened.restart(&snapshot)?,
        Origin::Founders(founders) => opened.found(founders)?,
        Origin::Existing {
            cluster_id,
            members,
        } => opened.join(*cluster_id, members)?,
    };
    let peers = match origin {
        Origin::Files => membership.members().cloned().collect(),
        Origin::Founders(members) | Origin::Existing { members, .. } => members,
    };
    Ok(Boot {
        dirs,
        member_id,
        cluster_id,
        initialized,
        backend,
        db,
        wal,
        snapshotter,
        membership,
        peers,
        start,
    })
}

/// Where a member's identity comes from.
pub(super) enum Origin {
    /// From its own files.
    Files,
    /// It founds a cluster with these members.
    Founders(Vec<cluster::Member>),
    /// It joins a cluster that has these members already.
    Existing {
        cluster_id: u64,
        members: Vec<cluster::Member>,
    },
}

/// The members of a new cluster, checked as far as that goes without asking them.
pub(super) fn founding_members(options: &BootOptions) -> Result<Vec<cluster::Member>, StartError> {
    let failed = |error: String| {
        tracing::error!(%error, "bootstrap failed");
        StartError::Failed(error)
    };
    let cluster = InitialCluster::parse(&options.initial_cluster)
        .map_err(|e| failed(format!("error setting up initial cluster: {e}")))?;
    cluster
        .verify_bootstrap(
            &options.name,
            &options.initial_advertise_peer_urls,
            false,
            &mut super::resolve::same_urls,
        )
        .map_err(|e| failed(e.to_string()))?;
    cluster
        .members(&options.initial_cluster_token)
        .map_err(|e| failed(e.to_string()))
}

fn wal_fatal(error: &wal::Error) -> StartError {
    if error.is_unexpected_eof() {
        return StartError::Fatal {
            message: "failed to repair WAL",
            error: error.to_string(),
        };
    }
    StartError::Fatal {
        message: "failed to read WAL, cannot be repaired",
        error: error.to_string(),
    }
}

/// The newest snapshot the log vouches for; the zero one when there is none beside the first.
fn newest_snapshot(fs: &Arc<dyn Fs>, dirs: &DataDir) -> Result<WalSnapshot, StartError> {
    let snapshots = wal::valid_snapshots(fs.as_ref(), &dirs.wal).map_err(|error| {
        tracing::error!(%error, "bootstrap failed");
        StartError::Failed(error.to_string())
    })?;
    match snapshots.last() {
        Some(snapshot) => Ok(snapshot.clone()),
        None => {
            tracing::info!("No snapshot found. Recovering WAL from scratch!");
            Ok(WalSnapshot::default())
        }
    }
}

fn open_backend(
    fs: &Arc<dyn Fs>,
    dirs: &DataDir,
    options: &BootOptions,
    observers: &Observers,
) -> Result<(Arc<Backend>, backend::Writer), StartError> {
    let quota = options.quota_backend_bytes;
    let initial_mmap = if quota > 0 && quota != DEFAULT_QUOTA {
        (quota as u64).saturating_add(quota as u64 / 10)
    } else {
        INITIAL_MMAP
    };
    let mut config = backend::Config::new(dirs.db());
    if options.backend_batch_limit > 0 {
        config.batch_limit = options.backend_batch_limit;
    }
    if !options.backend_batch_interval.is_zero() {
        config.batch_interval = options.backend_batch_interval;
    }
    config.bbolt.initial_mmap = initial_mmap;
    config.bbolt.no_sync = options.unsafe_no_fsync;
    config.bbolt.mlock = options.memory_mlock;
    config.observer = Some(Arc::clone(&observers.backend));
    let path = config.path.display().to_string();
    let panic = |error: backend::Error| {
        tracing::error!(path, %error, "failed to open database");
        StartError::Panic {
            message: "failed to open database".into(),
            error: error.to_string(),
        }
    };
    let (backend, writer) = backend::open(Arc::clone(fs), config).map_err(panic)?;
    if options.bootstrap_defrag_threshold_bytes > 0 {
        backend
            .defrag_if(options.bootstrap_defrag_threshold_bytes)
            .map_err(|error| StartError::Failed(error.to_string()))?;
    }
    Ok((backend, writer))
}

/// The log begins behind what the database holds: a received database that was not taken over before
/// the member stopped must be there, and replaces it.
fn adopt_snapshot_db(
    fs: &Arc<dyn Fs>,
    dirs: &DataDir,
    options: &BootOptions,
    observers: &Observers,
    snapshotter: &Snapshotter,
    old: (Arc<Backend>, backend::Writer),
    snapshot: &WalSnapshot,
) -> Result<(Arc<Backend>, backend::Writer), StartError> {
    let index = old.0.position().map_or(0, |p| p.index);
    let panic = |error: String| {
        tracing::warn!(
            "snapshot-index" = snapshot.index,
            "failed to find [SNAPSHOT-INDEX].snap.db"
        );
        StartError::Panic {
            message: "failed to recover v3 backend from snapshot".into(),
            error: format!("failed to find database snapshot file ({error})"),
        }
    };
    let received = snapshotter
        .find_db(snapshot.index)
        .map_err(|e| panic(e.to_string()))?;
    tracing::info!(
        "consistent-index" = index,
        "snapshot-index" = snapshot.index,
        "Recovering from snapshot backend"
    );
    old.0
        .close()
        .map_err(|e| StartError::Failed(e.to_string()))?;
    drop(old);
    fs.rename(&received, &dirs.db())
        .and_then(|()| fs.sync_dir(&dirs.snap))
        .map_err(|e| panic(e.to_string()))?;
    open_backend(fs, dirs, options, observers)
}

fn check_storage_version(backend: &Backend, had_database: bool) -> Result<(), StartError> {
    if !had_database {
        return Ok(());
    }
    match cluster::detect_storage_version(backend) {
        Ok(version) => {
            cluster::check_storage_version(version, super::server_version()).map_err(|error| {
                tracing::error!(%error, "bootstrap failed");
                StartError::Failed(error.to_string())
            })
        }
        Err(error) => {
            tracing::warn!(
                %error,
                "Failed to detect storage schema version. Please wait till wal snapshot before \
                 upgrading cluster."
            );
            Ok(())
        }
    }
}

struct Opened<'a> {
    fs: &'a Arc<dyn Fs>,
    dirs: &'a DataDir,
    options: &'a BootOptions,
    observers: &'a Observers,
    backend: &'a Backend,
}

type Identity = (wal::Wal, u64, u64, Membership, Start);

impl Opened<'_> {
    fn wal_options(&self) -> wal::Options {
        wal::Options {
            no_sync: self.options.unsafe_no_fsync,
            observer: Arc::clone(&self.observers.wal),
            ..wal::Options::default()
        }
    }

    fn settings(&self, local_id: u64, cluster_id: u64) -> Settings {
        Settings {
            local_id,
            cluster_id,
            max_learners: self.options.max_learners,
            server_version: super::server_version(),
        }
    }

    /// Founds a new cluster: identity from the initial cluster, its members as the log's first entries.
    fn found(&self, founders: &[cluster::Member]) -> Result<Identity, StartError> {
        let ids: Vec<u64> = founders.iter().map(|m| m.id).collect();
        let cluster_id = cluster::cluster_id(&ids);
        let member_id = founders
            .iter()
            .find(|m| m.name == self.options.name)
            .map(|m| m.id)
            .expect("the initial cluster was checked to name this member");
        let metadata = Metadata {
            node_id: member_id,
            cluster_id,
        }
        .encode_to_vec();
        let mut wal = wal::Wal::create(
            Arc::clone(self.fs),
            &self.dirs.wal,
            &metadata,
            self.wal_options(),
        )
        .map_err(|e| cannot_create_wal(&e))?;
        let start = write_founders(&mut wal, founders)?;
        tracing::info!(
            "local-member-id" = %Hex(member_id),
            "cluster-id" = %Hex(cluster_id),
            "starting local member"
        );
        let membership = Membership::new(self.settings(member_id, cluster_id));
        Ok((wal, member_id, cluster_id, membership, start))
    }

    /// Becomes a member of a cluster that is there: its log, and with it the members, come from the leader.
    fn join(&self, cluster_id: u64, members: &[cluster::Member]) -> Result<Identity, StartError> {
        let member_id = members
            .iter()
            .find(|m| m.name == self.options.name)
            .map(|m| m.id)
            .expect("the initial cluster was checked to name this member");
        let metadata = Metadata {
            node_id: member_id,
            cluster_id,
        }
        .encode_to_vec();
        let wal = wal::Wal::create(
            Arc::clone(self.fs),
            &self.dirs.wal,
            &metadata,
            self.wal_options(),
        )
        .map_err(|e| cannot_create_wal(&e))?;
        tracing::info!(
            "local-member-id" = %Hex(member_id),
            "cluster-id" = %Hex(cluster_id),
            "joining cluster"
        );
        let membership = Membership::new(self.settings(member_id, cluster_id));
        Ok((wal, member_id, cluster_id, membership, Start::default()))
    }

    /// The founders to write again, if the process that founded this cluster ended after the log was created and
    /// before its first entries were durable. Such a log has no members and could never elect a leader.
    ///
    /// A member that was to join a cluster and has heard of nobody yet has such a log too, but other ids in it.
    fn interrupted_founding(
        &self,
        metadata: &Metadata,
        recovered: &wal::Recovered,
    ) -> Result<Option<Vec<cluster::Member>>, StartError> {
        let untouched = recovered.snapshot.index == 0
            && recovered.hard_state.commit == 0
            && self.backend.position().is_none();
        if !untouched || self.options.existing {
            return Ok(None);
        }
        let founders = founding_members(self.options)?;
        let ids: Vec<u64> = founders.iter().map(|m| m.id).collect();
        let ours =
            ids.contains(&metadata.node_id) && cluster::cluster_id(&ids) == metadata.cluster_id;
        Ok(ours.then_some(founders))
    }

    /// Goes on where the files end: identity from the log, members from the database.
    fn restart(&self, snapshot: &WalSnapshot) -> Result<Identity, StartError> {
        let began = Instant::now();
        let (mut wal, recovered) = wal::Wal::open(
            Arc::clone(self.fs),
            &self.dirs.wal,
            snapshot,
            self.wal_options(),
        )
        .map_err(|e| wal_fatal(&e))?;
        let metadata =
            Metadata::decode(recovered.metadata.as_slice()).map_err(|error| StartError::Fatal {
                message: "failed to read WAL, cannot be repaired",
                error: error.to_string(),
            })?;
        let (member_id, cluster_id) = (metadata.node_id, metadata.cluster_id);
        if let Some(founders) = self.interrupted_founding(&metadata, &recovered)? {
            let start = write_founders(&mut wal, &founders)?;
            let membership = Membership::new(self.settings(member_id, cluster_id));
            return Ok((wal, member_id, cluster_id, membership, start));
        }
        let membership = Membership::load(self.settings(member_id, cluster_id), self.backend)
            .map_err(|e| fatal(&e))?;
        tracing::info!(
            "cluster-id" = %Hex(cluster_id),
            "local-member-id" = %Hex(member_id),
            "commit-index" = recovered.hard_state.commit,
            "restarting local member"
        );
        tracing::debug!(took = ?began.elapsed(), entries = recovered.entries.len(), "read WAL");
        membership.log_recovered();
        let index = self.backend.position().map_or(0, |p| p.index);
        let start = Start::recovered(recovered, membership.conf_state(), index);
        Ok((wal, member_id, cluster_id, membership, start))
    }
}

fn cannot_create_wal(error: &wal::Error) -> StartError {
    StartError::Fatal {
        message: "failed to create WAL",
        error: error.to_string(),
    }
}

/// Makes the first entries of a new cluster durable: its founding members.
fn write_founders(wal: &mut wal::Wal, founders: &[cluster::Member]) -> Result<Start, StartError> {
    let mut contexts: Vec<_> = founders
        .iter()
        .map(|m| (m.id, bytes::Bytes::from(m.to_json())))
        .collect();
    contexts.sort_unstable_by_key(|(id, _)| *id);
    let start = Start::bootstrap(&contexts);
    wal.save(Some(&start.hard_state), &start.entries)
        .map_err(|e| cannot_create_wal(&e))?;
    Ok(start)
}

/// What etcd ends with when the membership in the database is beyond it.
fn fatal(error: &cluster::FatalError) -> StartError {
    StartError::Panic {
        message: error.to_string(),
        error: String::new(),
    }
}

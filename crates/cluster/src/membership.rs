use std::collections::{BTreeMap, BTreeSet};

use api::raftpb::ConfState;
use backend::Bucket;
use bytes::Bytes;
use gotext::Hex;
use logging::Json;
use tracing::{error, info, warn};

use crate::{
    Change, Downgrade, Effect, Error, FatalError, Member, Persist, Source, SourceError, Version,
};

const CLUSTER_VERSION_KEY: &str = "clusterVersion";
const DOWNGRADE_KEY: &str = "downgrade";
const REMOVED_VALUE: &str = "removed";

/// What does not come from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Id of this member.
    pub local_id: u64,
    /// Id of the cluster.
    pub cluster_id: u64,
    /// `--max-learners`; must be the same on all members, or they judge a change differently.
    pub max_learners: usize,
    /// Version of this program.
    pub server_version: Version,
}

/// Members, removed ids, cluster version and downgrade job, as the log has made them so far.
///
/// The apply thread owns it and applies entries in order; everybody else gets clones. Memory and
/// backend say the same at every entry boundary above the consistent index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    settings: Settings,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    version: Option<Version>,
    downgrade: Downgrade,
}

/// How the cluster version moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionChange {
    /// What it was.
    pub from: Option<Version>,
    /// What it is.
    pub to: Version,
}

impl VersionChange {
    /// Whether the version went down, so that a disk snapshot must be forced: only then can the
    /// storage follow.
    pub fn is_downgrade(&self) -> bool {
        self.from.is_some_and(|from| self.to < from)
    }
}

/// What became of a member's published attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributesOutcome {
    /// Name and client URLs are replaced.
    Updated,
    /// The member was removed in the meantime; nothing happens.
    MemberRemoved,
}

impl Membership {
    /// A cluster nobody has joined yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            version: None,
            downgrade: Downgrade::default(),
        }
    }

    /// What the backend holds, at start or after a snapshot from the leader. Fails when a record is
    /// damaged or the cluster works at a version above this program's.
    pub fn load(settings: Settings, source: &dyn Source) -> Result<Self, FatalError> {
        let mut loaded = Self::new(settings);
        loaded.load_members(source)?;
        loaded.load_removed(source)?;
        if let Some(value) = get(source, Bucket::Cluster, CLUSTER_VERSION_KEY)? {
            let text = String::from_utf8_lossy(&value);
            let version = text
                .parse()
                .map_err(|_| FatalError::BadVersion(text.clone().into_owned()))?;
            loaded.check_server_version(version)?;
            loaded.version = Some(version);
        }
        if let Some(value) = get(source, Bucket::Cluster, DOWNGRADE_KEY)? {
            loaded.downgrade = Downgrade::from_json(&value)
                .map_err(|cause| bad_record(Bucket::Cluster, DOWNGRADE_KEY.as_bytes(), cause))?;
        }
        Ok(loaded)
    }

    fn load_members(&mut self, source: &dyn Source) -> Result<(), FatalError> {
        let mut failed = None;
        let visit = &mut |key: &[u8], value: &[u8]| match read_member(key, value) {
            Ok(member) => {
                self.members.insert(member.id, member);
            }
            Err(cause) => failed = Some(bad_record(Bucket::Members, key, cause)),
        };
        source
            .for_each(Bucket::Members, visit)
            .map_err(|e| read_error(&e))?;
        failed.map_or(Ok(()), Err)
    }

    fn load_removed(&mut self, source: &dyn Source) -> Result<(), FatalError> {
        let mut failed = None;
        let visit = &mut |key: &[u8], _: &[u8]| match read_id(key) {
            Some(id) => {
                self.removed.insert(id);
            }
            None => failed = Some(bad_record(Bucket::MembersRemoved, key, "no id".to_owned())),
        };
        source
            .for_each(Bucket::MembersRemoved, visit)
            .map_err(|e| read_error(&e))?;
        failed.map_or(Ok(()), Err)
    }

    /// Logs what was loaded, the way etcd does at start.
    pub fn log_recovered(&self) {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        for member in self.members.values() {
            info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "recovered-remote-peer-id" = %Hex(member.id),
                "recovered-remote-peer-urls" = %Json(&member.peer_urls),
                "recovered-remote-peer-is-learner" = member.is_learner,
                "recovered/added member from store"
            );
        }
        if let Some(version) = self.version {
            let version = short(version);
            info!("cluster-version" = %version, "set cluster version from store");
        }
    }

    /// Id of this member.
    pub fn local_id(&self) -> u64 {
        self.settings.local_id
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> u64 {
        self.settings.cluster_id
    }

    /// The values given at creation.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// One member.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// This member, once the log has added it.
    pub fn local(&self) -> Option<&Member> {
        self.member(self.settings.local_id)
    }

    /// All members in the order of their ids.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = &Member> + Clone {
        self.members.values()
    }

    /// Members with a vote, in the order of their ids.
    pub fn voters(&self) -> impl DoubleEndedIterator<Item = &Member> + Clone {
        self.members().filter(|m| !m.is_learner)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the log has added nobody yet.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Ids that must never come back.
    pub fn removed(&self) -> impl Iterator<Item = u64> + '_ {
        self.removed.iter().copied()
    }

    /// Whether the id belonged to a member that was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The version the cluster works at; `None` until the leader has set one.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The downgrade job.
    pub fn downgrade(&self) -> Downgrade {
        self.downgrade
    }

    /// Voters and learners as raft needs them at start.
    pub fn conf_state(&self) -> ConfState {
        let ids = |learner: bool| {
            self.members()
                .filter(move |m| m.is_learner == learner)
                .map(|m| m.id)
                .collect()
        };
        ConfState {
            voters: ids(false),
            learners: ids(true),
            ..ConfState::default()
        }
    }

    /// The body of `/members`: a JSON list in the order of the ids, without a newline.
    pub fn members_json(&self) -> String {
        Member::list_to_json(self.members())
    }

    /// Judges a change; the answer is the same on every member with the same `--max-learners`.
    pub fn validate(&self, change: &Change) -> Result<(), Error> {
        let id = change.member_id();
        if self.is_removed(id) {
            return Err(Error::IdRemoved);
        }
        let known = self.members.get(&id);
        match change {
            Change::Add { member, as_learner } => {
                if known.is_some() {
                    return Err(Error::IdExists);
                }
                self.check_urls(id, &member.peer_urls)?;
                let learners = self.members().filter(|m| m.is_learner).count();
                if *as_learner && learners >= self.settings.max_learners {
                    return Err(Error::TooManyLearners);
                }
                Ok(())
            }
            Change::Promote(_) => {
                let member = known.ok_or(Error::IdNotFound)?;
                if member.is_learner {
                    Ok(())
                } else {
                    Err(Error::NotLearner)
                }
            }
            Change::Remove(_) => known.map(|_| ()).ok_or(Error::IdNotFound),
            Change::Update { peer_urls, .. } => {
                known.ok_or(Error::IdNotFound)?;
                self.check_urls(id, peer_urls)
            }
        }
    }

    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let mut others = self
            .members()
            .filter(|m| m.id != id)
            .flat_map(|m| &m.peer_urls);
        if others.any(|used| urls.contains(used)) {
            Err(Error::PeerUrlExists)
        } else {
            Ok(())
        }
    }

    /// Carries a change out.
    ///
    /// With [`Persist::Backend`] it must have passed [`Membership::validate`] and raft must already
    /// have taken it. With [`Persist::MemoryOnly`] (a replayed entry) members are not added, removed
    /// promoted or given other addresses again — memory was loaded from a backend that knows the end of
    /// the story — but the effect on connections is reported all the same.
    pub fn apply(&mut self, change: &Change, mut persist: Persist<'_>) -> Effect {
        match change {
            Change::Add { member, .. } => self.add(member, &mut persist),
            Change::Promote(id) => self.promote(*id, &mut persist),
            Change::Remove(id) => self.remove(*id, &mut persist),
            Change::Update { id, peer_urls } => self.update(*id, peer_urls, &mut persist),
        }
    }

    fn add(&mut self, member: &Member, persist: &mut Persist<'_>) -> Effect {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        if persist.is_memory_only() {
            info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "added-peer-id" = %Hex(member.id),
                "added-peer-peer-urls" = %Json(&member.peer_urls),
                "added-peer-is-learner" = member.is_learner,
                "ignore already added member"
            );
        } else {
            self.members.insert(member.id, member.clone());
            save(member, persist);
            info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "added-peer-id" = %Hex(member.id),
                "added-peer-peer-urls" = %Json(&member.peer_urls),
                "added-peer-is-learner" = member.is_learner,
                "added member"
            );
        }
        if member.id == local_id {
            Effect::None
        } else {
            Effect::AddPeer(member.clone())
        }
    }

    fn promote(&mut self, id: u64, persist: &mut Persist<'_>) -> Effect {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        let message = match self.members.get_mut(&id) {
            Some(member) if !persist.is_memory_only() => {
                member.is_learner = false;
                save(member, persist);
                "promote member"
            }
            _ => "ignore already promoted member",
        };
        info!(
            "cluster-id" = %Hex(cluster_id),
            "local-member-id" = %Hex(local_id),
            "promoted-member-id" = %Hex(id),
            "{message}"
        );
        Effect::None
    }

    fn remove(&mut self, id: u64, persist: &mut Persist<'_>) -> Effect {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        if persist.is_memory_only() {
            info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "removed-remote-peer-id" = %Hex(id),
                "ignore already removed member"
            );
        } else {
            let member = self.members.remove(&id).unwrap_or_default();
            self.removed.insert(id);
            persist.delete(Bucket::Members, &Hex(id).to_string());
            persist.put(
                Bucket::MembersRemoved,
                Hex(id).to_string(),
                REMOVED_VALUE.to_owned(),
            );
            info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "removed-remote-peer-id" = %Hex(id),
                "removed-remote-peer-urls" = %Json(&member.peer_urls),
                "removed-remote-peer-is-learner" = member.is_learner,
                "removed member"
            );
        }
        if id == local_id {
            Effect::RemovedSelf
        } else {
            Effect::RemovePeer(id)
        }
    }

    fn update(&mut self, id: u64, peer_urls: &[String], persist: &mut Persist<'_>) -> Effect {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        // A replayed update may be about a member that was removed later.
        let Some(member) = self.members.get_mut(&id) else {
            return Effect::None;
        };
        // Memory was loaded from a backend that knows the last update. A replayed one may even be one that was
        // refused when its turn was, because the member did not exist yet.
        let message = if persist.is_memory_only() {
            "ignore already updated member"
        } else {
            member.peer_urls = peer_urls.to_vec();
            save(member, persist);
            "updated member"
        };
        info!(
            "cluster-id" = %Hex(cluster_id),
            "local-member-id" = %Hex(local_id),
            "updated-remote-peer-id" = %Hex(id),
            "updated-remote-peer-urls" = %Json(&member.peer_urls),
            "updated-remote-peer-is-learner" = member.is_learner,
            "{message}"
        );
        if id == local_id {
            Effect::None
        } else {
            Effect::UpdatePeer(member.clone())
        }
    }

    /// A member has published its name and client URLs.
    pub fn set_attributes(
        &mut self,
        id: u64,
        name: &str,
        client_urls: &[String],
        mut persist: Persist<'_>,
    ) -> Result<AttributesOutcome, FatalError> {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        if let Some(member) = self.members.get_mut(&id) {
            name.clone_into(&mut member.name);
            member.client_urls = client_urls.to_vec();
            save(member, &mut persist);
            return Ok(AttributesOutcome::Updated);
        }
        if self.is_removed(id) {
            warn!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "unknown-remote-peer-id" = %Hex(id),
                "skipped attributes update of removed member"
            );
            return Ok(AttributesOutcome::MemberRemoved);
        }
        error!(
            "cluster-id" = %Hex(cluster_id),
            "local-member-id" = %Hex(local_id),
            "unknown-remote-peer-id" = %Hex(id),
            "failed to update; member unknown"
        );
        Err(FatalError::MemberUnknown(id))
    }

    /// The cluster agrees on a version, given as text in the log.
    pub fn set_version(
        &mut self,
        text: &str,
        mut persist: Persist<'_>,
    ) -> Result<VersionChange, FatalError> {
        let Settings {
            local_id,
            cluster_id,
            ..
        } = self.settings;
        let to: Version = text
            .parse()
            .map_err(|_| FatalError::BadVersion(text.to_owned()))?;
        let from = self.version;
        match from {
            Some(from) => info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                from = %short(from),
                to = %short(to),
                "updated cluster version"
            ),
            None => info!(
                "cluster-id" = %Hex(cluster_id),
                "local-member-id" = %Hex(local_id),
                "cluster-version" = %short(to),
                "set initial cluster version"
            ),
        }
        self.check_server_version(to)?;
        self.version = Some(to);
        persist.put(
            Bucket::Cluster,
            CLUSTER_VERSION_KEY.to_owned(),
            to.to_string(),
        );
        Ok(VersionChange { from, to })
    }

    /// The cluster begins (`enabled`) or ends a downgrade job.
    pub fn set_downgrade(
        &mut self,
        enabled: bool,
        target: &str,
        mut persist: Persist<'_>,
    ) -> Result<Downgrade, FatalError> {
        let downgrade = if enabled {
            let target = target
                .parse()
                .map_err(|_| FatalError::BadVersion(target.to_owned()))?;
            Downgrade::to(target)
        } else {
            Downgrade::default()
        };
        self.downgrade = downgrade;
        persist.put(
            Bucket::Cluster,
            DOWNGRADE_KEY.to_owned(),
            downgrade.to_json(),
        );
        if let Some(target) = downgrade.target() {
            info!(
                "target-cluster-version" = %target,
                "current-server-version" = %self.settings.server_version,
                "cluster is downgrading to target version"
            );
        }
        Ok(downgrade)
    }

    fn check_server_version(&self, cluster: Version) -> Result<(), FatalError> {
        let server = self.settings.server_version;
        if cluster.cluster() <= server.cluster() {
            return Ok(());
        }
        error!(
            "current-server-version" = %server,
            "determined-cluster-version" = %short(cluster),
            "invalid downgrade; server version is lower than determined cluster version"
        );
        Err(FatalError::ServerTooOld { server, cluster })
    }

    /// The cluster as Go prints it inside error texts.
    pub(crate) fn describe<'a>(
        cluster_id: u64,
        members: impl Iterator<Item = &'a Member>,
    ) -> String {
        let members: Vec<String> = members.map(Member::go_text).collect();
        format!(
            "{{ClusterID:{cluster_id:x} Members:[{}] RemovedMemberIDs:[]}}",
            members.join(" ")
        )
    }
}

/// Cluster versions appear in logs without their patch.
fn short(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

fn save(member: &Member, persist: &mut Persist<'_>) {
    persist.put(
        Bucket::Members,
        Hex(member.id).to_string(),
        member.to_json(),
    );
}

fn get(source: &dyn Source, bucket: Bucket, key: &str) -> Result<Option<Bytes>, FatalError> {
    source
        .get(bucket, key.as_bytes())
        .map_err(|e| read_error(&e))
}

fn read_error(error: &SourceError) -> FatalError {
    FatalError::Read(error.to_string())
}

fn read_id(key: &[u8]) -> Option<u64> {
    Hex::parse(std::str::from_utf8(key).ok()?)
}

fn read_member(key: &[u8], value: &[u8]) -> Result<Member, String> {
    let id = read_id(key).ok_or("no id")?;
    let member = Member::from_json(value)?;
    if member.id == id {
        Ok(member)
    } else {
        Err("record of another member".to_owned())
    }
}

fn bad_record(bucket: Bucket, key: &[u8], cause: String) -> FatalError {
    let key = String::from_utf8_lossy(key).into_owned();
    FatalError::BadRecord {
        bucket: bucket.name(),
        key,
        cause,
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;

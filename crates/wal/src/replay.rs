//! From records to the state of the log: the rules by which later records override earlier ones.

use std::path::Path;

use api::raftpb::{Entry, HardState};
use disk::{Fs, LockKind, OpenOptions};
use prost::Message;

use crate::error::At;
use crate::frame::kind;
use crate::names::{SegmentName, list_segments};
use crate::reader::{Decoder, Source};
use crate::{Error, WalSnapshot};

/// What a log says from a snapshot on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The metadata record, as it was written (an encoded `etcdserverpb.Metadata`: node id and
    /// cluster id). Empty if the log has none, which only a damaged one does.
    pub metadata: Vec<u8>,
    /// The last hard state, zeros if there is none.
    pub hard_state: HardState,
    /// The entries after the snapshot, without gaps.
    pub entries: Vec<Entry>,
    /// The snapshot replay was started from.
    pub snapshot: WalSnapshot,
}

/// A segment that replay needs.
#[derive(Debug)]
pub(crate) struct Opened {
    pub name: SegmentName,
    pub source: Source,
}

/// Opens the segments from the one that holds `index` on. With `write`, each is locked against other
/// processes.
pub(crate) fn open_segments(
    fs: &dyn Fs,
    dir: &Path,
    index: u64,
    write: bool,
) -> Result<Vec<Opened>, Error> {
    let names = list_segments(fs, dir)?;
    let first = names
        .iter()
        .rposition(|(name, _)| name.index <= index)
        .ok_or(Error::FileNotFoundForIndex(index))?;
    let names = &names[first..];
    let start = names[0].0.seq;
    for pair in names.windows(2) {
        let (before, after) = (pair[0].0.seq, pair[1].0.seq);
        // etcd does not check what follows sequence number 0.
        if before != 0 && before.checked_add(1) != Some(after) {
            return Err(Error::NotContinuous(start));
        }
    }
    names
        .iter()
        .map(|(name, text)| open_one(fs, &dir.join(text), *name, write))
        .collect()
}

fn open_one(fs: &dyn Fs, path: &Path, name: SegmentName, write: bool) -> Result<Opened, Error> {
    let options = if write {
        OpenOptions::write()
    } else {
        OpenOptions::read()
    };
    let file = fs.open(path, options).at(path)?;
    if write {
        match file.try_lock(LockKind::OpenFileWrite) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(Error::Locked),
            other => other.at(path)?,
        }
    }
    Ok(Opened {
        name,
        source: Source {
            file,
            path: path.to_path_buf(),
        },
    })
}

/// All segments of a directory in order, without a check of their sequence.
fn all_segments(fs: &dyn Fs, dir: &Path) -> Result<Vec<Source>, Error> {
    let open = |(name, text): (SegmentName, String)| {
        open_one(fs, &dir.join(text), name, false).map(|opened| opened.source)
    };
    list_segments(fs, dir)?.into_iter().map(open).collect()
}

/// Whether the log may end inside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It must not: it will be written to.
    Clean,
    /// It may: another process could be writing, or the caller only looks.
    MayBeTorn,
}

/// What replay collects.
#[derive(Debug)]
pub(crate) struct Replay {
    pub recovered: Recovered,
    metadata_seen: bool,
    /// Whether the snapshot replay was started from is in the log.
    pub matched: bool,
    /// Index of the last entry record.
    pub last_index: u64,
    keep_entries: bool,
}

impl Replay {
    pub fn new(start: &WalSnapshot, keep_entries: bool) -> Self {
        let recovered = Recovered {
            snapshot: start.clone(),
            ..Recovered::default()
        };
        let last_index = start.index;
        Self {
            recovered,
            metadata_seen: false,
            matched: false,
            last_index,
            keep_entries,
        }
    }

    /// Whether the log has a metadata record.
    pub fn has_metadata(&self) -> bool {
        self.metadata_seen
    }

    /// Reads to the end.
    pub fn run(&mut self, decoder: &mut Decoder, end: End) -> Result<(), Error> {
        loop {
            match self.step(decoder) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) if end == End::MayBeTorn && e.is_unexpected_eof() => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes one record; false at the end.
    fn step(&mut self, decoder: &mut Decoder) -> Result<bool, Error> {
        let Some(record) = decoder.next()? else {
            return Ok(false);
        };
        match record.kind {
            kind::CRC => {}
            kind::METADATA => {
                if self.metadata_seen && self.recovered.metadata != record.data {
                    return Err(Error::MetadataConflict);
                }
                if !self.metadata_seen {
                    self.recovered.metadata = record.data.to_vec();
                    self.metadata_seen = true;
                }
            }
            kind::ENTRY if !self.keep_entries => {}
            kind::ENTRY => match Entry::decode(record.data) {
                Ok(entry) => self.entry(entry)?,
                Err(_) => return Err(decoder.malformed_last("entry")),
            },
            kind::STATE => match HardState::decode(record.data) {
                Ok(state) => self.recovered.hard_state = state,
                Err(_) => return Err(decoder.malformed_last("hard state")),
            },
            kind::SNAPSHOT => match WalSnapshot::decode(record.data) {
                Ok(snapshot) => self.snapshot(&snapshot)?,
                Err(_) => return Err(decoder.malformed_last("snapshot")),
            },
            other => return Err(Error::UnexpectedType(other)),
        }
        Ok(true)
    }

    /// A later entry replaces the one of its index and all after it: a new leader wrote them.
    fn entry(&mut self, entry: Entry) -> Result<(), Error> {
        let start = &self.recovered.snapshot;
        self.last_index = entry.index;
        if entry.index <= start.index {
            return Ok(());
        }
        let offset = entry.index - start.index - 1;
        let entries = &mut self.recovered.entries;
        if offset > entries.len() as u64 {
            return Err(Error::SliceOutOfRange {
                start_index: start.index,
                start_term: start.term,
                index: entry.index,
                term: entry.term,
                collected: entries.len(),
            });
        }
        entries.truncate(offset as usize);
        entries.push(entry);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &WalSnapshot) -> Result<(), Error> {
        let start = &self.recovered.snapshot;
        if snapshot.index == start.index {
            if snapshot.term != start.term {
                return Err(Error::SnapshotMismatch);
            }
            self.matched = true;
        }
        Ok(())
    }
}

/// Reads a log from `start` on without locking, repairing or changing anything. A torn end is taken
/// as the end.
///
/// [`Error::SnapshotNotFound`] if the log has no record of `start`.
pub fn read_only(fs: &dyn Fs, dir: &Path, start: &WalSnapshot) -> Result<Recovered, Error> {
    let (recovered, matched) = read(fs, dir, start, true)?;
    if matched {
        Ok(recovered)
    } else {
        Err(Error::SnapshotNotFound)
    }
}

/// Like [`read_only`], but without the entries: checks the checksums, that all segments have the same
/// metadata and that `start` is in the log, and gives the last hard state.
pub fn verify(fs: &dyn Fs, dir: &Path, start: &WalSnapshot) -> Result<HardState, Error> {
    let (recovered, matched) = read(fs, dir, start, false)?;
    if matched {
        Ok(recovered.hard_state)
    } else {
        Err(Error::SnapshotNotFound)
    }
}

fn read(
    fs: &dyn Fs,
    dir: &Path,
    start: &WalSnapshot,
    keep_entries: bool,
) -> Result<(Recovered, bool), Error> {
    let opened = open_segments(fs, dir, start.index, false)?;
    let mut decoder = Decoder::new(opened.into_iter().map(|o| o.source).collect())?;
    let mut replay = Replay::new(start, keep_entries);
    replay.run(&mut decoder, End::MayBeTorn)?;
    Ok((replay.recovered, replay.matched))
}

/// The snapshot records a member can start from, oldest first: all in the log that are not beyond
/// what it knows to be committed. A record that is beyond was written for a snapshot that had not
/// become the base of the log when the process died.
pub fn valid_snapshots(fs: &dyn Fs, dir: &Path) -> Result<Vec<WalSnapshot>, Error> {
    let mut decoder = Decoder::new(all_segments(fs, dir)?)?;
    let mut snapshots = Vec::new();
    let mut commit = 0;
    loop {
        let record = match decoder.next() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(e) if e.is_unexpected_eof() => break,
            Err(e) => return Err(e),
        };
        match record.kind {
            kind::SNAPSHOT => match WalSnapshot::decode(record.data) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(_) => return Err(decoder.malformed_last("snapshot")),
            },
            kind::STATE => match HardState::decode(record.data) {
                Ok(state) => commit = state.commit,
                Err(_) => return Err(decoder.malformed_last("hard state")),
            },
            _ => {}
        }
    }
    snapshots.retain(|s| s.index <= commit);
    Ok(snapshots)
}

//! The writing side of the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use api::raftpb::{Entry, HardState};
use disk::{File, Fs, LockKind, OpenOptions};
use prost::Message;

use crate::appender::Appender;
use crate::error::At;
use crate::frame::kind;
use crate::names::{SegmentName, exists};
use crate::pipeline::{Pipeline, Tail};
use crate::reader::{Decoder, Source};
use crate::replay::{End, Opened, Recovered, Replay, open_segments};
use crate::{Error, Options, Preparation, WalSnapshot, repair};

/// How far behind the end of the log the zeroing of its segment starts.
const ZERO_LEAD: u64 = 1 << 20;

/// A log that is open for writing. All its segments from the one it was opened at stay locked until
/// [`Wal::release_to`] or the end.
///
/// After any error of the file system the log is poisoned: every later call fails with
/// [`Error::Poisoned`] and the member has to stop. Dropping it without [`Wal::close`] loses what was
/// appended and not synced, as a crash would.
#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: Options,
    metadata: Option<Vec<u8>>,
    /// Held segments in order; the last is the one the appender writes.
    held: Vec<Opened>,
    appender: Appender,
    pipeline: Pipeline,
    /// The last hard state that was appended.
    state: HardState,
    /// Index of the last entry, or of a snapshot beyond it.
    last_index: u64,
    /// Whether something was appended that must be durable before anyone hears of it.
    needs_sync: bool,
    poisoned: bool,
}

impl Wal {
    /// Makes a new log in `dir`, which must not hold one. The directory appears under its name only
    /// when its first segment is complete and durable.
    ///
    /// `metadata` is an encoded `etcdserverpb.Metadata`; it is repeated at the start of every segment.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        metadata: &[u8],
        options: Options,
    ) -> Result<Self, Error> {
        if exists(fs.as_ref(), dir) {
            return Err(Error::AlreadyExists);
        }
        let temporary = with_suffix(dir, ".tmp");
        fs.remove_dir_all(&temporary).at(&temporary)?;
        fs.create_dir_all(&temporary, 0o700).at(&temporary)?;
        let name = SegmentName { seq: 0, index: 0 };
        let mut appender = first_segment(fs.as_ref(), &temporary, name, metadata, &options)?;

        fs.remove_dir_all(dir).at(dir)?;
        fs.rename(&temporary, dir).at(dir)?;
        let parent = disk::parent(dir);
        if let Err(source) = fs.sync_dir(&parent) {
            set_aside(fs.as_ref(), dir);
            return Err(Error::Io {
                path: parent,
                source,
            });
        }
        appender.path = dir.join(name.to_string());
        let source = Source {
            file: Arc::clone(&appender.file),
            path: appender.path.clone(),
        };
        let pipeline = start_pipeline(&fs, dir, &options, &mut appender)?;
        Ok(Self {
            fs,
            dir: dir.to_path_buf(),
            options,
            metadata: Some(metadata.to_vec()),
            held: vec![Opened { name, source }],
            appender,
            pipeline,
            state: HardState::default(),
            last_index: 0,
            needs_sync: false,
            poisoned: false,
        })
    }

    /// Opens the log in `dir` for writing, and reads it from the snapshot `start` on. A log that ends
    /// inside a record is repaired once ([`repair()`]); whatever stands behind its end is cleared.
    ///
    /// As in etcd, it is no error if the log has no record of `start`.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        start: &WalSnapshot,
        options: Options,
    ) -> Result<(Self, Recovered), Error> {
        match Self::open_once(Arc::clone(&fs), dir, start, options.clone()) {
            Err(torn) if torn.is_unexpected_eof() => {
                repair(fs.as_ref(), dir).map_err(|e| Error::Repair(Box::new(e)))?;
                tracing::info!(error = %torn, "repaired WAL");
                Self::open_once(fs, dir, start, options)
            }
            other => other,
        }
    }

    fn open_once(
        fs: Arc<dyn Fs>,
        dir: &Path,
        start: &WalSnapshot,
        options: Options,
    ) -> Result<(Self, Recovered), Error> {
        let held = open_segments(fs.as_ref(), dir, start.index, true)?;
        let tail = held.last().ok_or(Error::FileNotFound)?;
        let (file, path) = (Arc::clone(&tail.source.file), tail.source.path.clone());
        let mut decoder = Decoder::new(held.iter().map(|o| o.source.clone()).collect())?;
        let mut replay = Replay::new(start, true);
        replay.run(&mut decoder, End::Clean)?;

        let offset = decoder.valid_offset();
        clear_behind(file.as_ref(), offset, &options).at(&path)?;
        let mut appender = Appender::new(file, path, offset, decoder.crc(), &options);
        let metadata = replay
            .has_metadata()
            .then(|| replay.recovered.metadata.clone());
        let state = replay.recovered.hard_state;
        if offset == 0 {
            // A crash on a file system without ordered renames can leave a segment without its head.
            put_head(&mut appender, metadata.as_deref(), &state);
            appender.sync()?;
        }
        let pipeline = start_pipeline(&fs, dir, &options, &mut appender)?;
        let wal = Self {
            fs,
            dir: dir.to_path_buf(),
            options,
            metadata,
            held,
            appender,
            pipeline,
            state,
            last_index: replay.last_index,
            needs_sync: false,
            poisoned: false,
        };
        Ok((wal, replay.recovered))
    }

    /// Appends entries and then the hard state, syncs if etcd's rule demands it (entries, a new term
    /// or a new vote; a new commit index alone does not), and begins a new segment if this one is
    /// full. Says whether everything appended so far is durable.
    ///
    /// A hard state of zeros counts as none.
    pub fn save(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<bool, Error> {
        self.append(hard_state, entries)?;
        let synced = self.needs_sync;
        if synced {
            self.sync()?;
        }
        Ok(self.cut_if_full()? || synced)
    }

    /// Like [`Wal::save`] without the sync: the caller appends all that waits, calls [`Wal::sync`]
    /// once if [`Wal::needs_sync`] says so, and only then lets anyone hear of it. If the segment is
    /// full, a new one is begun first.
    ///
    /// [`Error::Gap`] if the entries do not continue the log; nothing is appended then.
    pub fn append(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
    ) -> Result<(), Error> {
        self.check_order(entries)?;
        self.cut_if_full()?;
        self.guarded(|wal| {
            for entry in entries {
                wal.appender.put_entry(entry)?;
                wal.last_index = entry.index;
                wal.needs_sync = true;
            }
            if let Some(new) = hard_state.filter(|state| **state != HardState::default()) {
                wal.appender.put_state(new);
                wal.needs_sync |= new.term != wal.state.term || new.vote != wal.state.vote;
                wal.state = *new;
            }
            Ok(())
        })
    }

    /// Whether something was appended since the last sync that must be durable before it counts.
    pub fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.guarded(|wal| {
            wal.appender.sync()?;
            wal.needs_sync = false;
            Ok(())
        })
    }

    /// Records that a snapshot exists, and makes that and everything before it durable. The `.snap`
    /// file must be durable before.
    ///
    /// [`Error::MissingConfState`] for a snapshot other than the initial one without its members.
    pub fn save_snapshot(&mut self, snapshot: &WalSnapshot) -> Result<(), Error> {
        if snapshot.index > 0 && snapshot.conf_state.is_none() {
            let (index, term) = (snapshot.index, snapshot.term);
            return Err(Error::MissingConfState { index, term });
        }
        self.guarded(|wal| {
            wal.appender
                .put_data(kind::SNAPSHOT, &snapshot.encode_to_vec());
            wal.last_index = wal.last_index.max(snapshot.index);
            wal.appender.sync()?;
            wal.needs_sync = false;
            Ok(())
        })
    }

    /// Gives up the locks of segments that hold nothing after `index`, so that [`crate::purge`] can
    /// remove them.
    pub fn release_to(&mut self, index: u64) {
        let last = self.held.len() - 1;
        let newer = self.held.iter().position(|held| held.name.index >= index);
        // The segment before the first one that begins at or after `index` may hold `index + 1`.
        let keep_from = newer.map_or(last, |newer| newer.saturating_sub(1));
        for released in self.held.drain(..keep_from) {
            if let Err(error) = released.source.file.unlock(LockKind::OpenFileWrite) {
                let path = released.source.path.display().to_string();
                tracing::warn!(path, %error, "failed to unlock file");
            }
        }
    }

    /// Begins a new segment if this one has reached its size; says whether it did. [`Wal::append`]
    /// does it by itself, but a caller that has just answered its clients can do it while nobody waits.
    pub fn cut_if_full(&mut self) -> Result<bool, Error> {
        if self.appender.offset() < self.options.segment_size {
            return if self.poisoned {
                Err(Error::Poisoned)
            } else {
                Ok(false)
            };
        }
        self.guarded(Self::cut)?;
        Ok(true)
    }

    /// Index of the last entry, or of a snapshot beyond it.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The metadata record; empty if a damaged log had none.
    pub fn metadata(&self) -> &[u8] {
        self.metadata.as_deref().unwrap_or_default()
    }

    /// Makes everything durable, gives up all locks and removes the segments prepared in advance.
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()
    }

    fn cut(&mut self) -> Result<(), Error> {
        // The closed segment gets its exact length: its end must not look like reserved space.
        self.appender.flush()?;
        let length = self.appender.offset();
        self.appender.file.set_len(length).at(&self.appender.path)?;
        self.appender.sync()?;
        self.needs_sync = false;

        let prepared = self.pipeline.take()?;
        let seq = self.held[self.held.len() - 1].name.seq;
        let name = SegmentName {
            seq: seq.checked_add(1).ok_or(Error::NotContinuous(seq))?,
            index: self.last_index.saturating_add(1),
        };
        self.appender.switch(prepared.file, prepared.path);
        put_head(&mut self.appender, self.metadata.as_deref(), &self.state);
        self.appender.sync()?;

        let path = self.dir.join(name.to_string());
        self.fs.rename(&self.appender.path, &path).at(&path)?;
        self.fs.sync_dir(&self.dir).at(&self.dir)?;
        self.appender.path.clone_from(&path);
        let source = Source {
            file: Arc::clone(&self.appender.file),
            path,
        };
        tracing::info!(path = %source.path.display(), "created a new WAL segment");
        self.held.push(Opened { name, source });
        Ok(())
    }

    fn check_order(&self, entries: &[Entry]) -> Result<(), Error> {
        let mut last = self.last_index;
        for (i, entry) in entries.iter().enumerate() {
            let next = last.saturating_add(1);
            // The first one may replace entries that are there already.
            if entry.index > next || (i > 0 && entry.index != next) {
                return Err(Error::Gap {
                    last,
                    got: entry.index,
                });
            }
            last = entry.index;
        }
        Ok(())
    }

    fn guarded<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let result = f(self);
        self.poisoned = result.is_err();
        result
    }
}

/// The first records of a segment that is not the first of its log.
fn put_head(appender: &mut Appender, metadata: Option<&[u8]>, state: &HardState) {
    appender.put_crc();
    if let Some(metadata) = metadata {
        appender.put_data(kind::METADATA, metadata);
    }
    if *state != HardState::default() {
        appender.put_state(state);
    }
}

/// Makes the first segment of a log, durable in a directory that has no name yet.
fn first_segment(
    fs: &dyn Fs,
    dir: &Path,
    name: SegmentName,
    metadata: &[u8],
    options: &Options,
) -> Result<Appender, Error> {
    let path = dir.join(name.to_string());
    let file = fs
        .open(
            &path,
            OpenOptions {
                truncate: true,
                ..OpenOptions::create()
            },
        )
        .at(&path)?;
    file.try_lock(LockKind::OpenFileWrite).at(&path)?;
    file.allocate(options.segment_size).at(&path)?;
    let mut appender = Appender::new(file, path, 0, 0, options);
    appender.put_crc();
    appender.put_data(kind::METADATA, metadata);
    appender.put_data(kind::SNAPSHOT, &WalSnapshot::default().encode_to_vec());
    appender.sync()?;
    fs.sync_dir(dir).at(dir)?;
    Ok(appender)
}

/// Clears what a torn write left behind the end of the log, and reserves the space again. It is synced
/// before anything is appended: otherwise a second crash could mix the leftovers into a new record,
/// which would look damaged instead of torn.
fn clear_behind(file: &dyn File, offset: u64, options: &Options) -> std::io::Result<()> {
    let size = file.len()?;
    file.set_len(offset)?;
    let reserve = if offset < options.segment_size {
        options.segment_size
    } else {
        0
    };
    if let Err(error) = file.allocate(size.max(reserve)) {
        // The segment can also grow as it is written.
        tracing::warn!(%error, "failed to preallocate space for a WAL segment");
    }
    if options.no_sync {
        Ok(())
    } else {
        file.sync_data()
    }
}

/// Starts the pipeline, whose first job is to zero the rest of the present segment.
fn start_pipeline(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    options: &Options,
    appender: &mut Appender,
) -> Result<Pipeline, Error> {
    let from = appender.offset().saturating_add(ZERO_LEAD);
    let limit = options.segment_size;
    let wanted = options.preparation == Preparation::ZeroFilled && from < limit;
    let tail = wanted.then(|| Tail {
        path: appender.path.clone(),
        zero: appender.zero_ahead(from),
        limit,
    });
    Pipeline::start(Arc::clone(fs), dir, options, tail)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames a directory whose creation failed late, so that the next start does not take it for a log.
fn set_aside(fs: &dyn Fs, dir: &Path) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = with_suffix(dir, &format!(".broken.{}", timestamp(now)));
    if let Err(error) = fs.rename(dir, &name) {
        tracing::error!(%error, "failed to rename the WAL directory");
    }
}

/// `yyyymmdd.hhmmss.ffffff` in UTC.
fn timestamp(since_epoch: std::time::Duration) -> String {
    let (days, seconds) = (since_epoch.as_secs() / 86400, since_epoch.as_secs() % 86400);
    // Days to a civil date, counting years from March so that the leap day comes last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = since_epoch.subsec_micros();
    format!("{year:04}{month:02}{day:02}.{hour:02}{minute:02}{second:02}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn directories_that_failed_carry_the_time() {
        assert_eq!(timestamp(Duration::ZERO), "19700101.000000.000000");
        assert_eq!(
            timestamp(Duration::new(951_827_696, 42_000)),
            "20000229.123456.000042"
        );
        assert_eq!(
            timestamp(Duration::new(1_767_225_599, 0)),
            "20251231.235959.000000"
        );
    }
}

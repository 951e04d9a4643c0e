use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::{Rotation, timestamp};

/// A log file that is renamed to `<name>-<time><extension>` before it would grow too big.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    cleaning: Arc<AtomicBool>,
}

impl RotatingFile {
    pub(crate) fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = open_append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            rotation,
            file,
            size,
            cleaning: Arc::default(),
        })
    }

    pub(crate) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + line.len() as u64 > self.rotation.max_size {
            // A file that cannot be renamed is written on: a big log is better than none.
            let _ = self.rotate(Timestamp::now());
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let backups = Backups::of(&self.path, self.rotation);
        fs::rename(&self.path, backups.name(now))?;
        self.file = open_append(&self.path)?;
        self.size = 0;
        if self.cleaning.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Compressing takes seconds; nobody who logs waits for it.
        let cleaning = self.cleaning.clone();
        let clean = move || {
            backups.clean(Timestamp::now());
            cleaning.store(false, Ordering::Release);
        };
        thread::Builder::new()
            .name("log-rotate".to_owned())
            .spawn(clean)
            .map(drop)
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The rotated files of one log.
#[derive(Clone, Debug)]
struct Backups {
    dir: PathBuf,
    /// File name up to and including the dash before the time.
    prefix: String,
    /// Extension with its dot.
    suffix: String,
    rotation: Rotation,
    zone: TimeZone,
}

impl Backups {
    fn of(path: &Path, rotation: Rotation) -> Self {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        Self {
            dir: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            prefix: format!("{}-", text(path.file_stem())),
            suffix: path
                .extension()
                .map(|e| format!(".{}", text(Some(e))))
                .unwrap_or_default(),
            rotation,
            zone: if rotation.local_time {
                TimeZone::system()
            } else {
                TimeZone::UTC
            },
        }
    }

    fn name(&self, now: Timestamp) -> PathBuf {
        let stamp = timestamp::file_stamp(now, &self.zone);
        self.dir
            .join(format!("{}{stamp}{}", self.prefix, self.suffix))
    }

    /// Time stamps and paths, newest first.
    fn list(&self) -> Vec<(String, PathBuf)> {
        const STAMP: usize = "2006-01-02T15-04-05.000".len();
        let stamp = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let rest = name.strip_prefix(&self.prefix)?;
            let rest = rest.strip_suffix(".gz").unwrap_or(rest);
            let stamp = rest.strip_suffix(&self.suffix)?;
            (stamp.len() == STAMP && stamp.as_bytes()[10] == b'T').then(|| stamp.to_owned())
        };
        let dir = if self.dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.dir
        };
        let paths = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let mut found: Vec<_> = paths
            .filter_map(|path| Some((stamp(&path)?, path)))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Deletes what is too old or too much and compresses the rest. Failures wait for the next time.
    fn clean(&self, now: Timestamp) {
        let Rotation {
            max_age_days,
            max_backups,
            compress,
            ..
        } = self.rotation;
        let age = SignedDuration::from_hours(24 * max_age_days.min(100_000) as i64);
        // Stamps are ordered like the times they stand for.
        let oldest = now
            .checked_sub(age)
            .map(|t| timestamp::file_stamp(t, &self.zone));
        for (at, (stamp, path)) in self.list().into_iter().enumerate() {
            let too_many = max_backups > 0 && at >= max_backups;
            let too_old = max_age_days > 0 && oldest.as_ref().is_ok_and(|oldest| stamp < *oldest);
            let _ = if too_many || too_old {
                fs::remove_file(path)
            } else if compress && path.extension().is_none_or(|e| e != "gz") {
                compress_file(&path)
            } else {
                Ok(())
            };
        }
    }
}

fn compress_file(path: &Path) -> io::Result<()> {
    let name = |extra: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(extra);
        PathBuf::from(name)
    };
    let partial = name(".gz.tmp");
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    let done = io::copy(&mut File::open(path)?, &mut encoder).and_then(|_| encoder.finish());
    match done {
        Ok(_) => {
            fs::rename(&partial, name(".gz"))?;
            fs::remove_file(path)
        }
        Err(error) => {
            let _ = fs::remove_file(&partial);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use super::*;

    const PLAIN: Rotation = Rotation {
        max_size: 100,
        max_age_days: 0,
        max_backups: 0,
        local_time: false,
        compress: false,
    };

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_renamed_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let mut log = RotatingFile::open(path.clone(), PLAIN).unwrap();
        log.write_line(&[b'a'; 60]).unwrap();
        log.write_line(&[b'b'; 60]).unwrap();
        log.write_line(&[b'c'; 40]).unwrap();
        let names = names(dir.path());
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(
            names[0].starts_with("etcd-2") && names[0].contains(".log"),
            "{names:?}"
        );
        assert_eq!(fs::read(dir.path().join(&names[0])).unwrap(), [b'a'; 60]);
        assert_eq!(fs::read(&path).unwrap().len(), 100);
        // Reopened, it remembers its size.
        drop(log);
        let mut log = RotatingFile::open(path.clone(), PLAIN).unwrap();
        log.write_line(b"d").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"d");
    }

    #[test]
    fn old_files_are_deleted_and_the_rest_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let rotation = Rotation {
            max_age_days: 3,
            max_backups: 2,
            compress: true,
            ..PLAIN
        };
        let backups = Backups::of(&path, rotation);
        for hours in [1, 2, 30, 100] {
            let at = now - Duration::from_secs(hours * 3600);
            fs::write(backups.name(at), vec![b'x'; 1000]).unwrap();
        }
        fs::write(dir.path().join("etcd-other.log"), "kept").unwrap();
        fs::write(&path, "current").unwrap();
        backups.clean(now);
        assert_eq!(
            names(dir.path()),
            [
                "etcd-2026-11-20T10-00-00.000.log.gz",
                "etcd-2026-11-20T11-00-00.000.log.gz",
                "etcd-other.log",
                "etcd.log"
            ]
        );
        let file = File::open(dir.path().join("etcd-2026-11-20T10-00-00.000.log.gz")).unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(text, vec![b'x'; 1000]);
        backups.clean(now + Duration::from_hours(96));
        assert_eq!(names(dir.path()), ["etcd-other.log", "etcd.log"]);
    }
}

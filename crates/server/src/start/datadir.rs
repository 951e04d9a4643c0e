//! The data directory: what must be there before anything is opened (docs/operations.md).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use disk::{Fs, OpenOptions};

use super::StartError;

/// Where a member's files are.
#[derive(Clone, Debug)]
pub struct DataDir {
    /// `--data-dir`.
    pub root: PathBuf,
    /// `<data-dir>/member`.
    pub member: PathBuf,
    /// `<data-dir>/member/snap`: the database and snapshot files.
    pub snap: PathBuf,
    /// The WAL's own directory: `--wal-dir` or `<data-dir>/member/wal`.
    pub wal: PathBuf,
}

const DIR_MODE: u32 = 0o700;

impl DataDir {
    /// The layout below `root`.
    pub fn new(root: &Path, wal_dir: Option<&Path>) -> Self {
        let member = root.join("member");
        Self {
            root: root.to_path_buf(),
            snap: member.join("snap"),
            wal: wal_dir.map_or_else(|| member.join("wal"), Path::to_path_buf),
            member,
        }
    }

    /// The database file.
    pub fn db(&self) -> PathBuf {
        self.snap.join("db")
    }

    /// What the directory holds already: `member` or `empty`, the words of etcd's log line.
    pub fn kind(&self, fs: &dyn Fs) -> Result<&'static str, StartError> {
        if !fs.exists(&self.root) {
            return Ok("empty");
        }
        let entries = fs.read_dir(&self.root).map_err(|error| StartError::Fatal {
            message: "failed to list data directory",
            error: path_error("open", &self.root, &error),
        })?;
        let (mut member, mut proxy) = (false, false);
        for entry in entries {
            match entry.name.as_str() {
                "member" if entry.is_dir => member = true,
                "proxy" if entry.is_dir => proxy = true,
                name => tracing::warn!(
                    filename = name,
                    "data-dir" = %self.root.display(),
                    "found invalid file under data directory"
                ),
            }
        }
        match (member, proxy) {
            (true, true) => Err(StartError::Fatal {
                message: "invalid datadir; both member and proxy directories exist",
                error: String::new(),
            }),
            (false, true) => Err(StartError::Panic {
                message: "v2 http proxy has already been deprecated in 3.6".into(),
                error: String::new(),
            }),
            (true, false) => Ok("member"),
            (false, false) => Ok("empty"),
        }
    }

    /// Creates what is missing and proves that the directories can be written.
    pub fn prepare(&self, fs: &dyn Fs) -> Result<(), StartError> {
        touch_dir(fs, &self.root)
            .map_err(|e| StartError::Failed(format!("cannot access data directory: {e}")))?;
        touch_dir(fs, &self.member)
            .map_err(|e| StartError::Failed(format!("cannot access member directory: {e}")))?;
        touch_dir(fs, &self.snap).map_err(|e| StartError::Fatal {
            message: "failed to create snapshot directory",
            error: e,
        })?;
        self.remove_partial_snapshots(fs);
        Ok(())
    }

    /// Removes snapshots whose transfer was cut off.
    fn remove_partial_snapshots(&self, fs: &dyn Fs) {
        let Ok(entries) = fs.read_dir(&self.snap) else {
            return;
        };
        for entry in entries.iter().filter(|e| e.name.starts_with("tmp")) {
            if let Err(error) = fs.remove_file(&self.snap.join(&entry.name)) {
                tracing::error!(
                    path = entry.name,
                    %error,
                    "failed to remove temporary file in snapshot directory"
                );
            }
        }
    }
}

/// Makes sure a directory is there and can be written, as etcd does: by writing a file into it.
fn touch_dir(fs: &dyn Fs, dir: &Path) -> Result<(), String> {
    match std::fs::metadata(dir) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode != DIR_MODE {
                let error = format!(
                    "directory {:?} exist, but the permission is \"{}\". The recommended permission \
                     is \"-rwx------\" to prevent possible unprivileged access to the data",
                    dir.display().to_string(),
                    mode_text(mode)
                );
                tracing::warn!(%error, "check file permission");
            }
        }
        Err(_) => fs
            .create_dir_all(dir, DIR_MODE)
            .map_err(|e| path_error("mkdir", dir, &e))?,
    }
    let probe = dir.join(".touch");
    fs.open(
        &probe,
        OpenOptions {
            truncate: true,
            ..OpenOptions::create()
        },
    )
    .map_err(|e| path_error("open", &probe, &e))?;
    fs.remove_file(&probe)
        .map_err(|e| path_error("remove", &probe, &e))
}

/// `drwxr-xr-x`, as `ls` and Go print a directory's mode.
fn mode_text(mode: u32) -> String {
    let mut text = String::from("d");
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if mode >> shift & bit != 0 {
                letter
            } else {
                '-'
            });
        }
    }
    text
}

/// An I/O error in the words etcd's logs have for it: operation, path, cause.
pub fn path_error(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), os_text(error))
}

/// The operating system's text alone, in lower case and without Rust's error number.
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::RealFs;

    #[test]
    fn a_new_directory_is_made_for_the_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(&temp.path().join("m1.etcd"), None);
        assert_eq!(dir.kind(&RealFs).unwrap(), "empty");
        dir.prepare(&RealFs).unwrap();
        assert_eq!(dir.kind(&RealFs).unwrap(), "member");
        let mode = std::fs::metadata(&dir.snap).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(!dir.root.join(".touch").exists());
    }

    #[test]
    fn leftovers_of_a_cut_off_transfer_go_and_other_files_stay() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temp.path(), None);
        dir.prepare(&RealFs).unwrap();
        std::fs::create_dir_all(dir.snap.join("keep")).unwrap();
        RealFs
            .open(&dir.snap.join("tmp123"), OpenOptions::create())
            .unwrap();
        dir.prepare(&RealFs).unwrap();
        assert!(!dir.snap.join("tmp123").exists() && dir.snap.join("keep").exists());
    }

    #[test]
    fn errors_read_as_the_operating_system_puts_them() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(
            path_error("open", Path::new("/x/.touch"), &error),
            "open /x/.touch: permission denied"
        );
        assert_eq!(mode_text(0o755), "drwxr-xr-x");
    }
}

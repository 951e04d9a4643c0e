//! Copies and comparisons of data directories.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Copies a directory with everything in it.
///
/// # Panics
/// When a file cannot be copied.
pub fn copy_dir(from: &Path, to: &Path) {
    let copy = || -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                copy_dir(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    };
    copy().unwrap_or_else(|error| panic!("{} → {}: {error}", from.display(), to.display()));
}

/// What a file is, for comparing directories before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Length in bytes; 0 for a directory.
    pub length: u64,
    /// Permission bits.
    pub mode: u32,
    /// A checksum of the content.
    pub sum: u64,
}

/// Every file and directory below `dir` by its relative path.
///
/// # Panics
/// When one cannot be read.
pub fn state(dir: &Path) -> BTreeMap<PathBuf, FileState> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = std::fs::symlink_metadata(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut state = FileState {
            length: 0,
            mode: meta.permissions().mode(),
            sum: 0,
        };
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable directory");
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else {
            let bytes = std::fs::read(&path).expect("a readable file");
            state.length = bytes.len() as u64;
            state.sum = fnv(&bytes);
        }
        let name = path
            .strip_prefix(dir)
            .expect("below the directory")
            .to_path_buf();
        found.insert(name, state);
    }
    found
}

/// The differences between two states, one line each.
pub fn changes(
    before: &BTreeMap<PathBuf, FileState>,
    after: &BTreeMap<PathBuf, FileState>,
) -> Vec<String> {
    let mut names: Vec<&PathBuf> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            format!(
                "{}: {:?} → {:?}",
                name.display(),
                before.get(name),
                after.get(name)
            )
        })
        .collect()
}

/// The newest WAL segment of a data directory.
///
/// # Panics
/// When there is none.
pub fn last_wal(data_dir: &Path) -> PathBuf {
    newest(&data_dir.join("member/wal"), "wal").expect("a WAL segment")
}

/// The file with the highest name and this extension.
pub fn newest(dir: &Path, extension: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .max()
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

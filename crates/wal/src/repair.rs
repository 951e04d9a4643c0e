//! Cutting off the torn end of a log.

use std::path::{Path, PathBuf};

use disk::{File, Fs, LockKind, OpenOptions};

use crate::Error;
use crate::error::At;
use crate::names::list_segments;
use crate::reader::{Decoder, Source};

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

/// Cuts the last segment of a log at its last complete record if it ends inside one. The whole segment
/// is kept beside it as `<name>.broken`. Nothing happens if the segment ends cleanly.
///
/// Any other damage, such as a wrong checksum that no torn write explains, is an error: it may concern
/// entries that were acknowledged, and only a person can decide what to do.
pub fn repair(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    let mut segments = list_segments(fs, dir)?;
    let (_, name) = segments.pop().ok_or(Error::FileNotFound)?;
    let path = dir.join(name);
    let file = fs.open(&path, OpenOptions::write()).at(&path)?;
    match file.try_lock(LockKind::OpenFileWrite) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(Error::Locked),
        other => other.at(&path)?,
    }
    tracing::info!(path = %path.display(), "repairing");
    let mut decoder = Decoder::new(vec![Source {
        file: file.clone(),
        path: path.clone(),
    }])?;
    let torn = loop {
        match decoder.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(e) if e.is_unexpected_eof() => break e,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "failed to repair");
                return Err(e);
            }
        }
    };
    keep_copy(fs, file.as_ref(), &path)?;
    file.set_len(decoder.valid_offset()).at(&path)?;
    file.sync_all().at(&path)?;
    tracing::info!(path = %path.display(), error = %torn, "repaired");
    Ok(())
}

/// Copies the damaged segment, for people to look at.
fn keep_copy(fs: &dyn Fs, file: &dyn File, path: &Path) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".broken");
    let copy_path = PathBuf::from(name);
    let options = OpenOptions {
        truncate: true,
        ..OpenOptions::create()
    };
    let copy = fs.open(&copy_path, options).at(&copy_path)?;
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let n = file.read_at(&mut chunk, offset).at(path)?;
        if n == 0 {
            break;
        }
        copy.write_all_at(&chunk[..n], offset).at(&copy_path)?;
        offset += n as u64;
    }
    copy.sync_all().at(&copy_path)
}

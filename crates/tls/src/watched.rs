//! Files that are looked at again whenever they are needed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::Error;
use crate::observer::{Material, Observer};

/// Larger files are not read: nobody has such certificates.
const MAX_FILE: u64 = 64 << 20;

/// A change within this time of the last look may have left all stamps as they were (clocks of file systems tick in
/// milliseconds or worse), so that the content has to be compared.
const SETTLED: Duration = Duration::from_secs(2);

/// How often files that change while they are read are read again.
const ATTEMPTS: usize = 3;

/// What was read from files, and when it ends (seconds since 1970).
pub(crate) type Parsed<T> = (T, Option<i64>);
type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<Parsed<T>, Error> + Send + Sync>;

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &str) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }

    fn is_settled(self, now: SystemTime) -> bool {
        let modified = Duration::from_secs(self.modified.0.max(0) as u64);
        now.duration_since(SystemTime::UNIX_EPOCH)
            .is_ok_and(|now| now > modified + SETTLED)
    }
}

/// Files and what was made of them. When they change, the new content takes the old one's place if it is good; if not,
/// that is logged once and the old one stays.
pub(crate) struct Watched<T> {
    material: Material,
    paths: Vec<String>,
    parse: Parse<T>,
    observer: Arc<dyn Observer>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    settled: bool,
    bytes: Vec<Vec<u8>>,
    value: Option<Arc<T>>,
    error: Option<Error>,
    /// The error that was logged last; not logged again until the files were good.
    reported: Option<Error>,
}

impl<T> Watched<T> {
    /// Reads nothing yet.
    pub(crate) fn new(
        material: Material,
        paths: &[&str],
        observer: &Arc<dyn Observer>,
        parse: impl Fn(&[Vec<u8>]) -> Result<Parsed<T>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            material,
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            parse: Box::new(parse),
            observer: Arc::clone(observer),
            state: Mutex::new(State {
                stamps: Vec::new(),
                settled: false,
                bytes: Vec::new(),
                value: None,
                error: None,
                reported: None,
            }),
        }
    }

    /// The newest good content. An error means that there never was any; it is as new as the files are.
    pub(crate) fn get(&self) -> Result<Arc<T>, Error> {
        let stamps = self.stamps();
        let mut state = self.lock();
        if !(state.settled && state.stamps == stamps) {
            self.refresh(&mut state);
        }
        match (&state.value, &state.error) {
            (Some(value), _) => Ok(Arc::clone(value)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => unreachable!("a refresh leaves a value or an error"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    /// Reads the files, again when they changed meanwhile: a pair may have been half replaced.
    fn refresh(&self, state: &mut State<T>) {
        for _ in 0..ATTEMPTS {
            self.read(state);
            if state.error.is_none() || self.stamps() == state.stamps {
                break;
            }
        }
        match &state.error {
            Some(error) if state.value.is_some() && state.reported.as_ref() != Some(error) => {
                self.report(error);
                state.reported.clone_from(&state.error);
            }
            Some(_) => {}
            None => state.reported = None,
        }
    }

    /// Reads the files once. Stamps are taken before that: a change in between shows at the next look.
    fn read(&self, state: &mut State<T>) {
        let now = SystemTime::now();
        state.stamps = self.stamps();
        state.settled = state
            .stamps
            .iter()
            .flatten()
            .all(|stamp| stamp.is_settled(now));
        state.error = None;
        let bytes: Result<Vec<_>, _> = self.paths.iter().map(|path| read(path)).collect();
        if let Ok(bytes) = &bytes
            && state.value.is_some()
            && *bytes == state.bytes
        {
            return;
        }
        match bytes.and_then(|bytes| Ok(((self.parse)(&bytes)?, bytes))) {
            Ok(((value, ends), bytes)) => {
                if state.value.is_some() {
                    tracing::info!(
                        kind = self.material.name(),
                        files = %logging::Json(&self.paths),
                        "TLS files have changed; the new ones are in use"
                    );
                }
                self.observer.loaded(self.material, ends);
                state.value = Some(Arc::new(value));
                state.bytes = bytes;
            }
            Err(error) => state.error = Some(error),
        }
    }

    fn report(&self, error: &Error) {
        self.observer.failed(self.material);
        tracing::error!(
            kind = self.material.name(),
            files = %logging::Json(&self.paths),
            error = %error,
            "TLS files have changed and cannot be used; the previous ones stay in use"
        );
    }
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|error| Error::file("open", path, &error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::file("read", path, &error))?;
    if bytes.len() as u64 > MAX_FILE {
        let error = io::Error::from(io::ErrorKind::FileTooLarge);
        return Err(Error::file("read", path, &error));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts {
        loaded: AtomicUsize,
        failed: AtomicUsize,
    }

    impl Observer for Counts {
        fn loaded(&self, _: Material, _: Option<i64>) {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }

        fn failed(&self, _: Material) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counts {
        fn get(&self) -> (usize, usize) {
            (
                self.loaded.load(Ordering::Relaxed),
                self.failed.load(Ordering::Relaxed),
            )
        }
    }

    fn text(bytes: &[Vec<u8>]) -> Result<Parsed<String>, Error> {
        let text = String::from_utf8_lossy(&bytes[0]).into_owned();
        if text.starts_with("bad") {
            return Err(Error::Malformed(text));
        }
        Ok((text, None))
    }

    fn setup(path: &str) -> (Arc<Counts>, Watched<String>) {
        let counts = Arc::new(Counts::default());
        let observer: Arc<dyn Observer> = Arc::clone(&counts) as _;
        let watched = Watched::new(Material::Crl, &[path], &observer, text);
        (counts, watched)
    }

    fn put(path: &std::path::Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn content_follows_the_file_even_when_stamps_stay_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let (counts, watched) = setup(path.to_str().unwrap());
        put(&path, "one");
        assert_eq!(*watched.get().unwrap(), "one");
        let stamp = std::fs::metadata(&path).unwrap().modified().unwrap();
        // The same length and, as on file systems with coarse clocks, the same time.
        put(&path, "two");
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(stamp)
            .unwrap();
        assert_eq!(*watched.get().unwrap(), "two");
        assert_eq!(*watched.get().unwrap(), "two");
        assert_eq!(counts.get(), (2, 0));
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let (counts, watched) = setup(path.to_str().unwrap());
        put(&path, "one");
        let old = SystemTime::now() - Duration::from_mins(1);
        let settle = || {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(old).unwrap();
        };
        settle();
        assert_eq!(*watched.get().unwrap(), "one");
        // Nothing a stat shows has changed: the proof that the content is not looked at.
        put(&path, "two");
        settle();
        assert_eq!(*watched.get().unwrap(), "one");
        assert_eq!(counts.get(), (1, 0));
    }

    #[test]
    fn bad_and_missing_files_leave_the_old_content_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let (counts, watched) = setup(path.to_str().unwrap());
        assert_eq!(
            watched.get().unwrap_err().to_string(),
            format!("open {}: no such file or directory", path.display())
        );
        put(&path, "bad");
        assert_eq!(watched.get().unwrap_err().to_string(), "bad");
        put(&path, "one");
        assert_eq!(*watched.get().unwrap(), "one");
        put(&path, "bad again");
        assert_eq!(*watched.get().unwrap(), "one");
        assert_eq!(*watched.get().unwrap(), "one");
        assert_eq!(counts.get(), (1, 1), "reported once");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*watched.get().unwrap(), "one");
        assert_eq!(counts.get(), (1, 2));
        put(&path, "one");
        assert_eq!(*watched.get().unwrap(), "one");
        put(&path, "three");
        assert_eq!(*watched.get().unwrap(), "three");
        assert_eq!(counts.get(), (2, 2));
    }
}

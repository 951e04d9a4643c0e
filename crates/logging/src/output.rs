use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

use gotext::os_error;

use crate::journal::Journal;
use crate::rotate::RotatingFile;
use crate::{Error, Record, Target};

/// An open target. Every line is one `write(2)`, so lines of several processes do not mix; the lock
/// keeps lines of several threads apart.
#[derive(Debug)]
pub(crate) struct Output(Mutex<Sink>);

#[derive(Debug)]
enum Sink {
    Plain(File),
    Rotating(RotatingFile),
    Journal(Journal),
}

impl Output {
    pub(crate) fn open(target: &Target) -> Result<Self, Error> {
        let sink = match target {
            Target::Stderr => Sink::Plain(duplicate(io::stderr())?),
            Target::Stdout => Sink::Plain(duplicate(io::stdout())?),
            Target::Journal => Sink::Journal(Journal::connect()?),
            Target::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o666)
                    .open(path);
                Sink::Plain(file.map_err(|e| open_error(path, &e))?)
            }
            Target::Rotating(path, rotation) => {
                let file = RotatingFile::open(path.clone(), *rotation);
                Sink::Rotating(file.map_err(|e| open_error(path, &e))?)
            }
        };
        Ok(Self(Mutex::new(sink)))
    }

    /// Whether lines go to the journal, which bounds repetitions by itself.
    pub(crate) fn is_journal(&self) -> bool {
        matches!(*self.sink(), Sink::Journal(_))
    }

    /// Writes a line that ends with a newline. There is nobody to tell when that fails.
    pub(crate) fn write(&self, record: &Record, line: &str) {
        let _ = match &mut *self.sink() {
            Sink::Plain(file) => file.write_all(line.as_bytes()),
            Sink::Rotating(file) => file.write_line(line.as_bytes()),
            Sink::Journal(journal) => journal.send(record, line.trim_end_matches('\n')),
        };
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle without the standard library's line buffer.
fn duplicate(stream: impl AsFd) -> Result<File, Error> {
    let fd: io::Result<OwnedFd> = stream.as_fd().try_clone_to_owned();
    fd.map(File::from).map_err(|e| Error::Open {
        name: "stderr".to_owned(),
        cause: os_error(&e),
    })
}

fn open_error(path: &std::path::Path, error: &io::Error) -> Error {
    Error::Open {
        name: path.display().to_string(),
        cause: os_error(error),
    }
}

//! Reading records from a row of segments, without believing anything they say.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::File;

use crate::Error;
use crate::error::At;
use crate::frame::{LENGTH_WORD, Record, kind, parse_length_word};

/// How much is read from a file at once.
const CHUNK: usize = 256 * 1024;
/// No record of etcd is near this long; a longer one is refused before memory is spent on it.
const MAX_RECORD: u64 = 1 << 30;
/// Disks write whole sectors: a torn write shows as a sector of zeros.
const SECTOR: usize = 512;

/// A segment to read from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
}

impl Source {
    fn name(&self) -> String {
        file_name(&self.path)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// A window onto one file.
#[derive(Debug)]
struct Window {
    source: Source,
    size: u64,
    /// Bytes that were read; those before `start` are used up.
    buf: Vec<u8>,
    start: usize,
    /// Offset in the file of the byte after `buf`.
    next: u64,
}

impl Window {
    fn new(source: Source) -> Result<Self, Error> {
        let size = source.file.len().at(&source.path)?;
        Ok(Self {
            source,
            size,
            buf: Vec::new(),
            start: 0,
            next: 0,
        })
    }

    /// Makes `n` bytes available if the file has them. Memory grows with what the file delivers, not
    /// with `n`.
    fn fill(&mut self, n: usize) -> Result<(), Error> {
        while self.buf.len() - self.start < n {
            if self.start > 0 {
                self.buf.drain(..self.start);
                self.start = 0;
            }
            let missing = n - self.buf.len();
            let old = self.buf.len();
            self.buf.resize(old + missing.clamp(CHUNK, 4 * CHUNK), 0);
            let got = match self.source.file.read_at(&mut self.buf[old..], self.next) {
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    self.buf.truncate(old);
                    continue;
                }
                Err(source) => {
                    return Err(Error::Io {
                        path: self.source.path.clone(),
                        source,
                    });
                }
            };
            self.buf.truncate(old + got);
            self.next += got as u64;
            if got == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn available(&self) -> &[u8] {
        &self.buf[self.start..]
    }
}

/// Reads the records of a row of segments and checks the running checksum.
#[derive(Debug)]
pub(crate) struct Decoder {
    window: Window,
    rest: VecDeque<Source>,
    crc: u32,
    /// Offset in the present segment up to which it is valid.
    valid: u64,
    /// Length of the frame that was handed out last; it is used up at the next call.
    used: usize,
}

impl Decoder {
    /// A decoder that starts at the beginning of the first source. There must be one.
    pub fn new(sources: Vec<Source>) -> Result<Self, Error> {
        let mut rest: VecDeque<Source> = sources.into();
        let first = rest.pop_front().ok_or(Error::FileNotFound)?;
        Ok(Self {
            window: Window::new(first)?,
            rest,
            crc: 0,
            valid: 0,
            used: 0,
        })
    }

    /// The running checksum after the last record.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Offset in the present (at the end: the last) segment up to which it is valid.
    pub fn valid_offset(&self) -> u64 {
        self.valid
    }

    /// The next record, or `None` at the clean end of the last segment. The record is checked; a
    /// checksum record has been used already and is handed out only for information.
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        self.window.start += std::mem::take(&mut self.used);
        let (length, padding) = loop {
            match self.length_word()? {
                Some(found) => break found,
                None => match self.rest.pop_front() {
                    Some(source) => {
                        self.window = Window::new(source)?;
                        self.valid = 0;
                    }
                    None => return Ok(None),
                },
            }
        };
        self.window.fill(LENGTH_WORD + length + padding)?;
        if self.window.available().len() < LENGTH_WORD + length + padding {
            return Err(self.unexpected_eof());
        }
        self.check(length, padding)?;
        let frame = LENGTH_WORD + length + padding;
        self.used = frame;
        self.valid += frame as u64;
        // Parsed once more because the checks above need `self`; it costs a few instructions.
        let record = Record::parse(&self.window.available()[LENGTH_WORD..LENGTH_WORD + length]);
        Ok(record)
    }

    /// Length and padding of the next frame, `None` at the end of this segment: its last byte or the
    /// zeros of space that was reserved.
    fn length_word(&mut self) -> Result<Option<(usize, usize)>, Error> {
        self.window.fill(LENGTH_WORD)?;
        let Some(word) = self.window.available().first_chunk::<LENGTH_WORD>() else {
            let at_end = self.window.available().is_empty();
            return if at_end {
                Ok(None)
            } else {
                Err(self.unexpected_eof())
            };
        };
        let word = u64::from_le_bytes(*word);
        if word == 0 {
            return Ok(None);
        }
        let (length, padding) = parse_length_word(word);
        let limit = self
            .window
            .size
            .saturating_sub(self.valid)
            .saturating_sub(padding);
        if length > limit {
            return Err(Error::FrameTooLong {
                file: self.window.source.name(),
                length,
                size: self.window.size,
                position: self.valid,
                padding,
                limit,
            });
        }
        if length > MAX_RECORD {
            return Err(self.malformed("record (too long)"));
        }
        Ok(Some((length as usize, padding as usize)))
    }

    /// Parses the frame and moves the running checksum over it.
    fn check(&mut self, length: usize, padding: usize) -> Result<(), Error> {
        let data = &self.window.available()[LENGTH_WORD..LENGTH_WORD + length + padding];
        let (expected, computed, damaged) = match Record::parse(&data[..length]) {
            None => (0, 0, true),
            Some(record) if record.kind == kind::CRC => {
                // A decoder that starts in the middle of the log takes the first one as it is.
                if self.crc != 0 && record.crc != self.crc {
                    return Err(self.mismatch(record.crc, self.crc));
                }
                self.crc = record.crc;
                return Ok(());
            }
            Some(record) => {
                let crc = crc32c::crc32c_append(self.crc, record.data);
                if crc == record.crc {
                    self.crc = crc;
                    return Ok(());
                }
                (record.crc, crc, false)
            }
        };
        if self.rest.is_empty() && is_torn(data, self.valid + LENGTH_WORD as u64) {
            return Err(self.unexpected_eof());
        }
        Err(if damaged {
            self.malformed("record")
        } else {
            self.mismatch(expected, computed)
        })
    }

    /// An error about the record that was handed out last.
    pub fn malformed_last(&self, what: &'static str) -> Error {
        let position = self.valid - self.used as u64;
        Error::Malformed {
            what,
            file: self.window.source.name(),
            position,
        }
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed {
            what,
            file: self.window.source.name(),
            position: self.valid,
        }
    }

    fn mismatch(&self, expected: u32, computed: u32) -> Error {
        Error::CrcMismatch {
            expected,
            computed,
            file: self.window.source.name(),
            position: self.valid,
        }
    }

    fn unexpected_eof(&self) -> Error {
        Error::UnexpectedEof {
            file: self.window.source.name(),
            position: self.valid,
        }
    }
}

/// Whether a frame that fails its checks looks like a write that a crash tore: one of the sectors it
/// covers holds only zeros. `offset` is where `data` lies in its file.
fn is_torn(data: &[u8], offset: u64) -> bool {
    let first = SECTOR - (offset % SECTOR as u64) as usize;
    let (head, tail) = data.split_at(first.min(data.len()));
    std::iter::once(head)
        .chain(tail.chunks(SECTOR))
        .any(|s| s.iter().all(|b| *b == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_cut_at_file_offsets() {
        let mut data = vec![1u8; 1024];
        data[504..1016].fill(0);
        // One whole sector of zeros if the data start 8 bytes into a sector …
        assert!(is_torn(&data, 8));
        // … but not if they start elsewhere.
        assert!(!is_torn(&data, 16));
        // A partial sector at either end counts with the bytes that belong to the frame.
        assert!(is_torn(&[1, 1, 0, 0], 510));
        assert!(is_torn(&[0, 0, 1, 1], 510));
        assert!(!is_torn(&[0, 1, 1, 0], 510));
    }
}

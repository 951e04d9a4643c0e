//! What can go wrong with a log or a snapshot file.

use std::io;
use std::path::PathBuf;

/// An error of the write-ahead log. Its text is the one etcd prints for the same condition, because
/// operators search for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory holds no segment.
    #[error("wal: file not found")]
    FileNotFound,
    /// Every segment begins after the index that replay has to start from.
    #[error("wal: file not found which matches the snapshot index '{0}'")]
    FileNotFoundForIndex(u64),
    /// A segment between the first and the last one is missing.
    #[error("wal: file sequence numbers (starting from {0}) do not increase continuously")]
    NotContinuous(u64),
    /// The directory already holds segments.
    #[error("file already exists")]
    AlreadyExists,
    /// Two segments carry different metadata.
    #[error("wal: conflicting metadata found")]
    MetadataConflict,
    /// A snapshot record has the wanted index but another term.
    #[error("wal: snapshot mismatch")]
    SnapshotMismatch,
    /// No snapshot record has the wanted index.
    #[error("wal: snapshot not found")]
    SnapshotNotFound,
    /// The running checksum does not fit the record.
    #[error(
        "walpb: crc mismatch: expected: {expected:x} computed: {computed:x}: in file '{file}' at position: {position}"
    )]
    CrcMismatch {
        /// The checksum stored in the record.
        expected: u32,
        /// The checksum of what was read.
        computed: u32,
        /// Name of the segment.
        file: String,
        /// Offset of the frame in the segment, in bytes.
        position: u64,
    },
    /// The log ends inside a record. A torn last write looks like this and can be repaired.
    #[error("unexpected EOF: in file '{file}' at position: {position}")]
    UnexpectedEof {
        /// Name of the segment.
        file: String,
        /// Offset up to which the segment is valid, in bytes.
        position: u64,
    },
    /// A frame claims more bytes than its file has. A torn last write can look like this, too.
    #[error(
        "unexpected EOF: [wal] max entry size limit exceeded when reading \"{file}\", recBytes: {length}, fileSize({size}) - offset({position}) - padBytes({padding}) = entryLimit({limit})"
    )]
    FrameTooLong {
        /// Name of the segment.
        file: String,
        /// Length the frame claims, in bytes.
        length: u64,
        /// Length of the file.
        size: u64,
        /// Offset of the frame in the segment.
        position: u64,
        /// Padding the frame claims.
        padding: u64,
        /// The largest length that would have been believed.
        limit: u64,
    },
    /// A record with a correct checksum, or one that does not look torn, cannot be decoded.
    #[error("wal: malformed {what}: in file '{file}' at position: {position}")]
    Malformed {
        /// What could not be decoded.
        what: &'static str,
        /// Name of the segment.
        file: String,
        /// Offset of the frame in the segment.
        position: u64,
    },
    /// A record of a kind this version does not know.
    #[error("unexpected block type {0}")]
    UnexpectedType(i64),
    /// An entry lies beyond the end of the entries before it.
    #[error(
        "wal: slice bounds out of range, snapshot[Index: {start_index}, Term: {start_term}], current entry[Index: {index}, Term: {term}], len(ents): {collected}"
    )]
    SliceOutOfRange {
        /// Index replay started from.
        start_index: u64,
        /// Its term.
        start_term: u64,
        /// Index of the entry that does not fit.
        index: u64,
        /// Its term.
        term: u64,
        /// How many entries were collected before it.
        collected: usize,
    },
    /// Another process (or another handle in this one) uses the segment.
    #[error("fileutil: file already locked")]
    Locked,
    /// Entries to append do not continue the log; nothing was written.
    #[error("wal: entry {got} does not continue a log that ends at {last}")]
    Gap {
        /// Index of the last entry of the log.
        last: u64,
        /// Index of the entry that does not fit.
        got: u64,
    },
    /// A snapshot record that must name the members does not; nothing was written.
    #[error("Saved (not-initial) snapshot is missing ConfState: index:{index} term:{term}")]
    MissingConfState {
        /// Index of the snapshot.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// An earlier write or sync failed, so that nobody knows what the disk holds. Only a restart helps.
    #[error("wal: stopped after an earlier write error")]
    Poisoned,
    /// A torn segment could not be repaired.
    #[error("failed to repair WAL: {0}")]
    Repair(#[source] Box<Error>),
    /// `.snap` file without content.
    #[error("snap: empty snapshot")]
    EmptySnapshot,
    /// `.snap` file whose content does not fit its checksum.
    #[error("snap: crc mismatch")]
    SnapCrcMismatch,
    /// `.snap` file that cannot be decoded.
    #[error("snap: malformed snapshot: {0}")]
    SnapMalformed(#[source] prost::DecodeError),
    /// No usable `.snap` file.
    #[error("snap: no available snapshot")]
    NoSnapshot,
    /// No `.snap.db` file of the wanted index.
    #[error("snap: snapshot file doesn't exist")]
    NoDbSnapshot,
    /// The file system failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it answered.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the log ends inside a record, as a crash during a write leaves it. [`crate::Wal::open`]
    /// repairs that once; readers that do not write stop there without an error.
    pub fn is_unexpected_eof(&self) -> bool {
        matches!(
            self,
            Error::UnexpectedEof { .. } | Error::FrameTooLong { .. }
        )
    }

    /// Whether the disk is full; the member has to stop all the same.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// Puts the path to an error of the file system.
pub(crate) trait At<T> {
    fn at(self, path: &std::path::Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })
    }
}

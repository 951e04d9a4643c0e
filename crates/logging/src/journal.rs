use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use gotext::os_error;

use crate::{Error, Level, Record};

const SOCKET: &str = "/run/systemd/journal/socket";

/// The datagram socket of the systemd journal, in its native protocol.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    identifier: String,
}

impl Journal {
    pub(crate) fn connect() -> Result<Self, Error> {
        Self::connect_to(Path::new(SOCKET))
    }

    fn connect_to(path: &Path) -> Result<Self, Error> {
        let fail = |e: io::Error| {
            Error::NoJournal(format!(
                "dial unixgram {}: connect: {}",
                path.display(),
                os_error(&e)
            ))
        };
        let socket = UnixDatagram::unbound().map_err(fail)?;
        socket.connect(path).map_err(fail)?;
        let program = std::env::args().next().unwrap_or_default();
        let identifier = Path::new(&program).file_name().unwrap_or_default();
        Ok(Self {
            socket,
            identifier: identifier.to_string_lossy().into_owned(),
        })
    }

    pub(crate) fn send(&self, record: &Record, line: &str) -> io::Result<()> {
        match self.socket.send(&self.datagram(record, line)) {
            // Longer than the socket takes: half a line is better than none.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                let end = line.floor_char_boundary(32 << 10);
                self.socket
                    .send(&self.datagram(record, &line[..end]))
                    .map(drop)
            }
            sent => sent.map(drop),
        }
    }

    fn datagram(&self, record: &Record, line: &str) -> Vec<u8> {
        let priority = match record.level {
            Level::Debug => "7",
            Level::Info => "6",
            Level::Warn => "4",
            Level::Error => "3",
            _ => "2",
        };
        let mut out = Vec::with_capacity(line.len() + 128);
        for (key, value) in [
            ("PRIORITY", priority),
            ("PACKAGE", record.caller.package()),
            ("SYSLOG_IDENTIFIER", &self.identifier),
            ("MESSAGE", line),
        ] {
            push_field(&mut out, key, value);
        }
        out
    }
}

/// `KEY=value`, or for values of several lines the key alone, the length and the value.
fn push_field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_reach_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect_to(&path).unwrap();
        let record = Record::new(Level::Warn, "m");
        journal.send(&record, "{\"level\":\"warn\"}").unwrap();
        let mut buffer = [0; 512];
        let len = receiver.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert!(
            text.starts_with("PRIORITY=4\nPACKAGE=logging\nSYSLOG_IDENTIFIER="),
            "{text}"
        );
        assert!(text.ends_with("\nMESSAGE={\"level\":\"warn\"}\n"), "{text}");
        let huge = "x".repeat(4 << 20);
        journal.send(&record, &huge).unwrap();
        assert_eq!(receiver.recv(&mut buffer).unwrap(), buffer.len());
    }

    #[test]
    fn a_missing_journal_is_named() {
        let error = Journal::connect_to(Path::new("/nonexistent/socket")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't find journal (dial unixgram /nonexistent/socket: connect: no such file or directory)"
        );
    }

    #[test]
    fn values_of_several_lines_carry_their_length() {
        let mut out = Vec::new();
        push_field(&mut out, "K", "a\nb");
        assert_eq!(out, b"K\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}

//! Takes out of an answer what must differ between two servers.
//!
//! Only values are replaced, never fields: a missing or extra field still shows. What is masked:
//!
//! * addresses, the directory of the test, times and durations;
//! * raft term and index (two correct members may need a different number of entries for the same history);
//! * sizes of the database file;
//! * the remaining time of a lease (and the order of its keys, which means nothing);
//! * captured values (lease ids), also where they appear as decimal numbers;
//! * `HashKV` when the script says so.

use std::fmt::Write as _;

use serde_json::Value;

use crate::etcdctl::Output;
use crate::server::Server;

const TERM_OR_INDEX: [&str; 4] = ["raft_term", "raftTerm", "raftIndex", "raftAppliedIndex"];
const SIZES: [&str; 3] = ["dbSize", "dbSizeInUse", "totalSize"];
const TIMES: [&str; 3] = ["took", "ts", "ttl"];
const HASHES: [&str; 1] = ["hash"];

/// Replaces what differs by its name.
#[derive(Clone, Debug)]
pub struct Normaliser {
    /// Text and what it becomes, longest first where one contains the other.
    replace: Vec<(String, String)>,
    /// Decimal forms of captured hexadecimal ids.
    numbers: Vec<(i64, String)>,
}

impl Normaliser {
    /// For answers of this server.
    pub fn new(server: &Server) -> Self {
        Self {
            replace: vec![
                (server.endpoint(), "<endpoint>".to_owned()),
                (server.peer_endpoint(), "<peer>".to_owned()),
                (server.home().display().to_string(), "<dir>".to_owned()),
            ],
            numbers: Vec::new(),
        }
    }

    /// This value is called `<NAME>`, in hexadecimal and in decimal.
    pub fn capture(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let name = format!("<{name}>");
        if let Ok(number) = u64::from_str_radix(value, 16) {
            self.numbers.push((number as i64, name.clone()));
            self.replace.push((number.to_string(), name.clone()));
        }
        self.replace.push((value.to_owned(), name));
    }

    /// The normalised answer; with `mask_hash` hashes in it are masked, too.
    pub fn output(&self, output: Output, mask_hash: bool) -> Output {
        // Bytes that are no text are compared as they are.
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => self.text(&text, mask_hash).into_bytes(),
            Err(error) => error.into_bytes(),
        };
        Output {
            code: output.code,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The normalised text.
    pub fn text(&self, text: &str, mask_hash: bool) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut table = None;
        for line in text.lines() {
            let line = self.names(line);
            if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(&line) {
                lines.push(self.json(value, mask_hash).to_string());
            } else if is_border(&line) {
                lines.push("<border>".to_owned());
            } else if let Some(cells) = cells(&line) {
                let header: &Vec<String> = table.get_or_insert_with(|| cells.clone());
                lines.push(row(header, &cells, mask_hash));
            } else {
                lines.push(plain(&line, mask_hash));
            }
        }
        let mut text = lines.join("\n");
        text.push('\n');
        text
    }

    fn names(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (from, to) in &self.replace {
            // A number inside a JSON document has to stay a number; `json` replaces it.
            let is_number = from.bytes().all(|byte| byte.is_ascii_digit());
            if !(is_number && line.starts_with(['{', '['])) {
                line = line.replace(from, to);
            }
        }
        line
    }

    fn json(&self, value: Value, mask_hash: bool) -> Value {
        match value {
            Value::Object(mut fields) => {
                if fields.contains_key("granted-ttl")
                    && let Some(Value::Array(keys)) = fields.get_mut("keys")
                {
                    keys.sort_by_key(Value::to_string);
                }
                let is_log = fields.contains_key("level") && fields.contains_key("msg");
                fields
                    .into_iter()
                    .filter(|(key, _)| !(is_log && is_noise(key)))
                    .map(|(key, value)| {
                        let value = self.field(&key, value, mask_hash);
                        (key, value)
                    })
                    .collect()
            }
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.json(item, mask_hash))
                .collect(),
            Value::Number(number) => {
                let known = number
                    .as_i64()
                    .and_then(|number| self.numbers.iter().find(|(value, _)| *value == number));
                known.map_or(Value::Number(number), |(_, name)| {
                    Value::String(name.clone())
                })
            }
            other => other,
        }
    }

    fn field(&self, key: &str, value: Value, mask_hash: bool) -> Value {
        let masked = [
            (&TERM_OR_INDEX[..], "<raft>"),
            (&SIZES[..], "<size>"),
            (&TIMES[..], "<time>"),
        ];
        // A lease that is gone has the time -1; that is an answer, not a time.
        if value.is_number() && value.as_i64() == Some(-1) {
            return value;
        }
        for (keys, name) in masked {
            if keys.contains(&key) {
                return Value::String(name.to_owned());
            }
        }
        if mask_hash && HASHES.contains(&key) {
            return Value::String("<hash>".to_owned());
        }
        self.json(value, mask_hash)
    }
}

/// A row of a table with the cells of masked columns replaced.
fn row(header: &[String], cells: &[String], mask_hash: bool) -> String {
    let cells: Vec<&str> = header
        .iter()
        .zip(cells)
        .map(|(name, cell)| match name.as_str() {
            _ if name == cell => cell.as_str(),
            "DB SIZE" | "IN USE" | "PERCENTAGE NOT IN USE" | "TOTAL SIZE" => "<size>",
            "RAFT TERM" | "RAFT INDEX" | "RAFT APPLIED INDEX" => "<raft>",
            "TOOK" => "<time>",
            "HASH" if mask_hash => "<hash>",
            _ => cell.as_str(),
        })
        .collect();
    format!("| {} |", cells.join(" | "))
}

/// A line of the simple or fields format.
fn plain(line: &str, mask_hash: bool) -> String {
    if let Some((name, value)) = line.split_once(" : ") {
        let name_only = name.trim_matches('"');
        let masked = match name_only {
            "RaftTerm" | "RaftIndex" | "RaftAppliedIndex" => Some("<raft>"),
            "DBSize" | "DBSizeInUse" => Some("<size>"),
            "Took" => Some("<time>"),
            // Remaining time; the granted one has its own name. A dead lease has -1.
            "TTL" if value != "-1" => Some("<time>"),
            "Hash" if mask_hash => Some("<hash>"),
            _ => None,
        };
        if let Some(masked) = masked {
            return format!("{name} : {masked}");
        }
    }
    let line = status_line(line, mask_hash).unwrap_or_else(|| line.to_owned());
    let line = mask_between(&line, "remaining(", "s)", "<time>");
    let line = sorted_between(&line, "attached keys([", "])");
    let line = mask_after(&line, "took = ", "<time>");
    mask_after(&line, "took ", "<time>")
}

/// A line of `endpoint status`, `endpoint hashkv` or `snapshot status` in the simple format.
fn status_line(line: &str, mask_hash: bool) -> Option<String> {
    let mut cells: Vec<&str> = line.split(", ").collect();
    let masked: &[(usize, &str)] = match (cells[0], cells.len()) {
        ("<endpoint>", 16) => &[
            (4, "<size>"),
            (5, "<size>"),
            (6, "<size>"),
            (10, "<raft>"),
            (11, "<raft>"),
            (12, "<raft>"),
        ],
        ("<endpoint>", 3) if mask_hash => &[(1, "<hash>")],
        // `snapshot status`: hash, revision, keys, size, version.
        (_, 5) if cells[3].ends_with('B') && mask_hash => &[(0, "<hash>"), (3, "<size>")],
        (_, 5) if cells[3].ends_with('B') => &[(3, "<size>")],
        _ => return None,
    };
    for (index, name) in masked {
        cells[*index] = name;
    }
    Some(cells.join(", "))
}

/// An encoded answer as hexadecimal digits, without the raft term of its header.
pub(super) fn protobuf(bytes: &[u8]) -> String {
    let mut kept = bytes.to_vec();
    if let Some((start, end)) = raft_term(bytes) {
        kept.drain(start..end);
    }
    digits(&kept)
}

/// Bytes as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where field 4 of the header lies. The header is the first field of an answer, or (leases) all of it.
fn raft_term(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = if *bytes.first()? == 0x0a { 2 } else { 0 };
    loop {
        let tag = *bytes.get(at)?;
        let length = bytes
            .get(at + 1..)?
            .iter()
            .position(|byte| byte & 0x80 == 0)?
            + 2;
        match tag {
            0x20 => return Some((at, at + length)),
            0x08 | 0x10 | 0x18 => at += length,
            _ => return None,
        }
    }
}

/// Fields of a log line that say where and when, not what.
fn is_noise(key: &str) -> bool {
    matches!(
        key,
        "ts" | "caller" | "target" | "peer" | "attempt" | "stacktrace" | "took" | "size"
    )
}

fn is_border(line: &str) -> bool {
    line.starts_with(['┌', '├', '└'])
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('│')?.strip_suffix('│')?;
    Some(
        inner
            .split('│')
            .map(|cell| cell.trim().to_owned())
            .collect(),
    )
}

/// Puts the words between the two into order: the keys of a lease come in any.
fn sorted_between(line: &str, before: &str, after: &str) -> String {
    let parts = line
        .split_once(before)
        .and_then(|(head, rest)| Some((head, rest.rsplit_once(after)?)));
    let Some((head, (inner, tail))) = parts else {
        return line.to_owned();
    };
    let mut words: Vec<&str> = inner.split(' ').collect();
    words.sort_unstable();
    format!("{head}{before}{}{after}{tail}", words.join(" "))
}

fn mask_between(line: &str, before: &str, after: &str, name: &str) -> String {
    let Some((head, rest)) = line.split_once(before) else {
        return line.to_owned();
    };
    let Some((_, tail)) = rest.split_once(after) else {
        return line.to_owned();
    };
    format!("{head}{before}{name}{after}{tail}")
}

/// Masks the word after `before` when it begins with a digit.
fn mask_after(line: &str, before: &str, name: &str) -> String {
    let Some((head, rest)) = line.split_once(before) else {
        return line.to_owned();
    };
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return line.to_owned();
    }
    let tail = rest.split_once(' ').map_or("", |(_, tail)| tail);
    let blank = if tail.is_empty() { "" } else { " " };
    format!("{head}{before}{name}{blank}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normaliser() -> Normaliser {
        Normaliser {
            replace: vec![("127.0.0.1:20001".to_owned(), "<endpoint>".to_owned())],
            numbers: Vec::new(),
        }
    }

    #[test]
    fn only_values_that_must_differ_are_masked() {
        let normal = normaliser();
        let text = normal.text("{\"header\":{\"revision\":7,\"raft_term\":3},\"count\":1}\n\"RaftTerm\" : 4\n\"Revision\" : 4", false);
        assert_eq!(
            text,
            "{\"count\":1,\"header\":{\"raft_term\":\"<raft>\",\"revision\":7}}\n\"RaftTerm\" : <raft>\n\"Revision\" : 4\n"
        );
    }

    #[test]
    fn status_lines_keep_what_counts() {
        let line = "127.0.0.1:20001, 8e9e05c52164694d, 3.7.3, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 9, 9, , , false";
        assert_eq!(
            normaliser().text(line, false),
            "<endpoint>, 8e9e05c52164694d, 3.7.3, 3.7.0, <size>, <size>, <size>, 2.1 GB, true, false, <raft>, <raft>, <raft>, , , false\n"
        );
    }

    #[test]
    fn captured_ids_are_named_in_hex_and_decimal() {
        let mut normal = normaliser();
        normal.capture("L", "00000000000003e9");
        assert_eq!(
            normal.text("lease 00000000000003e9 revoked", false),
            "lease <L> revoked\n"
        );
        assert_eq!(
            normal.text("{\"ID\":1001,\"n\":10010}", false),
            "{\"ID\":\"<L>\",\"n\":10010}\n"
        );
    }

    #[test]
    fn the_raft_term_is_taken_out_of_an_encoded_answer() {
        assert_eq!(
            protobuf(&[0x0a, 6, 0x08, 0x81, 1, 0x18, 2, 0x20, 3, 0x12, 0]),
            "0a06088101 18021200".replace(' ', "")
        );
        assert_eq!(protobuf(&[0x18, 2, 0x20, 3]), "1802");
        assert_eq!(protobuf(&[]), "");
    }

    #[test]
    fn a_dead_lease_is_not_a_time() {
        let normal = normaliser();
        assert_eq!(normal.text("{\"ttl\":-1}", false), "{\"ttl\":-1}\n");
        assert_eq!(normal.text("{\"ttl\":9}", false), "{\"ttl\":\"<time>\"}\n");
        assert_eq!(
            normal.text(
                "lease 1 granted with TTL(100s), remaining(99s), attached keys([b a])",
                false
            ),
            "lease 1 granted with TTL(100s), remaining(<time>s), attached keys([a b])\n"
        );
    }
}

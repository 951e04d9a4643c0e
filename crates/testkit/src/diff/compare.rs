//! Compares what two servers answered.

use std::fmt;

use serde_json::Value;

use super::play::Record;
use super::script::Script;

/// One answer that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Script and line.
    pub place: String,
    /// The command.
    pub label: String,
    /// What differs: `exit code`, `stdout` or `stderr`, with the line or JSON path.
    pub what: String,
    /// The left answer there.
    pub left: String,
    /// The right answer there.
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.place, self.label)?;
        writeln!(f, "  {}:", self.what)?;
        writeln!(f, "    left:  {}", self.left)?;
        write!(f, "    right: {}", self.right)
    }
}

/// The differences between the answers to the same script; at most one per command and stream.
pub fn compare(left: &[Record], right: &[Record], script: &Script) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (l, r) in left.iter().zip(right) {
        let mut found = |what: String, left: String, right: String| {
            differences.push(Difference {
                place: format!("{}:{}", script.name, l.line),
                label: l.label.clone(),
                what,
                left,
                right,
            });
        };
        if l.output.code != r.output.code {
            let side = |record: &Record| {
                format!("{} {}", record.output.code, record.output.err().trim_end())
            };
            found("exit code".to_owned(), side(l), side(r));
        }
        for (name, a, b) in [
            ("stdout", &l.output.stdout, &r.output.stdout),
            ("stderr", &l.output.stderr, &r.output.stderr),
        ] {
            if let Some((place, left, right)) = streams(a, b, l.unordered) {
                found(format!("{name} {place}"), left, right);
            }
        }
    }
    if left.len() != right.len() {
        differences.push(Difference {
            place: script.name.clone(),
            label: "the whole script".to_owned(),
            what: "number of commands".to_owned(),
            left: left.len().to_string(),
            right: right.len().to_string(),
        });
    }
    differences
}

/// Where two outputs differ first.
fn streams(left: &[u8], right: &[u8], unordered: bool) -> Option<(String, String, String)> {
    if left == right {
        return None;
    }
    let (Ok(a), Ok(b)) = (std::str::from_utf8(left), std::str::from_utf8(right)) else {
        return Some((String::from("(bytes)"), hex(left), hex(right)));
    };
    let (mut a, mut b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    if unordered {
        a.sort_unstable();
        b.sort_unstable();
    }
    let count = a.len().max(b.len());
    for index in 0..count {
        let (l, r) = (a.get(index), b.get(index));
        if l == r {
            continue;
        }
        let (l, r) = (
            l.copied().unwrap_or("<end of output>"),
            r.copied().unwrap_or("<end of output>"),
        );
        let parsed = (serde_json::from_str(l), serde_json::from_str(r));
        if let (Ok(l), Ok(r)) = parsed {
            let (path, l, r) = json(&l, &r, String::new())?;
            return Some((format!("line {} {path}", index + 1), l, r));
        }
        return Some((format!("line {}", index + 1), l.to_owned(), r.to_owned()));
    }
    None
}

/// The first path at which two documents differ.
fn json(left: &Value, right: &Value, path: String) -> Option<(String, String, String)> {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            let mut keys: Vec<&String> = l.keys().chain(r.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let path = format!("{path}.{key}");
                match (l.get(key), r.get(key)) {
                    (Some(l), Some(r)) => json(l, r, path),
                    (l, r) => Some((path, show(l), show(r))),
                }
            })
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => l
            .iter()
            .zip(r)
            .enumerate()
            .find_map(|(index, (l, r))| json(l, r, format!("{path}[{index}]"))),
        (l, r) if l == r => None,
        (l, r) => Some((path, l.to_string(), r.to_string())),
    }
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "<absent>".to_owned(), Value::to_string)
}

fn hex(bytes: &[u8]) -> String {
    super::normal::digits(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_inside_a_document_is_named_by_its_path() {
        let (place, left, right) = streams(
            b"{\"kvs\":[{\"lease\":1}],\"count\":1}",
            b"{\"kvs\":[{}],\"count\":1}",
            false,
        )
        .unwrap();
        assert_eq!(place, "line 1 .kvs[0].lease");
        assert_eq!((left.as_str(), right.as_str()), ("1", "<absent>"));
    }

    #[test]
    fn order_counts_unless_told_otherwise() {
        assert!(streams(b"a\nb\n", b"b\na\n", false).is_some());
        assert!(streams(b"a\nb\n", b"b\na\n", true).is_none());
    }
}

use std::path::PathBuf;

use gotext::quote;
use serde_json::{Map, Value};

use crate::Level;
use crate::level::UnknownLevel;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// Columns separated by tabs, for people.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The local systemd journal.
    Journal,
    /// A file that is appended to.
    File(PathBuf),
    /// A file that is renamed when it has grown too big.
    Rotating(PathBuf, Rotation),
}

/// When a log file is rotated and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes that a file does not exceed.
    pub max_size: u64,
    /// Days after which rotated files are deleted; 0 keeps them.
    pub max_age_days: u64,
    /// Rotated files to keep; 0 keeps all.
    pub max_backups: usize,
    /// Whether names of rotated files carry local time instead of UTC.
    pub local_time: bool,
    /// Whether rotated files are compressed with gzip.
    pub compress: bool,
}

/// Why logging cannot be set up; `Display` is etcd's text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--logger` names something else than `zap`.
    #[error("{0}")]
    Logger(String),
    /// `--log-outputs` combines what cannot be combined.
    #[error("{0}")]
    Outputs(String),
    /// `--log-format` is unknown.
    #[error("unknown log format: {0}, supported values json, console")]
    Format(String),
    /// `--log-level` is unknown. etcd dies of it with exit code 2 where other mistakes give 1.
    #[error(transparent)]
    Level(#[from] UnknownLevel),
    /// `--log-rotation-config-json` cannot be used.
    #[error("{0}")]
    Rotation(String),
    /// An output cannot be opened.
    #[error("open sink {}: open {name}: {cause}", quote(.name))]
    Open {
        /// As given in the flag.
        name: String,
        /// What the system says.
        cause: String,
    },
    /// The journal cannot be reached.
    #[error("can't find journal ({0})")]
    NoJournal(String),
}

/// What the logging flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Lines below it are not written.
    pub level: Level,
    /// The form of a line.
    pub format: Format,
    /// All of them get every line; none discards everything.
    pub targets: Vec<Target>,
}

impl Default for Config {
    /// JSON lines from `info` on to standard error.
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Json,
            targets: vec![Target::Stderr],
        }
    }
}

impl Config {
    /// Interprets the values of `--logger`, `--log-outputs`, `--log-level`, `--log-format` and, if
    /// rotation is on, `--log-rotation-config-json`.
    pub fn from_flags(
        logger: &str,
        outputs: &[String],
        level: &str,
        format: &str,
        rotation: Option<&str>,
    ) -> Result<Self, Error> {
        match logger {
            "zap" => {}
            "capnslog" => {
                return Err(Error::Logger(
                    "--logger=capnslog is removed in v3.5".to_owned(),
                ));
            }
            other => {
                return Err(Error::Logger(format!(
                    "unknown logger option {}",
                    quote(other)
                )));
            }
        }
        if outputs.len() > 1 && outputs.iter().any(|o| o == "default") {
            return Err(Error::Outputs(
                "multi logoutput for \"default\" is not supported yet".to_owned(),
            ));
        }
        let rotation = rotation
            .map(|json| parse_rotation(outputs, json))
            .transpose()?;
        let targets = targets(outputs, rotation)?;
        let level = level.parse()?;
        let format = match format {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            other => return Err(Error::Format(other.to_owned())),
        };
        Ok(Self {
            level,
            format,
            targets,
        })
    }
}

fn targets(outputs: &[String], rotation: Option<Rotation>) -> Result<Vec<Target>, Error> {
    let journal = outputs.iter().any(|o| o == "systemd/journal");
    if journal && outputs.len() > 1 {
        let quoted: Vec<String> = outputs.iter().map(|o| quote(o)).collect();
        return Err(Error::Outputs(format!(
            "running with systemd/journal but other '--log-outputs' values ([{}]) are configured with \
             'default'; override 'default' value with something else",
            quoted.join(" ")
        )));
    }
    if outputs.iter().any(|o| o == "/dev/null") {
        return Ok(Vec::new());
    }
    if outputs.is_empty() {
        return Ok(vec![Target::Stderr]);
    }
    let target = |output: &String| match (output.as_str(), rotation) {
        ("default" | "stderr", _) => Target::Stderr,
        ("stdout", _) => Target::Stdout,
        ("systemd/journal", _) => Target::Journal,
        (path, Some(rotation)) => Target::Rotating(path.into(), rotation),
        (path, None) => Target::File(path.into()),
    };
    Ok(outputs.iter().map(target).collect())
}

fn parse_rotation(outputs: &[String], json: &str) -> Result<Rotation, Error> {
    let special = |o: &&String| matches!(o.as_str(), "default" | "stderr" | "stdout");
    let files = outputs.iter().filter(|o| !special(o)).count();
    if files != 1 || outputs.iter().any(|o| o == "systemd/journal") {
        return Err(Error::Rotation(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
                .to_owned(),
        ));
    }
    if json.trim().is_empty() {
        return Err(Error::Rotation(
            "improperly formatted log rotation config: unexpected end of JSON input".to_owned(),
        ));
    }
    let parsed: Value = serde_json::from_str(json).map_err(|e| {
        let cause = if e.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            e.to_string()
        };
        Error::Rotation(format!("improperly formatted log rotation config: {cause}"))
    })?;
    let Value::Object(map) = parsed else {
        return Err(wrong_type(&parsed, None));
    };
    let max_size_mb = number(&map, "maxsize")?;
    Ok(Rotation {
        // Zero means 100 MB, as in the library etcd uses.
        max_size: if max_size_mb == 0 { 100 } else { max_size_mb } << 20,
        max_age_days: number(&map, "maxage")?,
        max_backups: number(&map, "maxbackups")? as usize,
        local_time: flag(&map, "localtime")?,
        compress: flag(&map, "compress")?,
    })
}

fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.iter()
        .find(|(k, v)| k.eq_ignore_ascii_case(key) && !v.is_null())
        .map(|(_, v)| v)
}

fn number(map: &Map<String, Value>, key: &'static str) -> Result<u64, Error> {
    let Some(value) = get(map, key) else {
        return Ok(0);
    };
    // Negative limits mean none, as zero does.
    let number = value
        .as_i64()
        .map(|n| n.max(0) as u64)
        .filter(|n| *n < 1 << 40);
    number.ok_or_else(|| wrong_type(value, Some((key, "int"))))
}

fn flag(map: &Map<String, Value>, key: &'static str) -> Result<bool, Error> {
    get(map, key).map_or(Ok(false), |v| {
        v.as_bool()
            .ok_or_else(|| wrong_type(v, Some((key, "bool"))))
    })
}

fn wrong_type(value: &Value, field: Option<(&str, &str)>) -> Error {
    let kind = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) => match field {
            Some((_, "int")) => format!("number {n}"),
            _ => "number".to_owned(),
        },
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let place = match field {
        Some((key, go_type)) => {
            format!("Go struct field logRotationConfig.Logger.{key} of type {go_type}")
        }
        None => "Go value of type embed.logRotationConfig".to_owned(),
    };
    Error::Rotation(format!(
        "invalid log rotation config: json: cannot unmarshal {kind} into {place}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(outputs: &[&str], rotation: Option<&str>) -> Result<Vec<Target>, String> {
        let outputs: Vec<String> = outputs.iter().map(|&o| o.to_owned()).collect();
        Config::from_flags("zap", &outputs, "info", "json", rotation)
            .map(|c| c.targets)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn outputs_are_understood() {
        assert_eq!(from(&["default"], None), Ok(vec![Target::Stderr]));
        assert_eq!(from(&[], None), Ok(vec![Target::Stderr]));
        assert_eq!(
            from(&["/tmp/x", "stdout"], None),
            Ok(vec![Target::File("/tmp/x".into()), Target::Stdout])
        );
        assert_eq!(from(&["/dev/null", "stderr"], None), Ok(vec![]));
        assert_eq!(from(&["systemd/journal"], None), Ok(vec![Target::Journal]));
    }

    #[test]
    fn mistakes_have_etcds_texts() {
        let single =
            "--log-outputs requires a single file path when --log-rotate-config-json is defined";
        for (outputs, rotation, want) in [
            (
                vec!["default", "stderr"],
                None,
                "multi logoutput for \"default\" is not supported yet",
            ),
            (vec!["default"], Some("{}"), single),
            (vec!["a", "b"], Some("{}"), single),
            (
                vec!["a"],
                Some(""),
                "improperly formatted log rotation config: unexpected end of JSON input",
            ),
            (
                vec!["a"],
                Some("{"),
                "improperly formatted log rotation config: unexpected end of JSON input",
            ),
            (
                vec!["a"],
                Some(r#"{"maxsize":"1"}"#),
                "invalid log rotation config: json: cannot unmarshal string into Go struct field \
                 logRotationConfig.Logger.maxsize of type int",
            ),
            (
                vec!["a"],
                Some(r#"{"compress":1}"#),
                "invalid log rotation config: json: cannot unmarshal number into Go struct field \
                 logRotationConfig.Logger.compress of type bool",
            ),
        ] {
            assert_eq!(from(&outputs, rotation), Err(want.to_owned()));
        }
        let other = |logger, level, format| {
            Config::from_flags(logger, &[], level, format, None)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            other("capnslog", "", ""),
            "--logger=capnslog is removed in v3.5"
        );
        assert_eq!(other("foo", "", ""), "unknown logger option \"foo\"");
        assert_eq!(other("zap", "foo", ""), "unrecognized level: \"foo\"");
        assert_eq!(
            other("zap", "", "foo"),
            "unknown log format: foo, supported values json, console"
        );
    }

    #[test]
    fn rotation_is_read() {
        let json =
            r#"{"maxsize": 1, "maxage": 2, "maxbackups": 3, "localtime": true, "Compress": true}"#;
        let want = Rotation {
            max_size: 1 << 20,
            max_age_days: 2,
            max_backups: 3,
            local_time: true,
            compress: true,
        };
        let targets = from(&["a", "stderr"], Some(json)).unwrap();
        assert_eq!(
            targets,
            [Target::Rotating("a".into(), want), Target::Stderr]
        );
        let Ok(targets) = from(&["a"], Some("{}")) else {
            panic!("an empty object is fine")
        };
        assert!(matches!(targets[..], [Target::Rotating(_, r)] if r.max_size == 100 << 20));
    }
}

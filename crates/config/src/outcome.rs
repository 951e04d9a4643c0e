use std::io;

use logging::{Level, Record};

use crate::command_line::CommandLine;
use crate::environment::EnvironmentError;
use crate::file::FileError;
use crate::validate::ADVERTISE_MISSING;
use crate::{Config, Origin, Settings, Value, build, command_line, environment, file, help, table};

/// What the surroundings of the process say.
pub struct Input<'a> {
    /// All arguments, the program's name first.
    pub args: &'a [String],
    /// All environment variables.
    pub variables: &'a [(String, String)],
    /// Reads the configuration file.
    pub read_file: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    /// Version texts for `--version`.
    pub version: Version<'a>,
}

/// What `--version` prints.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// The release of etcd whose behaviour this is.
    pub release: &'a str,
    /// The commit it was built from, or why that is unknown.
    pub commit: &'a str,
    /// The compiler.
    pub compiler: &'a str,
}

/// What the program should do.
#[derive(Debug)]
pub enum Outcome {
    /// Run the server.
    Run(Box<Start>),
    /// Print and exit with this code.
    Exit(Exit),
}

/// A good configuration and what is to be logged about it.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// To be logged before the outputs of the configuration are opened: as JSON to standard error.
    pub early: Vec<Record>,
    /// To be logged once they are open.
    pub late: Vec<Record>,
}

/// Nothing to run.
#[derive(Debug, Default)]
pub struct Exit {
    /// For standard output.
    pub stdout: String,
    /// For standard error, before the records.
    pub stderr: String,
    /// To be logged as JSON to standard error.
    pub records: Vec<Record>,
    /// The exit code.
    pub code: i32,
}

/// Reads command line, configuration file or environment, and checks what they say. See
/// `docs/configuration.md` for which of them counts when.
pub fn parse(input: &Input<'_>) -> Outcome {
    let mut settings = Settings::defaults();
    let options = input.args.get(1..).unwrap_or_default();
    let line = match command_line::parse(options, &mut settings) {
        Ok(line) => line,
        Err(text) => return Outcome::Exit(usage_error(&text)),
    };
    if line.help {
        return Outcome::Exit(Exit {
            stdout: help::flags_text(),
            stderr: help::usage_text(),
            ..Exit::default()
        });
    }
    if settings.flag("version") {
        return Outcome::Exit(Exit {
            stdout: help::version_text(&input.version),
            ..Exit::default()
        });
    }
    let mut records = Vec::new();
    match configure(input, line, settings, &mut records) {
        Ok((config, early)) => {
            let mut late = records.split_off(early);
            late.push(running(input.args));
            Outcome::Run(Box::new(Start {
                config,
                early: records,
                late,
            }))
        }
        Err(failure) => Outcome::Exit(failed(input.args, failure, records)),
    }
}

/// Why there is nothing to run.
enum Failure {
    /// A text for the line `failed to verify flags`.
    Invalid(String),
    /// A fatal record.
    Fatal(Record),
    /// Text for standard error and an exit code.
    Plain(String, i32),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Invalid(text)
    }
}

/// The result is the configuration and how many records come before the outputs are open.
fn configure(
    input: &Input<'_>,
    line: CommandLine,
    mut settings: Settings,
    records: &mut Vec<Record>,
) -> Result<(Config, usize), Failure> {
    if let Some(argument) = line.positional {
        return Err(format!("{} is not a valid flag", gotext::quote(&argument)).into());
    }
    let file = config_file(input, &settings);
    if let Some(path) = &file {
        settings = from_file(path, input)?;
    } else {
        environment::apply(input.variables, &mut settings, records).map_err(|e| match e {
            EnvironmentError::Conflict(record) => Failure::Fatal(record),
            EnvironmentError::Invalid(text) => Failure::Invalid(text),
        })?;
        raise_raft_timeouts(&mut settings, records);
        if settings.text("discovery-fallback") == "proxy" {
            let text =
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"";
            return Err(text.to_owned().into());
        }
    }
    let early = records.len();
    let log = log_config(&settings)?;
    let checked = crate::validate::validate(&settings, records);
    match &file {
        Some(path) if checked.is_ok() => records.push(
            Record::new(
                Level::Info,
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided",
            )
            .field("path", path.clone()),
        ),
        Some(_) => return Err(checked.err().unwrap_or_default().into()),
        None => {}
    }
    warn_deprecated(&settings, records);
    checked?;
    Ok((build::build(settings, log), early))
}

/// The file that is used, if any: from the command line, else from the environment.
fn config_file(input: &Input<'_>, settings: &Settings) -> Option<String> {
    let path = settings.text("config-file");
    let variable = || {
        let found = input
            .variables
            .iter()
            .find(|(name, _)| name == "ETCD_CONFIG_FILE");
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let path = if path.is_empty() { variable() } else { path };
    (!path.is_empty()).then_some(path)
}

/// With a file, nothing else counts.
fn from_file(path: &str, input: &Input<'_>) -> Result<Settings, Failure> {
    let mut settings = Settings::defaults();
    if let Some(flag) = table::find("config-file") {
        settings.put(flag, Value::Text(path.to_owned()), Origin::File);
    }
    file::apply(path, (input.read_file)(path), &mut settings).map_err(|error| match error {
        FileError::Invalid(text) => Failure::Invalid(text),
        FileError::Plain(text) => Failure::Plain(text, 1),
        FileError::Panic(text) => Failure::Plain(text, 2),
    })?;
    Ok(settings)
}

fn log_config(s: &Settings) -> Result<logging::Config, Failure> {
    let rotation = s
        .flag("enable-log-rotation")
        .then(|| s.text("log-rotation-config-json"));
    let config = logging::Config::from_flags(
        &s.text("logger"),
        &s.texts("log-outputs"),
        &s.text("log-level"),
        &s.text("log-format"),
        rotation.as_deref(),
    );
    config.map_err(|error| match error {
        logging::Error::Level(_) => Failure::Plain(format!("panic: {error}"), 2),
        other => Failure::Invalid(other.to_string()),
    })
}

fn raise_raft_timeouts(settings: &mut Settings, records: &mut Vec<Record>) {
    const MIN_NANOS: i64 = 5_000_000_000;
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if settings.nanos(name) >= MIN_NANOS {
            continue;
        }
        let origin = settings.origin(name);
        if let Some(flag) = table::find(name) {
            settings.put(flag, Value::Duration(MIN_NANOS), origin);
        }
        let text = format!("{name} increased to minimum value: 5s");
        records.push(Record::new(Level::Info, text));
    }
}

fn warn_deprecated(settings: &Settings, records: &mut Vec<Record>) {
    let set = table::flags().filter(|flag| settings.is_set(flag.name));
    records.extend(
        set.filter_map(|flag| flag.deprecated)
            .map(|warning| Record::new(Level::Warn, warning)),
    );
}

fn running(args: &[String]) -> Record {
    Record::new(Level::Info, "Running: ").field("args", logging::Value::json(&args))
}

fn usage_error(text: &str) -> Exit {
    Exit {
        stderr: format!("{text}\n{}", help::usage_text()),
        code: 2,
        ..Exit::default()
    }
}

fn failed(args: &[String], failure: Failure, mut records: Vec<Record>) -> Exit {
    match failure {
        Failure::Invalid(text) => {
            records.push(running(args));
            records.extend(failure_records(&text));
            Exit {
                records,
                code: 1,
                ..Exit::default()
            }
        }
        Failure::Fatal(record) => {
            records.push(record);
            Exit {
                records,
                code: 1,
                ..Exit::default()
            }
        }
        Failure::Plain(text, code) => Exit {
            stderr: format!("{text}\n"),
            records,
            code,
            ..Exit::default()
        },
    }
}

/// What is logged when the configuration cannot be used, also when an output of the log cannot be
/// opened: the program logs these and exits with code 1.
pub fn failure_records(error: &str) -> Vec<Record> {
    let mut records =
        vec![Record::new(Level::Warn, "failed to verify flags").field("error", error)];
    if error == ADVERTISE_MISSING {
        records.push(
            Record::new(Level::Warn, "advertise client URLs are not set").field("error", error),
        );
    }
    records
}

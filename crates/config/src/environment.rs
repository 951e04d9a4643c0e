use std::collections::BTreeSet;

use gotext::quote;
use logging::{Level, Record};

use crate::{Flag, Kind, Origin, Section, Settings, table};

/// How the environment was not usable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EnvironmentError {
    /// A variable repeats an option of the command line: the record is fatal.
    Conflict(Record),
    /// A variable has a value that is none.
    Invalid(String),
}

/// Gives all options that the command line leaves open the values of their variables.
pub(crate) fn apply(
    variables: &[(String, String)],
    settings: &mut Settings,
    records: &mut Vec<Record>,
) -> Result<(), EnvironmentError> {
    let mut variables = variables.to_vec();
    variables.retain(|(name, value)| {
        let special = name == "ETCD_VERSION";
        if special {
            records.push(
                Record::new(Level::Warn, "cannot set special environment variable")
                    .field("key", name.clone())
                    .field("value", value.clone()),
            );
        }
        !special
    });
    let mut used = BTreeSet::new();
    let mut flags: Vec<&Flag> = table::flags()
        .filter(|f| f.section != Section::FileOnly)
        .collect();
    flags.sort_unstable_by_key(|flag| flag.name);
    for flag in flags {
        let name = flag.variable();
        let Some((_, value)) = variables.iter().find(|(n, _)| *n == name) else {
            continue;
        };
        if settings.is_set(flag.name) {
            return Err(EnvironmentError::Conflict(conflict(name)));
        }
        if value.is_empty() {
            continue;
        }
        used.insert(name.clone());
        settings
            .parse(flag, value, Origin::Environment)
            .map_err(|cause| {
                let value = quote(value);
                EnvironmentError::Invalid(format!("invalid value {value} for {name}: {cause}"))
            })?;
        if flag.kind != Kind::Ignored || !value.is_empty() {
            records.push(
                Record::new(Level::Info, "recognized and used environment variable")
                    .field("variable-name", name)
                    .field("variable-value", value.clone()),
            );
        }
    }
    for (name, value) in &variables {
        if name.starts_with("ETCD_") && !used.contains(name) {
            records.push(
                Record::new(Level::Warn, "unrecognized environment variable")
                    .field("environment-variable", format!("{name}={value}")),
            );
        }
    }
    Ok(())
}

fn conflict(name: String) -> Record {
    // The double parenthesis is etcd's.
    Record::new(
        Level::Fatal,
        "conflicting environment variable is shadowed by corresponding command-line flag (either \
         unset environment variable or disable flag))",
    )
    .field("environment-variable", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        variables: &[(&str, &str)],
        settings: &mut Settings,
    ) -> (Result<(), EnvironmentError>, Vec<Record>) {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let variables: Vec<_> = variables.iter().map(own).collect();
        let mut records = Vec::new();
        (apply(&variables, settings, &mut records), records)
    }

    fn messages(records: &[Record]) -> Vec<String> {
        let text = |record: &Record| {
            let fields: Vec<String> = record
                .fields()
                .map(|(_, value)| match value {
                    logging::Value::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                })
                .collect();
            format!(
                "{} {}: {}",
                record.level(),
                record.message(),
                fields.join(" ")
            )
        };
        records.iter().map(text).collect()
    }

    #[test]
    fn variables_are_used_and_told() {
        let mut settings = Settings::defaults();
        let (result, records) = run(
            &[
                ("PATH", "/bin"),
                ("ETCD_NAME", "x"),
                ("ETCD_FOO", "1"),
                ("ETCD_VERSION", "5"),
                ("ETCD_DATA_DIR", ""),
                ("ETCD_MAX_WALS", "4"),
            ],
            &mut settings,
        );
        assert_eq!(result, Ok(()));
        assert_eq!(
            messages(&records),
            [
                "warn cannot set special environment variable: ETCD_VERSION 5",
                "info recognized and used environment variable: ETCD_MAX_WALS 4",
                "info recognized and used environment variable: ETCD_NAME x",
                "warn unrecognized environment variable: ETCD_FOO=1",
                "warn unrecognized environment variable: ETCD_DATA_DIR=",
            ]
        );
        assert_eq!(settings.text("name"), "x");
        assert_eq!(settings.origin("max-wals"), Origin::Environment);
    }

    #[test]
    fn a_variable_beside_its_flag_is_fatal_even_when_empty() {
        let mut settings = Settings::defaults();
        let name = table::find("name").unwrap();
        settings.parse(name, "y", Origin::CommandLine).unwrap();
        let (result, _) = run(&[("ETCD_NAME", "")], &mut settings);
        let Err(EnvironmentError::Conflict(record)) = result else {
            panic!("no conflict")
        };
        assert_eq!(record.level(), Level::Fatal);
    }

    #[test]
    fn bad_values_name_the_variable() {
        let (result, _) = run(&[("ETCD_MAX_WALS", "abc")], &mut Settings::defaults());
        let want = "invalid value \"abc\" for ETCD_MAX_WALS: parse error".to_owned();
        assert_eq!(result, Err(EnvironmentError::Invalid(want)));
    }
}

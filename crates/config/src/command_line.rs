use gotext::quote;

use crate::{Flag, Kind, Origin, Settings, table};

/// What the command line asks for besides its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// `-h` or `--help` was given.
    pub(crate) help: bool,
    /// The first argument that is no option.
    pub(crate) positional: Option<String>,
}

/// Reads arguments as Go's `flag` package does: one or two dashes, `=value` or a value of its own,
/// switches without a value; the first argument that is no option ends them. The error is the line
/// etcd prints.
pub(crate) fn parse(args: &[String], settings: &mut Settings) -> Result<CommandLine, String> {
    let mut parsed = CommandLine::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            parsed.positional = Some(arg.clone());
            return Ok(parsed);
        };
        if body == "-" {
            parsed.positional = args.next().cloned();
            return Ok(parsed);
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, value) = body
            .split_once('=')
            .map_or((body, None), |(n, v)| (n, Some(v)));
        let Some(flag) = table::find(name).filter(|flag| on_command_line(flag)) else {
            if matches!(name, "h" | "help") {
                parsed.help = true;
                return Ok(parsed);
            }
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match value {
            Some(value) => value,
            None if flag.is_switch() => "true",
            None => args
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        settings
            .parse(flag, value, Origin::CommandLine)
            .map_err(|cause| invalid(flag, value, &cause))?;
    }
    Ok(parsed)
}

fn on_command_line(flag: &Flag) -> bool {
    flag.section != crate::Section::FileOnly
}

fn invalid(flag: &Flag, value: &str, cause: &str) -> String {
    let (value, name) = (quote(value), flag.name);
    if flag.kind == Kind::Bool {
        format!("invalid boolean value {value} for -{name}: {cause}")
    } else {
        format!("invalid value {value} for flag -{name}: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn run(args: &[&str]) -> (Result<CommandLine, String>, Settings) {
        let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
        let mut settings = Settings::defaults();
        (parse(&args, &mut settings), settings)
    }

    #[test]
    fn dashes_values_and_switches() {
        let (parsed, settings) =
            run(&["-name", "a", "--data-dir=b=c", "--pre-vote=F", "-auto-tls"]);
        assert_eq!(parsed, Ok(CommandLine::default()));
        assert_eq!(settings.text("name"), "a");
        assert_eq!(settings.text("data-dir"), "b=c");
        assert!(!settings.flag("pre-vote") && settings.flag("auto-tls"));
        assert_eq!(settings.origin("name"), Origin::CommandLine);
        assert!(!settings.is_set("wal-dir"));
    }

    #[test]
    fn the_last_value_counts_but_gates_add_up() {
        let (_, settings) = run(&[
            "--name=a",
            "--name=b",
            "--feature-gates=LeaseCheckpoint=true",
            "--feature-gates=PriorityRequest=true",
        ]);
        assert_eq!(settings.text("name"), "b");
        let Value::Gates(gates) = settings.value("feature-gates") else {
            panic!("gates")
        };
        assert_eq!(
            gates.to_string(),
            "LeaseCheckpoint=true,PriorityRequest=true"
        );
    }

    #[test]
    fn mistakes_have_gos_texts() {
        for (args, want) in [
            (vec!["--foo"], "flag provided but not defined: -foo"),
            (vec!["--foo=bar"], "flag provided but not defined: -foo"),
            (
                vec!["--client-cert-allowed-cn=x"],
                "flag provided but not defined: -client-cert-allowed-cn",
            ),
            (vec!["---name"], "bad flag syntax: ---name"),
            (vec!["--=x"], "bad flag syntax: --=x"),
            (vec!["--name"], "flag needs an argument: -name"),
            (
                vec!["--max-wals", "x"],
                "invalid value \"x\" for flag -max-wals: parse error",
            ),
            (
                vec!["--auto-tls=x"],
                "invalid boolean value \"x\" for -auto-tls: parse error",
            ),
        ] {
            assert_eq!(run(&args).0, Err(want.to_owned()));
        }
    }

    #[test]
    fn other_arguments_end_the_options() {
        for (args, positional) in [
            (vec!["a", "--foo"], Some("a")),
            (vec!["-"], Some("-")),
            (vec!["--", "--name"], Some("--name")),
            (vec!["--"], None),
            (vec!["--auto-tls", "false"], Some("false")),
        ] {
            assert_eq!(run(&args).0.unwrap().positional.as_deref(), positional);
        }
        assert!(run(&["--name=a", "-h", "--foo"]).0.unwrap().help);
    }
}

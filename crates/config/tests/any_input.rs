//! Nothing a user can write makes parsing panic.

use config::{Input, Outcome, Version, flags, parse};
use proptest::prelude::*;

fn run(args: &[String], variables: &[(String, String)], file: &str) -> Outcome {
    let read_file = |_: &str| Ok(file.as_bytes().to_vec());
    let version = Version {
        release: "3.7.3",
        commit: "c",
        compiler: "r",
    };
    parse(&Input {
        args,
        variables,
        read_file: &read_file,
        version,
    })
}

fn any_flag() -> impl Strategy<Value = &'static config::Flag> {
    let all: Vec<_> = flags().collect();
    prop::sample::select(all)
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "-?[0-9]{1,20}[a-z]{0,2}",
        "(http|unix|\\*)?(://)?[a-z0-9.\\[\\]:%]{0,12}(,.{0,6})?",
        "(true|false|T|0)",
        "[A-Za-z]{1,12}=[a-z]{0,5}",
        "\\{.{0,12}\\}",
        ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn command_lines_and_variables(
        options in prop::collection::vec((any_flag(), any_value()), 0..6),
        variables in prop::collection::vec((any_flag(), any_value()), 0..4),
    ) {
        let program = std::iter::once("etcd".to_owned());
        let args = options.iter().map(|(flag, value)| format!("--{}={value}", flag.name));
        let args: Vec<String> = program.chain(args).collect();
        let variables: Vec<_> =
            variables.into_iter().map(|(flag, value)| (flag.variable(), value)).collect();
        match run(&args, &variables, "") {
            Outcome::Run(start) => {
                let _ = start.config.auto_compaction();
                prop_assert!(!start.config.heartbeat_interval.is_zero());
            }
            Outcome::Exit(exit) => prop_assert!((0..=2).contains(&exit.code)),
        }
    }

    #[test]
    fn keys_of_a_file(values in prop::collection::vec((any_flag(), any_value()), 0..6)) {
        let lines: Vec<String> =
            values.iter().map(|(flag, value)| format!("{}: {value}", flag.name)).collect();
        let args = ["etcd".to_owned(), "--config-file=c".to_owned()];
        let _ = run(&args, &[], &lines.join("\n"));
    }

    #[test]
    fn any_file(text in "(.|\n){0,80}") {
        let _ = run(&["etcd".to_owned(), "--config-file=c".to_owned()], &[], &text);
    }
}

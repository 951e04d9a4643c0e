use std::fmt::Write as _;

use crate::gates::FEATURES;
use crate::{Flag, Kind, Section, Version, table};

/// The part of the help that is also printed when the command line is wrong.
pub(crate) fn usage_text() -> String {
    "\
Usage:

  etcd [flags]
    Run a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print this help.

  etcd --config-file
    Take everything from this YAML or JSON file. All other flags and environment variables are then
    ignored. In the file, durations are whole numbers of nanoseconds (600000000000 for 10m), but
    heartbeat-interval and election-timeout are milliseconds as here.

"
    .to_owned()
}

const SECTIONS: [(Section, &str); 9] = [
    (Section::Member, "Member"),
    (Section::Clustering, "Clustering"),
    (Section::Security, "Security"),
    (Section::Auth, "Auth"),
    (Section::Monitoring, "Profiling and Monitoring"),
    (Section::Logging, "Logging"),
    (Section::Tracing, "Distributed tracing"),
    (Section::Features, "Features"),
    (Section::Unsafe, "Unsafe feature"),
];

/// The list of all flags.
pub(crate) fn flags_text() -> String {
    let mut out = String::new();
    for (section, title) in SECTIONS {
        let _ = writeln!(out, "\n{title}:");
        for flag in table::flags().filter(|flag| flag.section == section) {
            push_flag(&mut out, flag);
        }
    }
    out.push_str(
        "\nThe flags of the last part give up guarantees of the consensus protocol. Be careful.\n",
    );
    out
}

fn push_flag(out: &mut String, flag: &Flag) {
    let default = match flag.name {
        "data-dir" => "${name}.etcd",
        _ => flag.default,
    };
    let _ = writeln!(out, "  --{} '{default}'", flag.name);
    for line in flag.help.lines() {
        let _ = writeln!(out, "    {line}");
    }
    if flag.kind == Kind::Gates {
        for (name, stage) in [("AllAlpha", "ALPHA"), ("AllBeta", "BETA")] {
            let _ = writeln!(out, "    {name}=true|false ({stage} - default=false)");
        }
        for (_, name, stage, default) in FEATURES {
            let _ = writeln!(
                out,
                "    {name}=true|false ({} - default={default})",
                stage.name()
            );
        }
    }
}

/// The four lines of `--version`. Scripts take the first apart.
pub(crate) fn version_text(version: &Version<'_>) -> String {
    format!(
        "etcd Version: {}\nGit SHA: {}\nGo Version: {}\nGo OS/Arch: {}/{}\n",
        version.release,
        version.commit,
        version.compiler,
        std::env::consts::OS,
        go_arch()
    )
}

/// The processor's name in Go's words.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

//! The differential runner finds differences: two scripts that differ must not pass as equal, and only the
//! answers that the change touches may be reported.

#![allow(clippy::disallowed_methods)]

use testkit::diff::{self, Script, Side};
use testkit::need;

/// A script that touches every kind of output. No change below moves a revision.
const BASE: &str = r#"
put same 1
[simple json fields protobuf] get same
put a 1
put a 2 --prev-kv
put b 1
[simple json fields protobuf] get b
[json] txn <<END
value("a") = "2"

put t 1

put t 1

END
put w 1
put w 2
@watch w w --rev 7 -w json
@lines w 1
@stop w
[simple fields table] endpoint status
endpoint hashkv --rev 4
endpoint hashkv
lease grant 100
@capture L "lease " " granted"
put l x --lease=$L
[json] get l
get same --rev 999
compaction 3
[json] get a --rev 2
"#;

/// What is changed in the second script, and the commands whose answers must differ because of it.
const MUTATIONS: [(&str, &str, &[&str]); 8] = [
    ("put a 2 --prev-kv", "put a 2", &["put a 2 --prev-kv"]),
    (
        "put b 1",
        "put b 2",
        &[
            "-w simple get b",
            "-w json get b",
            "-w fields get b",
            "-w protobuf get b",
            "endpoint hashkv",
        ],
    ),
    (
        "value(\"a\") = \"2\"",
        "value(\"a\") = \"1\"",
        &["-w json txn"],
    ),
    (
        "--rev 7 -w json",
        "--rev 8 -w json",
        &["watch w --rev 7 -w json"],
    ),
    ("lease grant 100", "lease grant 101", &["lease grant 100"]),
    ("put l x --lease=$L", "put l x", &["-w json get l"]),
    (
        "get same --rev 999",
        "get same --rev 1",
        &["get same --rev 999"],
    ),
    (
        "compaction 3",
        "compaction 2",
        &["compaction 3", "-w json get a --rev 2"],
    ),
];

#[test]
fn equal_servers_show_no_difference_and_changed_scripts_show_every_change() {
    let side = need!(Side::real());
    let base = Script::parse("base", BASE).unwrap();
    let equal = diff::run(&base, &side, &side);
    assert!(equal.is_empty(), "{}", diff::report(&equal));

    let mut text = BASE.to_owned();
    for (from, to, _) in MUTATIONS {
        assert_eq!(BASE.matches(from).count(), 1, "{from}");
        text = text.replacen(from, to, 1);
    }
    let differences = diff::run_two(
        &base,
        &Script::parse("mutated", &text).unwrap(),
        &side,
        &side,
    );
    let expected: Vec<&str> = MUTATIONS
        .iter()
        .flat_map(|(_, _, labels)| *labels)
        .copied()
        .collect();
    for label in &expected {
        let found = differences.iter().any(|found| found.label.ends_with(label));
        assert!(
            found,
            "not noticed: {label}\n{}",
            diff::report(&differences)
        );
    }
    for found in &differences {
        let known = expected.iter().any(|label| found.label.contains(label));
        assert!(known, "not changed, but reported: {found}");
    }
}

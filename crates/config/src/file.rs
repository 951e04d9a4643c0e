use gotext::os_error;
use serde_json::{Map, Number, Value as Json};

use crate::{Flag, Kind, Origin, Settings, Value, table};

/// How a configuration file is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileError {
    /// Goes into the log as the error of the start.
    Invalid(String),
    /// etcd prints this to standard error and exits with code 1.
    Plain(String),
    /// etcd panics with this, exit code 2.
    Panic(String),
}

/// Keys whose values are read by a struct of their own in Go, which shows in error texts.
const URL_KEYS: [&str; 8] = [
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "cors",
    "host-whitelist",
    "feature-gates",
];

/// In this order etcd looks at lists of URLs.
const URL_ORDER: [&str; 7] = [
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "listen-metrics-urls",
    "cors",
];

/// Sections and the Go types that errors name.
const SECTIONS: [(&[&str], &str); 7] = [
    (&["client-transport-security"], "embed.securityConfig"),
    (&["peer-transport-security"], "embed.securityConfig"),
    (&["socket-options"], "transport.SocketOpts"),
    (&["discovery-config"], "v3discovery.DiscoveryConfig"),
    (&["discovery-config", "client"], "clientv3.ConfigSpec"),
    (
        &["discovery-config", "client", "secure"],
        "clientv3.SecureConfig",
    ),
    (
        &["discovery-config", "client", "auth"],
        "clientv3.AuthConfig",
    ),
];

/// Reads a configuration file, YAML or JSON. `content` is what reading `path` gave.
pub(crate) fn apply(
    path: &str,
    content: std::io::Result<Vec<u8>>,
    settings: &mut Settings,
) -> Result<(), FileError> {
    let content =
        content.map_err(|e| FileError::Invalid(format!("open {path}: {}", os_error(&e))))?;
    let root = match parse_yaml(&content).map_err(FileError::Invalid)? {
        Json::Null => return Ok(()),
        Json::Object(root) => root,
        other => {
            let into = "Go value of type embed.configYAML";
            return Err(FileError::Invalid(wrong_type(&kind_name(&other), into)));
        }
    };
    for (path, go_type) in SECTIONS {
        match lookup(&root, path) {
            None | Some(Json::Null | Json::Object(_)) => {}
            Some(other) => {
                let into = format!("{} of type {go_type}", go_field(path));
                return Err(FileError::Invalid(wrong_type(&kind_name(other), &into)));
            }
        }
    }
    let found = find_values(&root);
    for (flag, path, json) in &found {
        if let Err(text) = check_type(flag.kind, path, json) {
            return Err(FileError::Invalid(text));
        }
    }
    store(&found, settings)
}

type Found<'a> = Vec<(&'static Flag, Vec<&'static str>, &'a Json)>;

/// The values of the file that belong to options, in the order of their keys. Other keys are
/// ignored, as etcd does, and so are nulls.
fn find_values(root: &Map<String, Json>) -> Found<'_> {
    let mut found: Found<'_> = table::flags()
        .filter_map(|flag| {
            let path = flag.file_path()?;
            let json = lookup(root, &path).filter(|json| !json.is_null())?;
            Some((flag, path, json))
        })
        .collect();
    found.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
    found
}

fn store(found: &Found<'_>, settings: &mut Settings) -> Result<(), FileError> {
    let (first, mut rest): (Found<'_>, Found<'_>) = found
        .iter()
        .cloned()
        .partition(|(f, ..)| !URL_ORDER.contains(&f.name));
    rest.sort_by_key(|(f, ..)| URL_ORDER.iter().position(|name| *name == f.name));
    // Gates come before anything else can fail, URLs last.
    for (flag, _, json) in first.iter().chain(&rest) {
        // In a file, an empty text leaves lists at their defaults.
        let is_list = matches!(flag.kind, Kind::Urls | Kind::Origins | Kind::Gates)
            || flag.name == "host-whitelist";
        if is_list && json.as_str().is_some_and(str::is_empty) {
            continue;
        }
        let value = convert(flag, json, settings.value(flag.name));
        let value = value.map_err(|cause| match flag.kind {
            Kind::Origins => {
                FileError::Panic(format!("panic: new UniqueURLs should never fail: {cause}"))
            }
            Kind::Urls => {
                // The wrong name is etcd's.
                let name = match flag.name {
                    "advertise-client-urls" => "advertise-peer-urls",
                    name => name,
                };
                FileError::Plain(format!("unexpected error setting up {name}: {cause}"))
            }
            _ => FileError::Invalid(cause),
        })?;
        settings.put(flag, value, Origin::File);
    }
    Ok(())
}

/// Parses YAML (JSON is a part of it) with the rules of the library etcd uses: the last of equal
/// keys counts, `yes` and `on` are booleans.
fn parse_yaml(content: &[u8]) -> Result<Json, String> {
    let text = String::from_utf8_lossy(content);
    if text.trim().is_empty() {
        return Ok(Json::Null);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        let line = line.strip_prefix("error: ").unwrap_or(line);
        format!("error converting YAML to JSON: yaml: {line}")
    })
}

/// The value at a path of keys, which match in any case.
fn lookup<'a>(root: &'a Map<String, Json>, path: &[&str]) -> Option<&'a Json> {
    let (key, rest) = path.split_first()?;
    let value = root.get(*key).or_else(|| {
        root.iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, v)| v)
    })?;
    if rest.is_empty() {
        Some(value)
    } else {
        lookup(value.as_object()?, rest)
    }
}

fn convert(flag: &Flag, json: &Json, current: &Value) -> Result<Value, String> {
    let text = || json.as_str().unwrap_or_default();
    Ok(match flag.kind {
        Kind::Bool => Value::Bool(json.as_bool().unwrap_or_default()),
        Kind::Unsigned | Kind::Unsigned32 => Value::Unsigned(unsigned(json).unwrap_or_default()),
        Kind::Signed => Value::Signed(signed(json).unwrap_or_default()),
        Kind::Duration => Value::Duration(signed(json).unwrap_or_default()),
        Kind::TextSet | Kind::TextList if json.is_array() => {
            let items = json.as_array().into_iter().flatten();
            Value::Texts(
                items
                    .map(|i| i.as_str().unwrap_or_default().to_owned())
                    .collect(),
            )
        }
        // Any value is taken: what it could mean is checked later.
        Kind::Choice(_) | Kind::LoudChoice(_) => Value::Text(text().to_owned()),
        kind => kind.parse(text(), current)?,
    })
}

/// The Go type of an option's value.
fn go_type(kind: Kind, path: &[&str]) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Unsigned if path[0].starts_with("snapshot-c") => "uint64",
        Kind::Unsigned => "uint",
        Kind::Unsigned32 => "uint32",
        Kind::Signed if path[0] == "quota-backend-bytes" => "int64",
        Kind::Signed => "int",
        Kind::Duration => "time.Duration",
        Kind::TextSet if path[0] == "host-whitelist" => "string",
        Kind::TextSet | Kind::TextList => "[]string",
        Kind::LoudChoice(_) => "config.V2DeprecationEnum",
        _ => "string",
    }
}

fn check_type(kind: Kind, path: &[&str], json: &Json) -> Result<(), String> {
    let go_type = go_type(kind, path);
    let into = |go_type: &str| format!("{} of type {go_type}", go_field(path));
    let fits = match go_type {
        "bool" => json.is_boolean(),
        "uint" | "uint64" => unsigned(json).is_some(),
        "uint32" => unsigned(json).is_some_and(|n| u32::try_from(n).is_ok()),
        "int" | "int64" | "time.Duration" => signed(json).is_some(),
        "[]string" => match json.as_array() {
            Some(items) => {
                let wrong = items
                    .iter()
                    .find(|item| !item.is_string() && !item.is_null());
                return wrong.map_or(Ok(()), |item| {
                    Err(wrong_type(&kind_name(item), &into("string")))
                });
            }
            None => false,
        },
        _ => json.is_string(),
    };
    if fits {
        return Ok(());
    }
    let numeric = !matches!(
        go_type,
        "bool" | "string" | "[]string" | "config.V2DeprecationEnum"
    );
    let what = match json {
        Json::Number(number) if numeric => format!("number {}", number_text(number)),
        other => kind_name(other),
    };
    Err(wrong_type(&what, &into(go_type)))
}

/// How Go names the place of a key: the struct that holds it, and the path.
fn go_field(path: &[&str]) -> String {
    let owner = match path {
        [one] if URL_KEYS.contains(one) || one.ends_with("-transport-security") => {
            "configYAML.configJSON"
        }
        [_] => "configYAML.Config",
        ["socket-options", ..] => "SocketOpts.Config",
        ["discovery-config", "client", "secure", _] => "SecureConfig.Config",
        ["discovery-config", "client", "auth", _] => "AuthConfig.Config",
        ["discovery-config", "client", _] => "ConfigSpec.Config",
        ["discovery-config", ..] => "DiscoveryConfig.Config",
        _ => "securityConfig.configJSON",
    };
    format!("Go struct field {owner}.{}", path.join("."))
}

fn wrong_type(what: &str, into: &str) -> String {
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into {into}"
    )
}

fn kind_name(json: &Json) -> String {
    let name = match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    name.to_owned()
}

/// Whole numbers may be written with a fraction of zero or an exponent.
fn whole(json: &Json) -> Option<f64> {
    json.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15)
}

fn unsigned(json: &Json) -> Option<u64> {
    json.as_u64()
        .or_else(|| whole(json).filter(|f| *f >= 0.0).map(|f| f as u64))
}

fn signed(json: &Json) -> Option<i64> {
    json.as_i64().or_else(|| whole(json).map(|f| f as i64))
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(f) if !number.is_u64() && !number.is_i64() && f.fract() == 0.0 => format!("{f:.0}"),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, FileError> {
        let mut settings = Settings::defaults();
        apply("/c", Ok(text.as_bytes().to_vec()), &mut settings).map(|()| settings)
    }

    #[test]
    fn sections_lists_and_numbers() {
        let settings = read(concat!(
            "name: m1\n",
            "NAME: m1\n",
            "max-wals: 1e3\n",
            "grpc-keepalive-interval: 600000000000\n",
            "client-transport-security:\n  cert-file: /c\n  client-cert-auth: yes\n  allowed-cn: [a, b]\n",
            "peer-transport-security: {allowed-cn: [x]}\n",
            "listen-client-urls: http://b:1,http://a:1\n",
            "log-outputs: [stderr, /x]\n",
            "discovery-config: {client: {endpoints: [e], auth: {username: u}}}\n",
            "socket-options: {reuse-port: true}\n",
            "unknown: {x: 1}\nexperimental-foo: true\nwal-dir:\n",
            "name: m2\n",
        ))
        .unwrap();
        assert_eq!(settings.text("name"), "m2");
        assert_eq!(settings.origin("name"), Origin::File);
        assert_eq!(settings.unsigned("max-wals"), 1000);
        assert_eq!(settings.nanos("grpc-keepalive-interval"), 600_000_000_000);
        assert_eq!(settings.text("cert-file"), "/c");
        assert!(settings.flag("client-cert-auth") && settings.flag("socket-reuse-port"));
        assert_eq!(settings.texts("client-cert-allowed-cn"), ["a", "b"]);
        assert_eq!(settings.texts("peer-cert-allowed-cn"), ["x"]);
        assert_eq!(settings.urls("listen-client-urls").len(), 2);
        assert_eq!(settings.texts("log-outputs"), ["stderr", "/x"]);
        assert_eq!(settings.texts("discovery-endpoints"), ["e"]);
        assert_eq!(settings.text("discovery-user"), "u");
        assert!(!settings.is_set("wal-dir"));
    }

    #[test]
    fn json_is_yaml() {
        let settings = read(r#"{"name": "m", "election-timeout": 2000}"#).unwrap();
        assert_eq!(settings.unsigned("election-timeout"), 2000);
        assert!(read("").is_ok() && read("\n\n").is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = std::io::Error::from_raw_os_error(2);
        let error = apply("/x", Err(missing), &mut Settings::defaults()).unwrap_err();
        assert_eq!(
            error,
            FileError::Invalid("open /x: no such file or directory".to_owned())
        );
    }
}

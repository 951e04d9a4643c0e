//! Reading JSON the way Go does: keys match in any case, `null` leaves the zero value, unknown keys
//! are ignored; writing it is done by hand where the order of keys matters.

use gotext::{Escape, push_json_string};
use serde_json::{Map, Value};

/// Parses bytes that should hold one JSON object. Bytes that are no UTF-8 become U+FFFD, as in Go.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(&String::from_utf8_lossy(bytes)) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The value of `key`, matched without regard to case; `null` counts as absent.
pub(crate) fn field<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key)
        .or_else(|| {
            map.iter()
                .find(|(k, _)| k.eq_ignore_ascii_case(key))
                .map(|(_, v)| v)
        })
        .filter(|v| !v.is_null())
}

pub(crate) fn u64_field(map: &Map<String, Value>, key: &str) -> Result<Option<u64>, String> {
    field(map, key)
        .map(|v| {
            v.as_u64()
                .ok_or_else(|| format!("{key} is not an unsigned number"))
        })
        .transpose()
}

pub(crate) fn bool_field(map: &Map<String, Value>, key: &str) -> Result<bool, String> {
    field(map, key).map_or(Ok(false), |v| {
        v.as_bool().ok_or_else(|| format!("{key} is not a boolean"))
    })
}

pub(crate) fn string_field(map: &Map<String, Value>, key: &str) -> Result<String, String> {
    let text = field(map, key).map(|v| v.as_str().ok_or_else(|| format!("{key} is not a string")));
    Ok(text.transpose()?.unwrap_or_default().to_owned())
}

pub(crate) fn strings_field(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{key} is not a list of strings");
    let Some(value) = field(map, key) else {
        return Ok(Vec::new());
    };
    value
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong))
        .collect()
}

/// Appends a JSON list of strings, escaped as Go does.
pub(crate) fn push_strings(out: &mut String, items: &[String]) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_json_string(out, item, Escape::Html);
    }
    out.push(']');
}

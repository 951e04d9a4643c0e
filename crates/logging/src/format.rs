use std::fmt::Write as _;

use gotext::{Escape, push_json_string};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{Format, Record, Value, timestamp};

/// Renders a record as one line with its newline.
pub(crate) fn line(
    out: &mut String,
    format: Format,
    record: &Record,
    at: Timestamp,
    zone: &TimeZone,
) {
    match format {
        Format::Json => json(out, record, at, zone),
        Format::Console => console(out, record, at, zone),
    }
    out.push('\n');
}

fn json(out: &mut String, record: &Record, at: Timestamp, zone: &TimeZone) {
    out.push_str("{\"level\":\"");
    out.push_str(record.level.name());
    out.push_str("\",\"ts\":\"");
    timestamp::push(out, at, zone);
    out.push('"');
    if let Some(logger) = record.logger {
        out.push_str(",\"logger\":");
        push_json_string(out, logger, Escape::Log);
    }
    out.push_str(",\"caller\":\"");
    record.caller.push(out);
    out.push_str("\",\"msg\":");
    push_json_string(out, &record.message, Escape::Log);
    for (name, value) in &record.fields {
        out.push(',');
        push_field(out, name, value);
    }
    out.push('}');
}

fn console(out: &mut String, record: &Record, at: Timestamp, zone: &TimeZone) {
    timestamp::push(out, at, zone);
    out.push('\t');
    out.push_str(record.level.name());
    out.push('\t');
    if let Some(logger) = record.logger {
        out.push_str(logger);
        out.push('\t');
    }
    record.caller.push(out);
    out.push('\t');
    // A message of several lines would break the one-line-per-record rule.
    out.extend(
        record
            .message
            .chars()
            .map(|c| if c == '\n' { ' ' } else { c }),
    );
    if record.fields.is_empty() {
        return;
    }
    out.push_str("\t{");
    for (at, (name, value)) in record.fields.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        push_json_string(out, name, Escape::Log);
        out.push_str(": ");
        push_value(out, value);
    }
    out.push('}');
}

fn push_field(out: &mut String, name: &str, value: &Value) {
    push_json_string(out, name, Escape::Log);
    out.push(':');
    push_value(out, value);
}

fn push_value(out: &mut String, value: &Value) {
    let _ = match value {
        Value::Text(text) => {
            push_json_string(out, text, Escape::Log);
            Ok(())
        }
        Value::Unsigned(number) => write!(out, "{number}"),
        Value::Signed(number) => write!(out, "{number}"),
        Value::Float(number) if number.is_finite() => write!(out, "{number}"),
        Value::Float(number) => write!(out, "\"{number}\""),
        Value::Bool(flag) => write!(out, "{flag}"),
        Value::Json(json) => out.write_str(json),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::caller::Caller;
    use crate::{Hex, Level};

    fn record() -> Record {
        let mut record = Record::new(Level::Warn, "apply \"took\" too long")
            .field("took", std::time::Duration::from_micros(100_826))
            .field("local-member-id", Hex(0xab))
            .field("urls", Value::json(&["http://a:1", "x<y"]))
            .field("n", 5_u64)
            .field("ok", true)
            .field("f", Value::Float(0.5))
            .field("nan", Value::Float(f64::NAN));
        record.caller = Caller {
            file: "crates/apply/src/lib.rs",
            line: 12,
        };
        record
    }

    fn render(format: Format, record: &Record) -> String {
        let mut out = String::new();
        line(
            &mut out,
            format,
            record,
            Timestamp::UNIX_EPOCH,
            &TimeZone::UTC,
        );
        out
    }

    #[test]
    fn json_has_etcds_keys_in_etcds_order() {
        assert_eq!(
            render(Format::Json, &record()),
            concat!(
                r#"{"level":"warn","ts":"1970-01-01T00:00:00.000000Z","caller":"apply/lib.rs:12","#,
                r#""msg":"apply \"took\" too long","took":"100.826ms","local-member-id":"ab","#,
                r#""urls":["http://a:1","x<y"],"n":5,"ok":true,"f":0.5,"nan":"NaN"}"#,
                "\n"
            )
        );
        let named = Record {
            logger: Some("raft"),
            fields: Vec::new(),
            ..record()
        };
        assert!(render(Format::Json, &named).contains(r#"Z","logger":"raft","caller""#));
    }

    #[test]
    fn console_is_tab_separated() {
        let mut record = record();
        record.fields.truncate(2);
        assert_eq!(
            render(Format::Console, &record),
            "1970-01-01T00:00:00.000000Z\twarn\tapply/lib.rs:12\tapply \"took\" too long\t\
             {\"took\": \"100.826ms\", \"local-member-id\": \"ab\"}\n"
        );
        record.fields.clear();
        record.message = "two\nlines".into();
        record.logger = Some("raft");
        assert_eq!(
            render(Format::Console, &record),
            "1970-01-01T00:00:00.000000Z\twarn\traft\tapply/lib.rs:12\ttwo lines\n"
        );
    }

    proptest! {
        #[test]
        fn every_line_is_one_json_object(message in ".*", name in ".*", text in ".*") {
            let record = Record::new(Level::Info, message.clone()).field(name.clone(), text.clone());
            let line = render(Format::Json, &record);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            if !["level", "ts", "caller", "msg"].contains(&name.as_str()) {
                prop_assert_eq!(parsed["msg"].as_str(), Some(message.as_str()));
                prop_assert_eq!(parsed[name.as_str()].as_str(), Some(text.as_str()));
            }
        }
    }
}

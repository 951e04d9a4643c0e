use std::fmt;

use crate::quote;

/// Why a text is no URL; `Display` is the text Go's parser gives, with `parse "…": ` in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is not a URL at all.
    #[error("parse {}: {cause}", quote(.text))]
    Syntax {
        /// The text that was parsed, without its fragment.
        text: String,
        /// What Go's parser says.
        cause: String,
    },
    /// A rule etcd adds for its URL lists.
    #[error("{0}")]
    Rule(String),
}

/// A URL, cut up as Go's `net/url` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// Lower case, without the colon.
    pub scheme: String,
    /// What follows `scheme:` when no slash does; then everything below but `query` is empty.
    pub opaque: String,
    /// `user[:password]` as written, without the `@`.
    pub userinfo: Option<String>,
    /// Host and port as written (percent escapes resolved).
    pub host: String,
    /// The path as written, with its percent escapes.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// What follows the `#`; an empty one is none.
    pub fragment: String,
}

impl Url {
    /// Parses `text` by Go's rules, which accept nearly everything that has no control characters.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (body, fragment) = text.split_once('#').unwrap_or((text, ""));
        let fail = |cause: String| UrlError::Syntax {
            text: body.to_owned(),
            cause,
        };
        let mut url = Self::parse_body(body).map_err(fail)?;
        if let Some(bad) = first_bad_escape(fragment) {
            return Err(UrlError::Syntax {
                text: text.to_owned(),
                cause: format!("invalid URL escape {}", quote(bad)),
            });
        }
        fragment.clone_into(&mut url.fragment);
        Ok(url)
    }

    fn parse_body(body: &str) -> Result<Self, String> {
        if body.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let mut url = Self::default();
        let (scheme, rest) = split_scheme(body)?;
        url.scheme = scheme.to_ascii_lowercase();
        let mut rest = rest;
        if let Some((before, query)) = rest.split_once('?') {
            rest = before;
            url.query = Some(query.to_owned());
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                return Ok(url);
            }
            if rest
                .split('/')
                .next()
                .is_some_and(|segment| segment.contains(':'))
            {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        let has_authority = !url.scheme.is_empty() || !rest.starts_with("///");
        if let Some(after) = rest.strip_prefix("//").filter(|_| has_authority) {
            let end = after.find('/').unwrap_or(after.len());
            url.set_authority(&after[..end])?;
            rest = &after[end..];
        }
        if let Some(bad) = first_bad_escape(rest) {
            return Err(format!("invalid URL escape {}", quote(bad)));
        }
        rest.clone_into(&mut url.path);
        Ok(url)
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), String> {
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                if !user.bytes().all(is_userinfo_byte) {
                    return Err("net/url: invalid userinfo".to_owned());
                }
                if let Some(bad) = first_bad_escape(user) {
                    return Err(format!("invalid URL escape {}", quote(bad)));
                }
                self.userinfo = Some(user.to_owned());
                host
            }
            None => authority,
        };
        self.host = parse_host(host)?;
        Ok(())
    }

    /// The host without port and brackets.
    pub fn hostname(&self) -> &str {
        split_port(&self.host).0
    }

    /// The port, empty when there is none.
    pub fn port(&self) -> &str {
        split_port(&self.host).1
    }

    /// Whether the URL names a unix socket (`unix` or `unixs`).
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme.as_str(), "unix" | "unixs")
    }

    /// Whether the URL asks for TLS (`https` or `unixs`).
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme.as_str(), "https" | "unixs")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            let has_authority = !self.host.is_empty() || self.userinfo.is_some();
            if has_authority || (!self.scheme.is_empty() && !self.path.is_empty()) {
                f.write_str("//")?;
            }
            if let Some(user) = &self.userinfo {
                write!(f, "{user}@")?;
            }
            f.write_str(&escape_bytes(&self.host, is_host_byte))?;
            f.write_str(&escape_bytes(&self.path, is_path_byte))?;
        } else {
            f.write_str(&self.opaque)?;
        }
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        if !self.fragment.is_empty() {
            write!(
                f,
                "#{}",
                escape_bytes(&self.fragment, |b| is_path_byte(b) || b == b'?')
            )?;
        }
        Ok(())
    }
}

fn split_scheme(body: &str) -> Result<(&str, &str), String> {
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&body[..at], &body[at + 1..])),
            _ => break,
        }
    }
    Ok(("", body))
}

fn parse_host(host: &str) -> Result<String, String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !port_ok {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    if let Some(bad) = first_bad_escape(host) {
        return Err(format!("invalid URL escape {}", quote(bad)));
    }
    // Only non-ASCII bytes and the percent sign itself may hide behind an escape in a host.
    let is_zone = host.starts_with('[') && host.contains("%25");
    for (at, _) in host.match_indices('%') {
        let escape = &host[at..at + 3];
        if escape != "%25" && !is_zone && escape.as_bytes()[1] < b'8' {
            return Err(format!("invalid URL escape {}", quote(escape)));
        }
    }
    if let Some(c) = host
        .chars()
        .find(|c| c.is_ascii() && *c != '%' && !is_host_byte(*c as u8))
    {
        return Err(format!(
            "invalid character {} in host name",
            quote(&c.to_string())
        ));
    }
    Ok(unescape(host))
}

/// The first percent sign that does not start an escape, with up to two characters after it.
fn first_bad_escape(text: &str) -> Option<&str> {
    text.match_indices('%').find_map(|(at, _)| {
        let tail = &text[at..];
        let hex = tail
            .as_bytes()
            .get(1..3)
            .is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit));
        let end = tail.char_indices().nth(3).map_or(tail.len(), |(i, _)| i);
        (!hex).then(|| &tail[..end])
    })
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| {
                text.get(at + 1..at + 3)
                    .and_then(|h| u8::from_str_radix(h, 16).ok())
            })
            .flatten();
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape_bytes(text: &str, keep: impl Fn(u8) -> bool) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

fn is_host_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:[]<>\"".contains(&byte)
}

/// A path is kept with the escapes it was written with, so the percent sign stands for itself.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/%[]".contains(&byte)
}

fn is_userinfo_byte(byte: u8) -> bool {
    is_unreserved(byte) || b":!$&'()*+,;=%@".contains(&byte)
}

fn split_port(host: &str) -> (&str, &str) {
    let (name, port) = match (host.rfind(':'), host.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => (host, ""),
        (Some(colon), _) => (&host[..colon], &host[colon + 1..]),
        (None, _) => (host, ""),
    };
    (
        name.strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .unwrap_or(name),
        port,
    )
}

/// Splits `host:port` by the rules of Go's `net.SplitHostPort`: the port must be there, an IPv6
/// address must stand in brackets (which are dropped).
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let colon = text.rfind(':')?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let bracket = |c| c == '[' || c == ']';
    (!host.contains(bracket) && !port.contains(bracket)).then_some((host, port))
}

/// `host:port`, the host in brackets when it contains a colon.
pub fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Parses the items of one of etcd's URL lists: blanks around items are ignored, the scheme must be
/// `http`, `https`, `unix` or `unixs`, the first two need `host:port` and no path. The result is
/// sorted by text; duplicates stay.
pub fn parse_url_list<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Vec<Url>, UrlError> {
    let mut urls = Vec::new();
    for item in items {
        let text = item.trim();
        let url = Url::parse(text)?;
        match url.scheme.as_str() {
            "http" | "https" => {
                if split_host_port(&url.host).is_none() {
                    return Err(UrlError::Rule(format!(
                        "URL address does not have the form \"host:port\": {text}"
                    )));
                }
                if !url.path.is_empty() {
                    return Err(UrlError::Rule(format!(
                        "URL must not contain a path: {text}"
                    )));
                }
            }
            "unix" | "unixs" => {}
            _ => {
                return Err(UrlError::Rule(format!(
                    "URL scheme must be http, https, unix, or unixs: {text}"
                )));
            }
        }
        urls.push(url);
    }
    if urls.is_empty() {
        return Err(UrlError::Rule("no valid URLs given".to_owned()));
    }
    urls.sort_by_cached_key(ToString::to_string);
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list_error(text: &str) -> String {
        parse_url_list(text.split(',')).unwrap_err().to_string()
    }

    #[test]
    fn lists_are_trimmed_and_sorted() {
        let urls = parse_url_list(" http://b:2 ,http://a:1,unix://x/y".split(',')).unwrap();
        let texts: Vec<String> = urls.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://b:2", "unix://x/y"]);
    }

    #[test]
    fn list_rules_have_etcds_texts() {
        for (text, want) in [
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
            (
                "http://::1:2",
                "URL address does not have the form \"host:port\": http://::1:2",
            ),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            (
                "http://a:x",
                "parse \"http://a:x\": invalid port \":x\" after host",
            ),
            ("://a", "parse \"://a\": missing protocol scheme"),
            (
                "127.0.0.1:1",
                "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon",
            ),
            (
                "localhost:1",
                "URL scheme must be http, https, unix, or unixs: localhost:1",
            ),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
            (
                "http://a%zz:1",
                "parse \"http://a%zz:1\": invalid URL escape \"%zz\"",
            ),
            (
                "http://a\n:1",
                "parse \"http://a\\n:1\": net/url: invalid control character in URL",
            ),
        ] {
            assert_eq!(list_error(text), want);
        }
    }

    #[test]
    fn parts_are_found() {
        let url = Url::parse("HTTPS://u:p@[::1]:2379?x#f").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.hostname(), url.port()),
            ("https", "::1", "2379")
        );
        assert_eq!(url.to_string(), "https://u:p@[::1]:2379?x#f");
        assert_eq!(Url::parse("unix:/path/to").unwrap().path, "/path/to");
        assert_eq!(Url::parse("unix:rel:1").unwrap().opaque, "rel:1");
        assert_eq!(Url::parse("http://h").unwrap().port(), "");
    }

    #[test]
    fn host_and_port_need_each_other() {
        assert_eq!(split_host_port("a:1"), Some(("a", "1")));
        assert_eq!(split_host_port(":1"), Some(("", "1")));
        assert_eq!(split_host_port("[::1]:1"), Some(("::1", "1")));
        for bad in ["a", "", "::1", "[::1]", "[::1]1:2", "a]:1", "[[a]:1"] {
            assert_eq!(split_host_port(bad), None, "{bad}");
        }
        assert_eq!(join_host_port("::1", "2"), "[::1]:2");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(http://|unix:)?.{0,24}") {
            let _ = Url::parse(&text).map(|u| u.to_string());
            let _ = split_host_port(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(
            text in "(http|unix)s?://[a-z.]{1,8}:[0-9]{1,5}(/[a-z/]{0,4})?",
        ) {
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(url.to_string(), text);
        }
    }
}

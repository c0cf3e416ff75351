//! Strings that are not shown: passwords and keys, and the parts of URLs that may contain them.
//!
//! Guarantees: neither a [`Secret`] nor those parts of a [`Url`] are in debug output, and the schema of both has the mark by which
//! the configuration finds their values in a file, so a new setting of these types is hidden wherever the file is shown. Does not
//! protect memory.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// The keyword of a schema that marks a value which is not shown.
pub const MARK: &str = "x-secret";

/// The argument of [`MARK`] if no part of the value is shown.
pub const WHOLE: &str = "whole";

/// The argument of [`MARK`] if the value is a URL.
pub const URL: &str = "url";

/// What is shown instead.
pub const MASK: &str = "***";

/// What is shown of a string.
pub trait Shown {
    /// The name of its type in a schema.
    const NAME: &'static str;
    /// The argument of [`MARK`].
    const HIDES: &'static str;
    /// The string as it is shown.
    fn shown(text: &str) -> String;
}

/// Nothing is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Nothing;

impl Shown for Nothing {
    const NAME: &'static str = "Secret";
    const HIDES: &'static str = WHOLE;

    fn shown(_: &str) -> String {
        MASK.to_owned()
    }
}

/// Scheme, host and port are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Host;

impl Shown for Host {
    const NAME: &'static str = "Url";
    const HIDES: &'static str = URL;

    fn shown(text: &str) -> String {
        shown_url(text)
    }
}

/// A string that is not shown, except for what `S` says.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Masked<S>(String, PhantomData<S>);

/// A string that is not shown.
pub type Secret = Masked<Nothing>;

/// A URL, or what was written in the place of one. Only its scheme, host and port are shown.
pub type Url = Masked<Host>;

impl<S> Masked<S> {
    /// The string itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<S> From<&str> for Masked<S> {
    fn from(text: &str) -> Masked<S> {
        Masked(text.to_owned(), PhantomData)
    }
}

impl<S: Shown> fmt::Debug for Masked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&S::shown(&self.0))
    }
}

impl<S: Shown> JsonSchema for Masked<S> {
    fn schema_name() -> Cow<'static, str> {
        S::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", MARK: S::HIDES})
    }
}

/// The URL as it is shown.
pub fn shown_url(url: &str) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for part in hidden_of_url(url) {
        out.push_str(&url[from..part.start]);
        out.push_str(MASK);
        from = part.end;
    }
    out.push_str(&url[from..]);
    out
}

/// Schemes that are shown, right or wrong.
const SCHEMES: [&str; 7] = ["http", "https", "ftp", "socks4", "socks5", "socks5h", "tcp"];

/// The parts of a URL that are not shown: user, password, path, query and fragment. Of what is not a URL, all but a scheme.
pub fn hidden_of_url(url: &str) -> Vec<Range<usize>> {
    let scheme = url.find("://").filter(|at| SCHEMES.contains(&&url[..*at])).map_or(0, |at| at + "://".len());
    let rest = &url[scheme..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let is_clear = rest.matches('@').count() == usize::from(user.is_some());
    let is_host = match user {
        // A word alone may be anything.
        None if scheme == 0 => ["none", "localhost", ""].contains(&host) || is_host(host) && host.contains(['.', ':']),
        _ => is_host(host),
    };
    if !is_clear || !is_host {
        return some(scheme..url.len());
    }
    let user = user.map_or(0, str::len);
    let path = scheme + authority.len();
    // The slash alone says nothing.
    let path = path + usize::from(url[path..].starts_with('/'));
    some(scheme..scheme + user).into_iter().chain(some(path..url.len())).collect()
}

fn some(part: Range<usize>) -> Vec<Range<usize>> {
    if part.is_empty() { Vec::new() } else { vec![part] }
}

/// Whether a text is a host with or without a port. References to variables may stand for parts of it.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':').or(Some("x"))),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_v6 = text.starts_with('[');
    let is_good = |c: char| c.is_alphanumeric() || ".-_".contains(c) || is_v6 && ":%".contains(c);
    let is_number = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_reference(host) || host.chars().all(is_good)) && port.is_none_or(|port| is_number(port) || is_reference(port))
}

/// Whether a text is a reference to a variable: `${NAME}`, without a default.
pub fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// The users and passwords of URLs inside any text, as byte ranges: what is between `://` and `@`, if a colon is in it. Patterns that
/// match URLs are no URLs: they have characters that no URL has, or a repeated dot. Of what else a pattern may have, passwords are
/// made as well.
pub fn users_in(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, colon) in text.match_indices("://") {
        let start = at + colon.len();
        let word = &text[start..];
        let word = &word[..word.find(|c: char| c.is_whitespace() || "\"'`<>".contains(c)).unwrap_or(word.len())];
        let Some((user, _)) = word.rsplit_once('@') else { continue };
        let is_pattern = user.contains(['[', '\\']) || user.contains(".*") || user.contains(".+");
        let is_inside = found.last().is_some_and(|last| last.end >= start);
        if user.contains(':') && !is_pattern && !is_inside {
            found.push(start..start + user.len());
        }
    }
    found
}

/// Whether the name of a header, or of a value in a URL, usually stands for something that identifies the sender.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "cookie", "credential", "key", "passw", "secret", "signature", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// Whether the query of a URL holds something whose name says that it is a credential.
pub fn has_credential(url: &str) -> bool {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.any(|(name, value)| !value.is_empty() && is_credential(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_scheme_host_and_port_are_shown() {
        for (url, shown) in [
            ("http://a.example", "http://a.example"),
            ("https://a.example:9200/", "https://a.example:9200/"),
            ("https://a.example/services/T0/hush", "https://a.example/***"),
            ("https://a.example?token=hush", "https://a.example***"),
            ("http://u:hush@a.example:9200/x", "http://***@a.example:9200/***"),
            ("http://u:hush@[::1]:9200", "http://***@[::1]:9200"),
            ("http://${HOST}:${PORT}/in", "http://${HOST}:${PORT}/***"),
            ("u:hush@proxy:3128", "***@proxy:3128"),
            ("localhost:9200", "localhost:9200"),
            ("none", "none"),
            ("socks5://u:hush@a:1", "socks5://***@a:1"),
            ("", ""),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }

    #[test]
    fn of_what_is_not_a_url_nothing_is_shown() {
        for url in [
            "http://u:hu/sh@a",
            "http://u:hush @a",
            "http://u:hush",
            "http://a,http://u:hush@b",
            "http://u:hush@a,http://u:hush@b",
            "http:///u:hush@a",
            "http://u:hu#sh@a",
            "http://u:@hush@a",
            "htp://u:hush@a",
            " http://u:hush@a",
            "http:\\/\\/u:hush@a",
            "u:hush",
            "hush",
            "http://[::1]hush",
        ] {
            let shown = shown_url(url);
            assert!(!shown.contains("hu") && !shown.contains("sh"), "{url}: {shown}");
        }
    }

    #[test]
    fn users_are_found_in_any_text() {
        let text = "see http://u:hush@a and ftp://b, or 'https://v:p@ss@c/d'; not https?://[^:]+:x@d nor mailto://e@f";
        let found: Vec<&str> = users_in(text).into_iter().map(|part| &text[part]).collect();
        assert_eq!(found, ["u:hush", "v:p@ss"]);
        for password in ["a+b/c==", "h*sh", "h^(u)|sh", "h.u$sh"] {
            let text = format!("see http://u:{password}@a");
            let found: Vec<&str> = users_in(&text).into_iter().map(|part| &text[part]).collect();
            assert_eq!(found, [format!("u:{password}")], "{text}");
        }
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        assert_eq!(format!("{:?}", Secret::from("hush")), "***");
        assert_eq!(format!("{:?}", Url::from("http://u:hush@a/hush")), "http://***@a/***");
    }
}

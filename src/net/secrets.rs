//! The secret values that an output sends, and their removal from what a server answers.
//!
//! Guarantees: debug pages and gateways that repeat a request in their answer do not carry its credentials into logs, messages or
//! dead letters. Known are the values of sensitive headers (whole, their words, what Base64 in them stands for, and the part
//! after the colon of that), the values in a URL's query, and long parts of its path. Each is found as it is, and as Base64, URLs,
//! JSON and HTML write it. What is quoted from a server is searched before it is cut and put on one line ([`Secrets::excerpt`]).
//! In a text that was cut before, a beginning of a secret before the mark of the cut is removed, however short. Values of fewer than
//! [`BYTES_MIN`] bytes are not removed: they occur in ordinary words. Does not find a value that a server changed in another way.

use super::auth::base64;
pub use crate::codec::secret::MASK;
use hyper::header::HeaderMap;
use memchr::{memchr_iter, memmem::Finder};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// Ends a text that was cut.
pub const CUT: char = '…';

/// The shortest value that is removed, and the shortest beginning of one that is masked before a cut. Shorter beginnings are cut off
/// as well, without a mask, because they are usually no beginnings.
pub const BYTES_MIN: usize = 4;

/// The shortest word of a header's value that counts as a secret of its own: shorter ones name schemes, such as `Bearer`.
const WORD_BYTES_MIN: usize = 8;

/// The shortest part of a path that counts as a key and not as a name.
const PATH_KEY_BYTES_MIN: usize = 16;

/// The secrets of an output: see the module.
#[derive(Clone, Default)]
pub struct Secrets {
    /// All their forms, longest first.
    forms: Rc<[Form]>,
}

/// One form, and what finds it.
struct Form {
    text: String,
    finder: Finder<'static>,
}

impl Secrets {
    /// The secrets in these headers and in these paths with queries.
    pub fn of<'a>(headers: impl Iterator<Item = &'a HeaderMap>, paths: impl Iterator<Item = &'a str>) -> Secrets {
        let mut forms = BTreeSet::new();
        for value in headers.flat_map(HeaderMap::values).filter(|value| value.is_sensitive()) {
            of_header(&String::from_utf8_lossy(value.as_bytes()), &mut forms);
        }
        paths.for_each(|path| of_path(path, &mut forms));
        let mut forms: Vec<String> = forms.into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let form = |text: String| Form { finder: Finder::new(&text).into_owned(), text };
        Secrets { forms: forms.into_iter().map(form).collect() }
    }

    /// The first `bytes_max` bytes of what a server sent, on one line. A secret that begins in them is masked whole. [`CUT`] ends
    /// a text that is not shown to its end.
    pub fn excerpt(&self, raw: &[u8], bytes_max: usize) -> String {
        // What begins before the cut ends in the window.
        let window = &raw[..raw.len().min(bytes_max + self.forms.first().map_or(0, |form| form.text.len()))];
        let (mut text, mut at) = (String::new(), 0);
        for found in self.spans(window).into_iter().filter(|found| found.start < bytes_max) {
            text.push_str(&String::from_utf8_lossy(&window[at..found.start]));
            text.push_str(MASK);
            at = found.end;
        }
        let end = raw.len().min(bytes_max).max(at);
        text.push_str(&String::from_utf8_lossy(&raw[at..end]));
        let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let line = words.collect::<Vec<_>>().join(" ");
        match end < raw.len() {
            true => format!("{}{CUT}", line.trim_end_matches('\u{fffd}')),
            false => line,
        }
    }

    /// The text with [`MASK`] for each secret, and without the beginning of one before a cut.
    pub fn masked(&self, text: String) -> String {
        let spans = self.spans(text.as_bytes());
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for found in spans {
            masked.push_str(&text[at..found.start]);
            masked.push_str(MASK);
            at = found.end;
        }
        masked.push_str(&text[at..]);
        match masked.contains(CUT) {
            true => self.masked_at_cuts(&masked),
            false => masked,
        }
    }

    /// Where secrets are, ascending, those that overlap as one.
    fn spans(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for form in self.forms.iter() {
            let mut from = 0;
            while let Some(at) = text.get(from..).and_then(|rest| form.finder.find(rest)) {
                // Another one may begin inside of it.
                let start = from + at;
                found.push(start..start + form.text.len());
                from = start + 1;
            }
        }
        found.sort_by_key(|span| span.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for span in found {
            match merged.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
        }
        merged
    }

    /// The text without the beginnings of secrets before cuts.
    fn masked_at_cuts(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for (number, piece) in text.split(CUT).enumerate() {
            if number > 0 {
                let begun = self.forms.iter().map(|form| begun_at_end(&out, &form.text)).max().unwrap_or(0);
                out.truncate(out.len() - begun);
                if begun >= BYTES_MIN {
                    out.push_str(MASK);
                }
                out.push(CUT);
            }
            out.push_str(piece);
        }
        out
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The number of bytes of the longest beginning of `form` that `text` ends with.
fn begun_at_end(text: &str, form: &str) -> usize {
    let (text, form) = (text.as_bytes(), form.as_bytes());
    let tail = &text[text.len().saturating_sub(form.len() - 1)..];
    // A server may send very many marks, so only what begins alike is compared.
    memchr_iter(form[0], tail).map(|at| &tail[at..]).find(|rest| form.starts_with(rest)).map_or(0, <[u8]>::len)
}

/// Adds the secrets in the value of a header.
fn of_header(value: &str, forms: &mut BTreeSet<String>) {
    add(value, forms);
    for word in value.split(|c: char| c.is_whitespace() || ",;\"".contains(c)) {
        // A cookie or a parameter; padding of Base64 has nothing after it.
        let inner = word.split_once('=').map_or("", |(_, inner)| inner.trim_matches('='));
        for word in [word, inner].into_iter().filter(|word| word.len() >= WORD_BYTES_MIN) {
            add(word, forms);
        }
        if let Some(plain) = unbase64(word).filter(|_| word.len() >= WORD_BYTES_MIN) {
            add(&plain, forms);
            add(plain.split_once(':').map_or("", |(_, password)| password), forms);
        }
    }
}

/// Adds the secrets in a path with a query.
fn of_path(path: &str, forms: &mut BTreeSet<String>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let keys = path.split('/').filter(|part| part.len() >= PATH_KEY_BYTES_MIN);
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    for value in keys.chain(values) {
        add(value, forms);
        add(&unescaped(value), forms);
        add(&unescaped(&value.replace('+', " ")), forms);
    }
}

/// Adds all forms of a value.
fn add(value: &str, forms: &mut BTreeSet<String>) {
    if value.len() < BYTES_MIN {
        return;
    }
    let coded = base64(value.as_bytes());
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let upper = percent(value, |byte| format!("%{byte:02X}"));
    let all = [
        value.to_owned(),
        value.split_whitespace().collect::<Vec<_>>().join(" "),
        coded.trim_end_matches('=').to_owned(),
        coded,
        upper,
        percent(value, |byte| format!("%{byte:02x}")),
        escaped.replace('/', "\\/"),
        unicode(&escaped, |upper, code| if upper { format!("\\u{code:04X}") } else { format!("\\u{code:04x}") }, true),
        unicode(&escaped, |_, code| format!("\\u{code:04x}"), false),
        escaped,
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#x27;"),
        html,
    ];
    forms.extend(all.into_iter().filter(|form| form.len() >= BYTES_MIN));
}

/// Writes the characters that JSON encoders escape for the sake of HTML as the numbers that `number` writes.
fn unicode(text: &str, number: impl Fn(bool, u32) -> String, upper: bool) -> String {
    let write = |c: char| if "<>&='".contains(c) { number(upper, u32::from(c)) } else { c.to_string() };
    text.chars().map(write).collect()
}

/// The text with each byte escaped that has a meaning in a URL.
fn percent(text: &str, escape: impl Fn(u8) -> String) -> String {
    let write = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => escape(byte),
    };
    text.bytes().map(write).collect()
}

/// The text with percent escapes decoded; invalid ones stay.
fn unescaped(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The text that Base64 stands for, if it is one.
fn unbase64(text: &str) -> Option<String> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

    fn secrets(header: &str, path: &str) -> Secrets {
        let mut value = HeaderValue::from_str(header).expect("a value");
        value.set_sensitive(true);
        let open = (HeaderName::from_static("x-open"), HeaderValue::from_static("not-secret"));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value), open]);
        Secrets::of([&headers].into_iter(), [path].into_iter())
    }

    #[test]
    fn every_form_of_a_secret_is_removed() {
        // The user `u` and the password `p&ss/"word"`.
        let basic = format!("Basic {}", base64(br#"u:p&ss/"word""#));
        let known = secrets(&basic, "/in/0123456789abcdef?token=a%2Fb+c%3D%3D&flag=true&x=1");
        for text in [
            &basic,
            basic.split_once(' ').expect("two words").1,
            r#"p&ss/"word""#,
            r#"p&ss/\"word\""#,
            r#"p&ss\/\"word\""#,
            r#"p\u0026ss/\"word\""#,
            "p&amp;ss/&quot;word&quot;",
            "p%26ss%2F%22word%22",
            "p%26ss%2f%22word%22",
            &base64(br#"p&ss/"word""#),
            "a%2Fb+c%3D%3D",
            "a/b c==",
            "a/b+c==",
            "0123456789abcdef",
            "true",
        ] {
            assert_eq!(known.masked(format!("x {text} y")), "x *** y", "{text}");
        }
        for open in ["not-secret", "Basic", "/in/", "x=1"] {
            assert_eq!(known.masked(open.to_owned()), open);
        }
        assert_eq!(secrets("Bearer hush-hush", "/").masked("bearer hush-hush".to_owned()), "bearer ***");
        assert_eq!(secrets("id=7; session=hush-hush", "/").masked("got hush-hush".to_owned()), "got ***");
    }

    #[test]
    fn excerpt_shows_no_part_of_a_secret_wherever_it_is_cut() {
        let known = secrets("Bearer hüsh-token-1234", "/in?a=abcd%01efg&b=fghijk");
        let raw = format!("{} hüsh-token-1234 and more", "x".repeat(20));
        for bytes_max in 1..raw.len() + 3 {
            let shown = known.excerpt(raw.as_bytes(), bytes_max);
            let plain = shown.trim_start_matches('x').trim_start();
            assert!(["", "…", "***", "***…"].contains(&plain) || plain.starts_with("*** "), "{bytes_max}: {shown}");
            assert_eq!(shown.ends_with(CUT), bytes_max < raw.len(), "{shown}");
        }
        // Control characters are part of a secret until it is found; overlapping ones leave nothing between them.
        assert_eq!(known.excerpt(b"got abcd\x01efghijk!\r\n\x1b[2Jx", 100), "got ***! [2Jx");
        assert_eq!(known.masked("got abcd\u{1}efghijk!".to_owned()), "got ***!");
        assert_eq!(known.excerpt(b"", 10), "");
        assert_eq!(Secrets::default().excerpt("aß".as_bytes(), 2), "a…");
        assert_eq!(format!("{known:?}"), "***");
    }

    #[test]
    fn beginning_of_a_secret_before_a_cut_is_removed() {
        let known = secrets("Bearer geheimß-token", "/");
        assert_eq!(known.masked("key: gehe…; check `auth`".to_owned()), "key: ***…; check `auth`");
        for (length, _) in "geheimß-token".char_indices().skip(1) {
            let shown = known.masked(format!("key: {}…", &"geheimß-token"[..length]));
            assert_eq!(shown, if length < BYTES_MIN { "key: …" } else { "key: ***…" });
        }
        assert_eq!(known.masked("authorization: Bearer geh…".to_owned()), "authorization: ***…");
        assert_eq!(known.masked("gehe wohin… es geht".to_owned()), "gehe wohin… es geht");
        assert_eq!(Secrets::default().masked("a…b".to_owned()), "a…b");
    }
}

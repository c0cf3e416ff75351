//! The path of an output file, rendered from an event: `/var/log/out/{{ host }}/%F.log`.
//!
//! Guarantees: a path never leaves the fixed directory that the template begins with, whatever an event contains. A `/`, a
//! NUL or a control byte in a value becomes `_`, and so does a whole part that would be empty, `.`, `..` or too long for a
//! file name. If the path is too long, each part with a field becomes `_`. All paths of a template have the same number of
//! parts: no event needs a directory where another event's file is. Dates are the event's, in the configured time zone. If an
//! event lacks a field, or the field is not a string, number or boolean, its default is used (`{{ host | default('none')
//! }}`), or else `unknown`.

use crate::codec::json::{find_field, string_body, unescape_json};
use crate::codec::marked;
use crate::codec::template::{Dates, Part, behind_date, behind_name, push_civil, push_date, push_literal};
use crate::codec::zone::Zone;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tailwater_shards::env::Timestamp;
use tailwater_shards::plugin::Event;
use tailwater_shards::scan::escape_json_into;

/// Longest file name of common file systems, minus the suffix of a rotated file.
const NAME_BYTES_MAX: usize = 255 - 8;

/// Longest path.
const PATH_BYTES_MAX: usize = 1024;

const UNKNOWN: &[u8] = b"unknown";

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    /// The parts between the slashes, from the root.
    components: Vec<Vec<Part>>,
    dates: Dates,
    has_fields: bool,
    /// The defaults of fields that an event lacks.
    defaults: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl PathTemplate {
    /// Parses a template, or returns everything that is wrong with it.
    pub fn parse(text: &str) -> Result<PathTemplate, Vec<String>> {
        let mut reading = Parts::default();
        let mut wrong = Vec::new();
        if !marked::plain(text).starts_with('/') {
            wrong.push(format!("`{}` is not an absolute path", marked::shown(text)));
        }
        let mut rest = text;
        while !rest.is_empty() {
            rest = reading.next(rest).unwrap_or_else(|(what, behind)| {
                wrong.push(what);
                behind
            });
        }
        let Parts { mut components, defaults } = reading;
        // There is nothing before the first slash.
        components.remove(0);
        if wrong.is_empty() {
            // Else what is wrong may be what is missing.
            wrong = wrong_parts(&components, &marked::shown(text));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let parts = || components.iter().flatten();
        let dates = Dates::of(parts());
        let has_fields = parts().any(|part| matches!(part, Part::Field(_)));
        Ok(PathTemplate { components, dates, has_fields, defaults })
    }

    /// The same template with dates in another time zone.
    pub fn in_zone(self, zone: &Zone) -> PathTemplate {
        PathTemplate { dates: self.dates.in_zone(zone), ..self }
    }

    /// The path, if it is the same for every event.
    pub fn constant(&self) -> Option<Vec<u8>> {
        (self.dates.none() && !self.has_fields).then(|| {
            let mut path = Vec::new();
            self.render(&Event { line: b"{}", timestamp: Timestamp(0) }, &mut path);
            path
        })
    }

    /// The range of times, including this one, that render to the same path, apart from fields.
    pub fn same_dates(&self, moment: Timestamp) -> Range<i64> {
        self.dates.same(moment)
    }

    /// Whether the path depends on fields.
    pub fn has_fields(&self) -> bool {
        self.has_fields
    }

    /// The first field that has no default and is not `added` to each event, as it is written in an event's line.
    pub fn without_default(&self, added: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        self.components.iter().flatten().find_map(|part| match part {
            Part::Field(name) if !self.defaults.contains_key(name) && !added(name) => Some(name.as_slice()),
            _ => None,
        })
    }

    /// Whether both render the same events to the same paths, apart from their first directories.
    pub fn is_like(&self, other: &PathTemplate) -> bool {
        if self.constant().is_some() || other.constant().is_some() {
            return self.constant().is_some() && other.constant().is_some();
        }
        let depth = |template: &PathTemplate| template.fixed_directory().iter().filter(|byte| **byte == b'/').count();
        self.components[depth(self)..] == other.components[depth(other)..]
            && self.defaults == other.defaults
            && self.dates == other.dates
    }

    /// Whether some event may be rendered to `path`.
    pub fn may_be(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
        names.len() == self.components.len()
            && self.components.iter().zip(names).all(|(parts, name)| may_read(parts, name))
    }

    /// Replaces `path` by the path of an event. Returns whether each field without a default was present.
    pub fn render(&self, event: &Event<'_>, path: &mut Vec<u8>) -> bool {
        let all_known = self.render_if(event, path, |_| true);
        if path.len() > PATH_BYTES_MAX {
            let is_field = |part: &Part| matches!(part, Part::Field(_));
            self.render_if(event, path, |parts| !parts.iter().any(is_field));
        }
        all_known
    }

    /// Renders the wanted parts of the path; the others become `_`.
    fn render_if(&self, event: &Event<'_>, path: &mut Vec<u8>, is_wanted: impl Fn(&[Part]) -> bool) -> bool {
        path.clear();
        let mut all_known = true;
        let civil = self.dates.civil(event.timestamp);
        for parts in &self.components {
            path.push(b'/');
            let start = path.len();
            for part in parts.iter().filter(|_| is_wanted(parts)) {
                match part {
                    Part::Literal(text) => path.extend_from_slice(text),
                    Part::Date(letter) => push_civil(&civil, event.timestamp, *letter, path),
                    Part::Field(name) => {
                        let default = self.defaults.get(name);
                        let is_known = push_field(event.line, name, default.map_or(UNKNOWN, Vec::as_slice), path);
                        all_known &= is_known || default.is_some();
                    }
                }
            }
            let name = &path[start..];
            if matches!(name, b"" | b"." | b"..") || name.len() > NAME_BYTES_MAX {
                path.truncate(start);
                path.push(b'_');
            }
        }
        all_known
    }

    /// Whether the path ends with a field: then it may look like the rotated file of another path.
    pub fn ends_with_field(&self) -> bool {
        matches!(self.components.last().and_then(|parts| parts.last()), Some(Part::Field(_)))
    }

    /// The directory that contains every path of this template.
    pub fn fixed_directory(&self) -> Vec<u8> {
        let mut path = Vec::new();
        let above_last = self.components.len() - 1;
        for parts in &self.components[..above_last] {
            let [Part::Literal(name)] = parts.as_slice() else { break };
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// Whether the fixed directory is `base` or inside it.
    pub fn is_within(&self, base: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let mut fixed = self.fixed_directory();
        fixed.push(b'/');
        Path::new(std::ffi::OsStr::from_bytes(&fixed)).starts_with(base)
    }
}

/// Whether the parts of a name may be rendered to `name`.
fn may_read(parts: &[Part], name: &[u8]) -> bool {
    match parts.split_first() {
        None => name.is_empty(),
        Some((Part::Literal(text), rest)) => {
            name.strip_prefix(text.as_slice()).is_some_and(|name| may_read(rest, name))
        }
        Some((Part::Date(_), rest)) => {
            let is_of_date = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-:".contains(byte);
            let most = name.iter().take_while(|byte| is_of_date(byte)).count();
            (1..=most).any(|count| may_read(rest, &name[count..]))
        }
        Some((Part::Field(_), rest)) => (1..=name.len()).any(|count| may_read(rest, &name[count..])),
    }
}

/// What was read of a template.
struct Parts {
    components: Vec<Vec<Part>>,
    defaults: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts { components: vec![Vec::new()], defaults: BTreeMap::new() }
    }
}

impl Parts {
    /// Reads what stands at the beginning of a text; what is behind it, also of what is wrong.
    fn next<'a>(&mut self, text: &'a str) -> Result<&'a str, (String, &'a str)> {
        let Some(character) = text.chars().next() else { return Ok("") };
        if let Some((value, behind)) = marked::value(text) {
            // The value may contain several directories.
            for (index, name) in value.split('/').enumerate() {
                if index > 0 {
                    self.components.push(Vec::new());
                }
                if !name.is_empty() {
                    push_literal(name.as_bytes(), self.component());
                }
            }
            Ok(behind)
        } else if character == '/' {
            self.components.push(Vec::new());
            Ok(&text[1..])
        } else if let Some(behind) = text.strip_prefix("{{") {
            let close = marked::find(behind, "}}").ok_or_else(|| ("`{{` without `}}`".to_owned(), ""))?;
            self.field(&behind[..close]).map_err(|what| (what, behind_name(behind)))?;
            Ok(&behind[close + 2..])
        } else if let Some(behind) = text.strip_prefix('%') {
            push_date(behind, self.component()).map_err(|what| (what, behind_date(behind)))
        } else {
            push_literal(&text.as_bytes()[..character.len_utf8()], self.component());
            Ok(&text[character.len_utf8()..])
        }
    }

    fn component(&mut self) -> &mut Vec<Part> {
        self.components.last_mut().expect("there is one from the beginning")
    }

    fn field(&mut self, inside: &str) -> Result<(), String> {
        let (name, default) = name_and_default(inside)?;
        let mut escaped = Vec::new();
        escape_json_into(name.as_bytes(), &mut escaped);
        self.component().push(Part::Field(escaped.clone()));
        let Some(default) = default else { return Ok(()) };
        match self.defaults.insert(escaped, default.clone().into_bytes()) {
            Some(before) if before != default.as_bytes() => {
                Err(format!("`{}`: the field has two defaults", marked::shown(inside).trim()))
            }
            _ => Ok(()),
        }
    }
}

/// What no part of a path may be.
fn wrong_parts(components: &[Vec<Part>], text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for parts in components {
        match parts.as_slice() {
            [] => wrong.push(format!("`{text}` has an empty part")),
            [Part::Literal(name)] if name == b"." || name == b".." => {
                wrong.push(format!("`{text}` has a part `{}`", String::from_utf8_lossy(name)));
            }
            _ => {}
        }
    }
    wrong.dedup();
    wrong
}

/// What `{{ }}` names, and the default that it may say: `host | default('none')`.
fn name_and_default(inside: &str) -> Result<(String, Option<String>), String> {
    let bar = marked::find(inside, "|");
    let written = &inside[..bar.unwrap_or(inside.len())];
    let (name, shown) = (marked::plain(written).trim().to_owned(), marked::shown(written));
    let shown = shown.trim();
    if name.is_empty() {
        return Err("`{{ }}` has no field name".to_owned());
    }
    let Some(filter) = bar.map(|bar| inside[bar + 1..].trim()) else { return Ok((name, None)) };
    let plain = marked::plain(filter);
    let quoted = plain.strip_prefix("default(").and_then(|rest| rest.strip_suffix(')')).map(str::trim);
    let is_quoted = |text: &str, quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let is_text = |text: &&str| is_quoted(text, '\'') || is_quoted(text, '"');
    match quoted.filter(is_text).map(|text| &text[1..text.len() - 1]) {
        Some(default) if default.is_empty() || default.contains(['/', '\'', '"', '\0']) => {
            Err(format!("the default of `{shown}` is empty, or contains a quotation mark or a `/`"))
        }
        Some(default) => Ok((name, Some(default.to_owned()))),
        None => {
            let filter = marked::shown(filter);
            Err(format!("`| {filter}` is not known here: write `{{{{ {shown} | default('none') }}}}`"))
        }
    }
}

/// Appends the value of a field, without bytes that are invalid in a file name, or `default`. Returns whether there was a
/// value.
fn push_field(line: &[u8], name: &[u8], default: &[u8], path: &mut Vec<u8>) -> bool {
    let start = path.len();
    let known = match find_field(line, name) {
        Some([b'{' | b'[', ..] | b"null") | None => false,
        Some(value) => match string_body(value) {
            Some(body) => unescape_json(body, path).is_ok(),
            None => {
                path.extend_from_slice(value);
                true
            }
        },
    };
    if !known {
        path.truncate(start);
        path.extend_from_slice(default);
    }
    for byte in &mut path[start..] {
        if *byte == b'/' || *byte < 0x20 || *byte == 0x7f {
            *byte = b'_';
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23T00:12:34Z, a Monday.
    const MOMENT: Timestamp = Timestamp(1_795_392_754_000_000_000);

    fn path(template: &str, line: &str) -> String {
        let mut path = Vec::new();
        let template = PathTemplate::parse(template).expect("a template");
        template.render(&Event { line: line.as_bytes(), timestamp: MOMENT }, &mut path);
        String::from_utf8(path).expect("text")
    }

    #[test]
    fn dates_come_from_the_event() {
        let letters = ["%Y", "%y", "%m", "%d", "%F", "%H", "%M", "%S", "%j", "%G", "%V", "%u", "%s"];
        let moment = jiff::Timestamp::from_nanosecond(i128::from(MOMENT.0)).expect("in range");
        for letter in letters {
            assert_eq!(path(&format!("/x{letter}y"), "{}"), format!("/x{}y", moment.strftime(letter)));
        }
        assert_eq!(path("/100%%/%F.log", "{}"), "/100%/2026-11-23.log");
    }

    #[test]
    fn fields_come_from_the_event() {
        let line = r#"{"host":"web-1","n":7,"on":true,"o":{},"z":null,"s p":"ü"}"#;
        assert_eq!(path("/a/{{ host }}/{{n}}-{{on}}.log", line), "/a/web-1/7-true.log");
        assert_eq!(path("/a/{{o}}/{{z}}/{{none}}/{{ s p }}", line), "/a/unknown/unknown/unknown/ü");
    }

    #[test]
    fn missing_fields_use_their_default() {
        let template = "/a/{{ h | default('none') }}/{{h}}-{{ n|default( \"x y\" ) }}.log";
        assert_eq!(path(template, "{}"), "/a/none/none-x y.log");
        assert_eq!(path(template, r#"{"h":"web","n":null}"#), "/a/web/web-x y.log");
        let known = |template: &str, line: &str| {
            let template = PathTemplate::parse(template).expect("a template");
            template.render(&Event { line: line.as_bytes(), timestamp: MOMENT }, &mut Vec::new())
        };
        assert!(known(template, "{}"));
        assert!(!known("/a/{{h}}", "{}") && known("/a/{{h}}", r#"{"h":"unknown"}"#));
        let parsed = |text: &str| PathTemplate::parse(text).expect("a template");
        assert_eq!(parsed(template).without_default(|_| false), None);
        assert_eq!(parsed("/a/{{h | default('a')}}/{{b}}").without_default(|_| false), Some(&b"b"[..]));
        assert_eq!(parsed("/a/{{b}}").without_default(|name| name == b"b"), None);
    }

    #[test]
    fn possible_paths_are_known() {
        let may_be =
            |template: &str, path: &str| PathTemplate::parse(template).expect("a template").may_be(path.as_bytes());
        for (template, path, may) in [
            ("/o/{{ a }}.log", "/o/all.log", true),
            ("/o/{{ a }}.log", "/o/.log", false),
            ("/o/{{ a }}.log", "/p/all.log", false),
            ("/o/{{ a }}.log", "/o/x/all.log", false),
            ("/o/{{ a }}-{{ b }}", "/o/a-b-c", true),
            ("/o/%F.log", "/o/2026-11-23.log", true),
            ("/o/%F.log", "/o/out/log", false),
            ("/o/x.log", "/o/x.log", true),
        ] {
            assert_eq!(may_be(template, path), may, "{template} {path}");
        }
        let alike = |one: &str, other: &str| {
            let parsed = |text: &str| PathTemplate::parse(text).expect("a template");
            parsed(one).is_like(&parsed(other))
        };
        assert!(
            alike("/o/{{ a }}.log", "/p/{{a}}.log") && alike("/o/x", "/p/y") && alike("/o/p/{{a}}/x", "/o/{{a}}/x")
        );
        assert!(
            !alike("/o/{{ a }}.log", "/o/{{ b }}.log") && !alike("/o/{{ a }}", "/o/x") && !alike("/o/%F", "/o/%F-%H")
        );
    }

    #[test]
    fn values_stay_within_the_fixed_directory() {
        let value = |value: &str| path("/a/{{v}}/x", &serde_json::json!({ "v": value }).to_string());
        for (evil, harmless) in [("..", "_"), (".", "_"), ("", "_"), ("../../etc", ".._.._etc"), ("a\0b\n", "a_b_")] {
            assert_eq!(value(evil), format!("/a/{harmless}/x"));
        }
        assert_eq!(value(&"x".repeat(300)), "/a/_/x");
        assert_eq!(path("/a/{{v}}{{v}}", r#"{"v":"."}"#), "/a/_");
        assert_eq!(path("/a/{{v}}./x", r#"{"v":"."}"#), "/a/_/x");
        let long = format!(r#"{{"v":"{}"}}"#, "x".repeat(240));
        assert_eq!(path("/a/b/{{v}}/{{v}}/{{v}}/{{v}}/{{v}}", &long), "/a/b/_/_/_/_/_");
        assert_eq!(path("/a/{{v}}/{{v}}/%F/{{v}}/{{v}}/{{v}}.log", &long), "/a/_/_/2026-11-23/_/_/_");
    }

    #[test]
    fn no_path_is_a_directory_of_another_path() {
        let template = "/a/{{v}}/{{v}}/{{w}}/{{v}}/{{v}}";
        let (long, other) = ("x".repeat(240), "/.");
        let values = ["", ".", "..", "_", other, &long, "a/b"];
        let pairs = values.iter().flat_map(|v| values.iter().map(move |w| serde_json::json!({ "v": v, "w": w })));
        let paths: Vec<String> = pairs.map(|line| path(template, &line.to_string())).collect();
        assert!(paths.iter().all(|one| one.matches('/').count() == template.matches('/').count()), "{paths:?}");
    }

    #[test]
    fn bad_templates_say_why() {
        let error = |text: &str| PathTemplate::parse(text).expect_err("refused").concat();
        assert!(error("relative/x").contains("absolute"));
        assert!(error("/a/../b").contains(".."));
        assert!(error("/a//b").contains("empty"));
        assert!(error("/a/").contains("empty"));
        assert!(error("/a/%Q").contains("%Q"));
        assert!(error("/a/%").contains("%%"));
        assert!(error("/a/{{x").contains("}}"));
        assert!(error("/a/{{ }}").contains("no field name"));
        assert!(error("/a/{{ h | upper }}").contains("default('none')"));
        assert!(error("/a/{{ h | default(none) }}").contains("default('none')"));
        assert!(error("/a/{{ h | default('../x') }}").contains("`/`"));
        assert!(error("/a/{{ h | default('') }}").contains("empty"));
        assert!(error("/a/{{ h | default('a') }}{{ h | default('b') }}").contains("two defaults"));
    }

    #[test]
    fn constant_and_fixed_parts_are_known() {
        let template = |text: &str| PathTemplate::parse(text).expect("a template");
        assert_eq!(template("/a/b.log").constant(), Some(b"/a/b.log".to_vec()));
        assert_eq!(template("/a/%Y").constant(), None);
        assert_eq!(template("/a/{{x}}").constant(), None);
        assert!(template("/a/b/%Y/c").is_within(Path::new("/a/b")));
        assert!(template("/a/b/%Y/c").is_within(Path::new("/a")));
        assert!(!template("/a/bc/x").is_within(Path::new("/a/b")));
        let hour = template("/a/%F-%H");
        assert_eq!(hour.same_dates(Timestamp(0)), 0..3_600_000_000_000);
        assert_eq!(hour.same_dates(Timestamp(-1)), -3_600_000_000_000..0);
    }

    proptest! {
        #[test]
        fn no_value_escapes(value in any::<String>(), other in "[./]{0,4}") {
            let line = serde_json::json!({ "v": value, "w": other }).to_string();
            let path = path("/base/dir/{{v}}{{w}}/{{w}}.{{v}}", &line);
            let parts: Vec<&str> = path.split('/').collect();
            prop_assert_eq!(&parts[..3], &["", "base", "dir"]);
            prop_assert!(parts.len() <= 5);
            prop_assert!(parts[3..].iter().all(|part| !part.is_empty() && *part != "." && *part != ".."));
            prop_assert!(!path.contains('\0'));
        }
    }
}

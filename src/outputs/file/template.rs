//! The path of an output file, rendered from an event: `/var/log/out/{{ host }}/%F.log`.
//!
//! Guarantees: a path never leaves the fixed directory that the template begins with, whatever an event contains: each value
//! becomes a name that no other value has ([`super::names`]). A template that begins with a field is refused. No part begins with a `-` or a `.` that is not in the template. All
//! paths of a template have the same number of parts, so no event needs a directory where another event's file is, and none is too
//! long. Dates are the event's, in the configured time zone. If an event lacks a field, or the field is not a string, number or
//! boolean, its default is used (`{{ host | default('none') }}`), or else `unknown`.
//!
//! Two fields in one part can make one name of different values (`{{ a }}{{ b }}`): a `/` between them keeps them apart.

use super::names::{ROOM_MIN, encode, encode_sign};
use crate::codec::json::{find_field, string_body, unescape_json};
use crate::codec::marked;
use crate::codec::template::{
    Dates, Defaults, Part, UNKNOWN, behind_date, behind_name, push_civil, push_date, push_literal, push_name,
};
use crate::codec::zone::Zone;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Timestamp;
use tailwater_shards::plugin::Event;

/// Longest file name of common file systems, minus the longest ending of a rotated file (`.aside-999`).
const NAME_BYTES_MAX: usize = 255 - 10;

/// Longest date, that of `%s`.
const DATE_BYTES_MAX: usize = 20;

/// Longest path.
const PATH_BYTES_MAX: usize = 1024;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    /// The parts between the slashes, from the root.
    components: Vec<Vec<Part>>,
    /// How many bytes the name of a value may have in each of them.
    rooms: Vec<usize>,
    dates: Dates,
    has_fields: bool,
    /// The defaults of fields that an event lacks.
    defaults: Defaults,
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
        let rooms = rooms(&components);
        if wrong.is_empty() && rooms.is_none() {
            wrong.push(format!(
                "`{}` is too long: a part may have {NAME_BYTES_MAX} bytes and the path {PATH_BYTES_MAX}, with {ROOM_MIN} for each field",
                marked::shown(text)
            ));
        }
        let Some(rooms) = rooms.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let parts = || components.iter().flatten();
        let dates = Dates::of(parts());
        let has_fields = parts().any(|part| matches!(part, Part::Field(_)));
        Ok(PathTemplate { components, rooms, dates, has_fields, defaults })
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

    /// Whether the path depends on dates.
    pub fn has_dates(&self) -> bool {
        !self.dates.none()
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

    /// How many parts a path has, from the root.
    pub fn depth(&self) -> usize {
        self.components.len()
    }

    /// Whether some event may be rendered to a path with `name` at this depth, counted from zero.
    pub fn may_have(&self, depth: usize, name: &[u8]) -> bool {
        self.components.get(depth).is_some_and(|parts| may_read(parts, name))
    }

    /// Replaces `path` by the path of an event. Returns whether each field without a default was present.
    pub fn render(&self, event: &Event<'_>, path: &mut Vec<u8>) -> bool {
        path.clear();
        let mut all_known = true;
        let civil = self.dates.civil(event.timestamp);
        for (parts, room) in self.components.iter().zip(&self.rooms) {
            path.push(b'/');
            let start = path.len();
            for part in parts {
                match part {
                    Part::Literal(text) => path.extend_from_slice(text),
                    Part::Date(letter) => {
                        push_civil(&civil, event.timestamp, *letter, path);
                        encode_sign(path, start);
                    }
                    Part::Field(name) => all_known &= self.push_field(event, name, *room, path),
                }
            }
        }
        all_known
    }

    /// Replaces `values` by the names of the fields' values: what makes two paths different apart from dates. Returns how many bytes
    /// of them belong to the first directory, or the file, that depends on fields.
    pub fn render_values(&self, event: &Event<'_>, values: &mut Vec<u8>) -> usize {
        values.clear();
        let mut of_first = 0;
        for (parts, room) in self.components.iter().zip(&self.rooms) {
            for part in parts {
                if let Part::Field(name) = part {
                    self.push_field(event, name, *room, values);
                    values.push(b'/');
                }
            }
            of_first = if of_first == 0 { values.len() } else { of_first };
        }
        of_first
    }

    /// Appends the name of a field's value, or of its default. Returns whether there was one of them.
    fn push_field(&self, event: &Event<'_>, name: &[u8], room: usize, path: &mut Vec<u8>) -> bool {
        let (start, default) = (path.len(), self.defaults.get(name));
        let is_known = push_value(event.line, name, path);
        if !is_known {
            path.extend_from_slice(default.map_or(UNKNOWN, Vec::as_slice));
        }
        encode(path, start, room);
        is_known || default.is_some()
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

    /// [`PathTemplate::fixed_directory`] as a path.
    pub fn fixed_path(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let fixed = self.fixed_directory();
        Path::new("/").join(std::ffi::OsStr::from_bytes(&fixed))
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
            let is_of_date = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-:%".contains(byte);
            let most = name.iter().take_while(|byte| is_of_date(byte)).count();
            (1..=most).any(|count| may_read(rest, &name[count..]))
        }
        Some((Part::Field(_), rest)) => (1..=name.len()).any(|count| may_read(rest, &name[count..])),
    }
}

/// What was read of a template.
struct Parts {
    components: Vec<Vec<Part>>,
    defaults: Defaults,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts { components: vec![Vec::new()], defaults: Defaults::new() }
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
            let parts = self.components.last_mut().expect("there is one from the beginning");
            push_name(behind, parts, &mut self.defaults).map_err(|what| (what, behind_name(behind)))
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
    if matches!(components.first().and_then(|parts| parts.first()), Some(Part::Field(_))) {
        wrong.push(format!("`{text}` begins with a field, so events would choose any directory of the host"));
    }
    wrong.dedup();
    wrong
}

/// How many bytes the name of a value may have in each part, so that neither a name nor the path is too long; none if there is too
/// little room.
fn rooms(components: &[Vec<Part>]) -> Option<Vec<usize>> {
    let fixed = |parts: &[Part]| {
        let bytes = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Date(_) => DATE_BYTES_MAX,
            Part::Field(_) => 0,
        };
        parts.iter().map(bytes).sum::<usize>()
    };
    let fields = |parts: &[Part]| parts.iter().filter(|part| matches!(part, Part::Field(_))).count();
    let share = |room: usize, used: usize, fields: usize| match fields {
        0 => room.checked_sub(used),
        fields => room.checked_sub(used).map(|room| room / fields).filter(|room| *room >= ROOM_MIN),
    };
    let used = components.iter().map(|parts| 1 + fixed(parts)).sum();
    let of_path = share(PATH_BYTES_MAX, used, components.iter().map(|parts| fields(parts)).sum())?;
    components.iter().map(|parts| Some(share(NAME_BYTES_MAX, fixed(parts), fields(parts))?.min(of_path))).collect()
}

/// Appends the value of a field. Returns whether there was one.
fn push_value(line: &[u8], name: &[u8], path: &mut Vec<u8>) -> bool {
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
        for (evil, harmless) in [("..", "%2E."), (".", "%2E"), ("", "%empty"), ("../../etc", "%2E.%2F..%2Fetc")] {
            assert_eq!(value(evil), format!("/a/{harmless}/x"));
        }
        assert_eq!(path("/a/{{v}}{{v}}", r#"{"v":"."}"#), "/a/%2E%2E");
        assert_eq!(path("/a/.{{v}}/x", r#"{"v":"."}"#), "/a/.%2E/x");
        assert_eq!(path("/a/{{v}}", r#"{"v":-5}"#), "/a/%2D5");
        assert_eq!(path("/a/{{v | default('..')}}", "{}"), "/a/%2E.");
        let template = PathTemplate::parse("/a/%s.log").expect("a template");
        let mut path = Vec::new();
        template.render(&Event { line: b"{}", timestamp: Timestamp(-5_000_000_000) }, &mut path);
        assert_eq!(path, b"/a/%2D5.log");
    }

    #[test]
    fn events_do_not_choose_among_all_directories_of_the_host() {
        for open in ["/{{a}}/{{b}}", "/{{a}}.log", "/{{a | default('logs')}}/x", "/{{a}}-logs/%F"] {
            let wrong = PathTemplate::parse(open).expect_err(open).concat();
            assert!(wrong.contains("begins with a field") && wrong.contains(open), "{wrong}");
        }
        for fixed in ["/logs-{{a}}/x", "/logs/{{a}}", "/%Y/{{a}}", "/x"] {
            PathTemplate::parse(fixed).expect(fixed);
        }
    }

    #[test]
    fn names_and_paths_are_never_too_long() {
        for template in [
            "/a/{{v}}/x",
            "/a/b/{{v}}/{{v}}/{{v}}/{{v}}/{{v}}.log",
            "/a/{{v}}{{v}}-%s-{{v}}.log",
            "/a-{{v}}/{{v}}/{{v}}/{{v}}/{{v}}",
        ] {
            for value in ["x", "/", "ü", "\u{202e}"] {
                let line = serde_json::json!({ "v": value.repeat(3000) }).to_string();
                let path = path(template, &line);
                assert!(
                    path.len() <= PATH_BYTES_MAX && path.split('/').all(|name| name.len() <= NAME_BYTES_MAX),
                    "{path}"
                );
            }
        }
        let error = |text: &str| PathTemplate::parse(text).expect_err("refused").concat();
        assert!(error(&format!("/a/{}", "x".repeat(NAME_BYTES_MAX + 1))).contains("too long"));
        assert!(error(&format!("/a/{}{{{{v}}}}", "x".repeat(NAME_BYTES_MAX - ROOM_MIN + 1))).contains("too long"));
        assert!(error(&format!("/a{}", "/{{v}}".repeat(16))).contains("too long"));
    }

    #[test]
    fn what_counts_as_a_path_leaves_dates_out() {
        let template = PathTemplate::parse("/a/%F/{{v}}-{{w}}/{{v}}").expect("a template");
        let mut values = Vec::new();
        template.render_values(&Event { line: br#"{"v":"a/","w":1}"#, timestamp: MOMENT }, &mut values);
        assert_eq!(values, b"a%2F/1/a%2F/");
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
            prop_assert!(parts[3..].iter().all(|part| !part.is_empty() && !part.starts_with(['.', '-'])));
            prop_assert!(!path.contains('\0'));
        }
    }
}

//! Verbs as they are configured, on events as they come.

use super::{Now, Opening, Origin, Step, Transform, Verdict, emit_next, open_all, run_all};
use crate::config::component::Mistake;
use crate::config::de::read;
use crate::config::facts::Facts;
use crate::config::node::parse;
use proptest::prelude::*;
use serde_json::Value as Json;
use tailwater_shards::batch::{Chunk, EventSpan, SourceKey};
use tailwater_shards::env::Timestamp;
use tailwater_shards::glommio_env::RealDisk;
use tailwater_shards::record::{Place, Workshop};
use tailwater_shards::scan::json::{Lines, NodeId, Parser};
use tailwater_shards::shape::{Edit, EditId, Meta, Shapes};

/// When the events of these tests happen: 2026-11-23T10:20:30.123456789Z.
pub const TIME: Timestamp = Timestamp(1_795_429_230_123_456_789);

/// Verbs on one shard.
pub struct Bench {
    workshop: Workshop,
    verbs: Vec<Box<dyn Transform>>,
    parser: Parser,
    made: EditId,
    steps: Vec<Step>,
}

impl Bench {
    /// The verbs of a list in YAML, or the first mistake in it.
    pub fn try_new(list: &str) -> Result<Bench, String> {
        let (root, problems) =
            parse(list, &|name| name.ends_with("_KEY").then(|| "a key that is only an example".to_owned()));
        let root = root.filter(|_| problems.is_empty()).ok_or_else(|| format!("{problems:?}"))?;
        let steps: Vec<Step> = read(&root).map_err(|fault| fault.problem().what)?;
        for step in &steps {
            if let Some(Mistake { key, what, .. }) = step.check().first() {
                return Err(format!("{key}: {what}"));
            }
        }
        let mut shapes = Shapes::new(&[(Meta::File, "file")], Some("message"));
        let facts = Facts::of("web-03");
        let made = shapes.register_edit(Edit::Clear);
        let verbs = open_all(&steps, &mut Opening { shapes: &mut shapes, facts: &facts });
        let mut workshop = Workshop::new(shapes);
        workshop.metas.set(Meta::File, |out| out.extend_from_slice(b"\"a.log\""));
        Ok(Bench { workshop, verbs, parser: Parser::new(), made, steps })
    }

    /// The same with the files that the verbs look things up in.
    pub fn loaded(list: &str) -> Result<Bench, String> {
        let bench = Bench::try_new(list)?;
        bench.steps.iter().flat_map(Step::kept).try_for_each(|kept| kept.load(&RealDisk::new()))?;
        Ok(bench)
    }

    /// Looks at these files as often as it takes to see that they have changed and stay so.
    pub fn look_twice(&self) {
        for kept in self.steps.iter().flat_map(Step::kept) {
            (0..2).for_each(|_| kept.look(&RealDisk::new()));
        }
    }

    /// What the verbs make of an event; none if they drop it. A line that is not a JSON object is text.
    pub fn event(&mut self, line: &str) -> Option<String> {
        self.event_at(line, TIME)
    }

    /// The same for an event that happens at another time.
    pub fn event_at(&mut self, line: &str, timestamp: Timestamp) -> Option<String> {
        let mut chunk = Chunk::new(line.len());
        chunk.spare()[..line.len()].copy_from_slice(line.as_bytes());
        chunk.set_length(line.len());
        let span = EventSpan { start: 0, end: line.len() as u32 };
        let mut lines = Lines::default();
        self.parser.parse(chunk.padded(), &[span], &mut self.workshop.shapes.trie, &mut lines);
        let place = Place { timestamp, offset: 0 };
        let mut record = match lines.lines[0].node {
            NodeId::BAD => self.workshop.text(line.as_bytes(), place),
            _ => self.workshop.line(chunk.bytes(), line.as_bytes(), &lines.lines[0], &lines.slots, place),
        };
        match run_all(&mut self.verbs, &mut record) {
            Verdict::Keep => {}
            Verdict::DeadLetter => return Some(format!("dead letter of {}: {}", record.fault().0, record.fault().1)),
            Verdict::Drop | Verdict::Throttle | Verdict::Aggregate => return None,
        }
        let mut out = Vec::new();
        record.encode(&mut out);
        let text = String::from_utf8(out).expect("lines are UTF-8");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(json.is_object());
        Some(text.trim_end().to_owned())
    }

    /// A batch of a source begins at a position.
    pub fn begin(&mut self, source: u128, from: u64) {
        let origin = Origin { source: SourceKey(source), from };
        self.verbs.iter_mut().for_each(|verb| verb.begin(origin));
    }

    /// From where on the verbs hold events of a source.
    pub fn held_from(&self, source: u128) -> Option<u64> {
        self.verbs.iter().filter_map(|verb| verb.held_from(SourceKey(source))).min()
    }

    /// The events that the verbs make of their own at a time, without what the input adds.
    pub fn emitted(&mut self, time: Timestamp, last: bool) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut record = self.workshop.text(b"", Place { timestamp: time, offset: 0 });
            record.edit(self.made);
            match emit_next(&mut self.verbs, Now { time, last }, &mut record) {
                None => return all,
                Some(Verdict::Keep) => {}
                Some(_) => continue,
            }
            let mut out = Vec::new();
            record.encode(&mut out);
            all.push(String::from_utf8(out).expect("lines are UTF-8").trim_end().to_owned());
        }
    }

    /// When they have some to make.
    pub fn due(&self) -> Option<Timestamp> {
        self.verbs.iter().filter_map(|verb| verb.due()).min()
    }

    /// Events that are counted in those.
    pub fn held(&self) -> u64 {
        self.verbs.iter().map(|verb| verb.held()).sum()
    }

    /// Times that a verb could not do its work.
    pub fn failures(&mut self) -> u64 {
        self.verbs.iter_mut().map(|verb| verb.take_failures()).sum()
    }
}

/// What a list of verbs makes of an event that has no other fields; `dropped` if it drops it.
pub fn one(list: &str, line: &str) -> String {
    let mut bench = Bench::try_new(list).unwrap_or_else(|mistake| panic!("{list}: {mistake}"));
    let first = bench.event(line);
    assert_eq!(bench.event(line), first, "an event of a known shape comes out as one of a new shape did");
    first.map_or_else(|| "dropped".to_owned(), |text| text.replacen(r#"{"file":"a.log","#, "{", 1))
}

/// What is wrong with a list of verbs.
pub fn mistake(list: &str) -> String {
    Bench::try_new(list).err().unwrap_or_else(|| panic!("{list} has no mistake"))
}

#[test]
fn verbs_that_name_no_field_are_refused() {
    for (entry, effect) in [
        ("keep: []", "no field is named, so every field would be removed"),
        ("remove: []", "nothing would be removed"),
        ("rename: {}", "nothing would be renamed"),
        ("copy: {}", "nothing would be copied"),
        ("add: {}", "nothing would be added"),
        ("convert: {}", "nothing would be converted"),
        ("lowercase: []", "nothing would be changed"),
        ("uppercase: []", "nothing would be changed"),
    ] {
        assert!(mistake(&format!("- {entry}")).contains(effect), "{entry}: {}", mistake(&format!("- {entry}")));
    }
}

#[test]
fn texts_inside_of_added_lists_and_maps_stay_as_they_are() {
    let list = "- add: {l: [\"{{ a }}\"], m: {k: \"{{ a }}\"}, n.k: \"{{ a }}\"}";
    assert_eq!(one(list, r#"{"a":1}"#), r#"{"a":1,"l":["{{ a }}"],"m":{"k":"{{ a }}"},"n":{"k":"1"}}"#);
}

/// JSON objects with fields whose names match the pattern `names`, also nested.
pub fn events(names: &'static str) -> impl Strategy<Value = Json> {
    let leaf =
        prop_oneof![Just(Json::Null), any::<i64>().prop_map(Json::from), "[ab\"\\\\.]{0,3}".prop_map(Json::from)];
    let value = leaf.prop_recursive(4, 32, 4, move |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from);
        prop_oneof![1 => list, 3 => object(names, inner)]
    });
    object(names, value)
}

fn object(names: &'static str, value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    proptest::collection::btree_map(names, value, 0..4).prop_map(|map| Json::Object(map.into_iter().collect()))
}

#[test]
fn examples_of_all_verbs_are_read() {
    for row in Step::ROWS {
        let entry: String = row.example.lines().map(|line| format!("  {line}\n")).collect();
        let list = format!("-{}", &entry[1..]);
        if let Err(mistake) = Bench::try_new(&list) {
            panic!("{}: {mistake}\n{list}", row.name);
        }
    }
}

#[test]
fn unknown_verbs_and_second_verbs_are_refused() {
    assert_eq!(mistake("- {remov: [a]}"), "unknown value `remov`");
    assert!(mistake("- {remove: [a], keep: [b]}").contains("`keep` is a second transform"));
    assert!(mistake("- remove").contains("a transform with its settings"));
    assert!(mistake("- {}").contains("a transform with its settings"));
}

#[test]
fn remove_takes_fields_at_any_depth() {
    let event = r#"{"a":1,"b":{"c":2,"d":[{"e":3,"f":4}]},"g":5}"#;
    assert_eq!(one("- remove: [a, g]", event), r#"{"b":{"c":2,"d":[{"e":3,"f":4}]}}"#);
    assert_eq!(one("- remove: [b.c, \"b.d[0].f\"]", event), r#"{"a":1,"b":{"d":[{"e":3}]},"g":5}"#);
    assert_eq!(one("- remove: [b.x, x.y, a.b]", event), event, "what is not there is not missed");
}

#[test]
fn keep_leaves_nothing_but_what_it_names() {
    let event = r#"{"a":1,"b":2,"c":3}"#;
    assert_eq!(one("- keep: [c, a, x]", event), r#"{"a":1,"c":3}"#);
    assert!(mistake("- keep: [a, b.c]").contains("`keep` keeps whole fields"));
    assert_eq!(Bench::try_new("- keep: [x]").expect("valid").event(event).as_deref(), Some("{}"));
}

#[test]
fn rename_moves_values_and_loses_none() {
    let event = r#"{"msg":"x","http":{"status":200},"n":1}"#;
    assert_eq!(one("- rename: {msg: message}", event), r#"{"message":"x","http":{"status":200},"n":1}"#);
    assert_eq!(one("- rename: {msg: n}", event), r#"{"n":"x","http":{"status":200}}"#);
    assert_eq!(one("- rename: {http.status: status}", event), r#"{"msg":"x","http":{},"n":1,"status":200}"#);
    assert_eq!(one("- rename: {msg: http.text}", event), r#"{"http":{"status":200,"text":"x"},"n":1}"#);
    assert_eq!(one("- rename: {x: y}", event), event);
    assert_eq!(one("- rename: {msg: n.m}", event), event, "a number is in the way");
}

#[test]
fn add_fills_in_templates() {
    let event = r#"{"svc":"a\"b","n":7,"o":{"k":[1]}}"#;
    let added = |list: &str| one(list, event).replacen(&event[..event.len() - 1], "", 1);
    assert_eq!(added("- add: {x: 1, y: [a, {b: null}], z: true}"), r#","x":1,"y":["a",{"b":null}],"z":true}"#);
    assert_eq!(added("- add: {x: \"{{ svc }}-{{ n }}-{{o.k}}\"}"), r#","x":"a\"b-7-[1]"}"#);
    assert_eq!(
        added("- add: {x: \"{{ hostname }}|{{ %Y-%m-%d %H }}|{{ none }}\"}"),
        r#","x":"web-03|2026-11-23 10|"}"#
    );
    assert_eq!(one("- add: {n: 8, o.l: 9}", event), r#"{"svc":"a\"b","n":8,"o":{"k":[1],"l":9}}"#);
    assert_eq!(one("- add: {p.q.r: 1}", r#"{"a":1}"#), r#"{"a":1,"p":{"q":{"r":1}}}"#);
    assert!(mistake("- add: {x: \"{{ svc\"}").contains("not closed"));
    assert!(mistake("- add: {x: \"{{ %! }}\"}").contains("not a time format"));
}

#[test]
fn copy_leaves_the_source() {
    let event = r#"{"a":{"b":"x"},"c":2}"#;
    assert_eq!(one("- copy: {c: d}", event), r#"{"a":{"b":"x"},"c":2,"d":2}"#);
    assert_eq!(one("- copy: {a.b: c}", event), r#"{"a":{"b":"x"},"c":"x"}"#);
    assert_eq!(one("- copy: {c: a.c, x: y}", event), r#"{"a":{"b":"x","c":2},"c":2}"#);
}

#[test]
fn filter_and_drop_are_each_others_opposite() {
    let event = r#"{"level":"warn","n":5}"#;
    assert_eq!(one("- filter: level in [\"warn\"]", event), event);
    assert_eq!(one("- filter: n > 5", event), "dropped");
    assert_eq!(one("- drop: n > 5", event), event);
    assert_eq!(one("- drop: n == 5", event), "dropped");
    assert!(mistake("- filter: n >").contains("expected"));
}

#[test]
fn conditions_that_fail_do_not_hold_and_are_counted() {
    let mut bench = Bench::try_new("- drop: n > 5\n- {if: n > 7, then: [{add: {big: true}}]}").expect("valid");
    assert!(bench.event(r#"{"m":1}"#).is_some());
    assert_eq!(bench.failures(), 2);
    assert_eq!(bench.failures(), 0);
    assert!(bench.event(r#"{"n":"x"}"#).is_some());
    assert!(bench.event(r#"{"n":6}"#).is_none());
    assert_eq!(bench.failures(), 2);
}

#[test]
fn if_runs_one_side() {
    let list = "- {if: status >= 500, then: [{add: {alert: true}}], else: [{remove: [stack]}, {drop: status == 1}]}";
    assert_eq!(one(list, r#"{"status":500,"stack":1}"#), r#"{"status":500,"stack":1,"alert":true}"#);
    assert_eq!(one(list, r#"{"status":200,"stack":1}"#), r#"{"status":200}"#);
    assert_eq!(one(list, r#"{"status":1,"stack":1}"#), "dropped");
    assert!(mistake("- {if: \"true\"}").contains("`then` is missing"));
    assert!(mistake("- {if: \"true\", then: [{add: {x: \"{{\"}}]}").contains("then.0.add.x"));
}

#[test]
fn verbs_that_are_joined_keep_their_order() {
    let event = r#"{"a":1,"b":2}"#;
    let verbs =
        ["{rename: {a: b}}", "{add: {a: 3}}", "{copy: {a: c}}", "{remove: [a]}", "{rename: {c: a}}", "{keep: [a, b]}"];
    let list = |by: &str| verbs.iter().map(|verb| format!("- {verb}\n{by}")).collect::<String>();
    assert_eq!(one(&list(""), event), r#"{"b":1,"a":3}"#);
    // Something that depends on the event lies between them.
    assert_eq!(one(&list("- {filter: b > 0}\n"), event), r#"{"b":1,"a":3}"#);
}

#[test]
fn text_can_be_edited_like_fields() {
    assert_eq!(one("- rename: {message: text}\n- add: {n: 1}", "not \"json\""), r#"{"text":"not \"json\"","n":1}"#);
    assert_eq!(one("- copy: {message: a.b}", "x"), r#"{"message":"x","a":{"b":"x"}}"#);
    assert_eq!(one("- remove: [message.x]", "x"), r#"{"message":"x"}"#);
    assert_eq!(one("- filter: message.startsWith(\"x\")", "xy"), r#"{"message":"xy"}"#);
}

#[test]
fn what_an_input_knows_is_a_field_like_others() {
    let mut bench = Bench::try_new("- filter: file == \"a.log\"\n- rename: {file: path}").expect("valid");
    assert_eq!(bench.event(r#"{"a":1}"#).as_deref(), Some(r#"{"path":"a.log","a":1}"#));
}

#[test]
fn verbs_give_events_up_with_a_reason() {
    let given_up = |list: &str, event: &str| {
        let mut bench = Bench::try_new(list).unwrap_or_else(|mistake| panic!("{list}: {mistake}"));
        bench.event(event).unwrap_or_else(|| "dropped".to_owned())
    };
    let bad = r#"{"log":"{","n":"x","t":"soon"}"#;
    for (list, told) in [
        (
            "- parse: {field: log, on_error: dead_letter}",
            "parse: log: it ends before its last bracket is closed (at byte 1)",
        ),
        ("- convert: {n: {to: int, on_fail: dead_letter}}", "convert: n cannot be read as an int"),
        ("- timestamp: {field: t, on_fail: dead_letter}", "timestamp: t cannot be read as a time"),
        ("- validate: {required: [a], on_fail: dead_letter}", "validate: a is missing"),
        ("- {if: has(n), then: [{validate: {required: [a], on_fail: dead_letter}}]}", "validate: a is missing"),
    ] {
        assert_eq!(given_up(list, bad), format!("dead letter of {told}"), "{list}");
    }
}

#[test]
fn windows_and_memories_go_by_arrival_whatever_time_events_say() {
    let minute = 60_000_000_000;
    let end = Timestamp(TIME.0 - TIME.0.rem_euclid(minute) + minute);
    for said in ["1677-09-21T00:12:44Z", "2261-12-31T00:00:00Z"] {
        let event = format!(r#"{{"t":"{said}"}}"#);
        let mut bench = Bench::try_new("- timestamp: t\n- aggregate: {every: 60s, fields: {n: count}}").expect("valid");
        assert_eq!(bench.event(&event), None);
        assert_eq!(bench.due(), Some(end), "{said}");
        let mut bench = Bench::try_new("- timestamp: t\n- dedupe: {fields: [t], window: 10s}").expect("valid");
        assert!(bench.event(&event).is_some());
        assert_eq!(bench.event_at(&event, Timestamp(TIME.0 + 9_000_000_000)), None);
        assert!(bench.event_at(&event, Timestamp(TIME.0 + 11_000_000_000)).is_some());
    }
}

#[test]
fn removal_of_what_lies_inside_never_leaves_it_for_want_of_room() {
    // Each copy of the large field takes room of the event's values, until there is none.
    let list: String =
        (0..20).map(|n| format!("- add: {{big.n{n}: 1}}\n")).collect::<String>() + "- remove: [big.secret]\n";
    let event = format!(r#"{{"big":{{"secret":"hush","fill":"{}"}},"a":1}}"#, "x".repeat(1 << 20));
    let mut bench = Bench::try_new(&list).expect("valid");
    assert_eq!(bench.event(&event).as_deref(), Some(r#"{"file":"a.log","a":1}"#));
}

#[test]
fn secrets_do_not_stay_in_names_that_occur_twice() {
    let event = r#"{"x":{"a":"ann@example.com","b":1,"a":"bob"},"y":{"k":{"s":"t@example.com"},"k":5}}"#;
    let lists = [
        "- redact: {fields: [x.a, y.k.s], presets: [email]}",
        "- hash: {fields: [x.a, y.k.s]}",
        "- remove: [x.a, y.k.s]",
        "- add: {x.a: 1}\n- remove: [y.k.s]",
    ];
    for list in lists {
        let done = one(list, event);
        assert!(!done.contains("example.com"), "{list}: {done}");
        assert!(done.contains(r#""b":1"#) && done.contains(r#""k":5"#), "{list}: {done}");
    }
}

#[test]
fn verbs_that_find_something_in_the_way_count_it() {
    let event = r#"{"a":5,"c":1}"#;
    for list in
        ["- add: {a.b: 1}", "- add: {a.b: \"{{ c }}\"}", "- rename: {c: a.z}", "- copy: {c: a.z}", "- unflatten: {}"]
    {
        let event = if list.contains("unflatten") { r#"{"a.b.c":2,"a.b":1}"# } else { event };
        let mut bench = Bench::try_new(list).expect("valid");
        let done = bench.event(event).expect("kept");
        assert_eq!(bench.failures(), 1, "{list}: {done}");
        assert!(done.contains(":1") && (done.contains(":5") || done.contains(":2")), "{list}: {done}");
    }
}

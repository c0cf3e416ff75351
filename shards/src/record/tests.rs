//! Shapes, edits, plans and records compared with a map of values.

use crate::batch::{Chunk, EventSpan};
use crate::env::Timestamp;
use crate::limits::{COMPUTED_BYTES_MAX, PLAN_BYTES_TOTAL_MAX, SHAPES_RENEWAL_EVENTS};
use crate::record::{Place, Record, Value, Workshop};
use crate::scan::json::{Lines, NodeId, Parser};
use crate::shape::{Edit, Field, Meta, Shapes};
use proptest::prelude::*;
use serde_json::{Map, Value as Json};

const PLACE: Place = Place { timestamp: Timestamp(7), offset: 1234 };

/// A workshop in which the host is known, with so much room.
fn workshop(nodes_max: usize, shapes_max: usize) -> Workshop {
    let metas = [(Meta::Host, "host"), (Meta::Offset, "offset")];
    let mut workshop = Workshop::new(Shapes::with_limits(&metas, Some("message"), nodes_max, shapes_max));
    workshop.metas.set(Meta::Host, |out| out.extend_from_slice(b"\"web-03\""));
    workshop
}

/// Works on every line of `text` with `work`, and returns the lines that come out.
fn each(workshop: &mut Workshop, text: &str, mut work: impl FnMut(&mut Record<'_>)) -> Vec<String> {
    let mut chunk = Chunk::new(text.len());
    chunk.spare()[..text.len()].copy_from_slice(text.as_bytes());
    chunk.set_length(text.len());
    let mut events = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        events.push(EventSpan { start, end: start + line.trim_end_matches('\n').len() as u32 });
        start += line.len() as u32;
    }
    let mut lines = Lines::default();
    Parser::new().parse(chunk.padded(), &events, &mut workshop.shapes.trie, &mut lines);
    let mut out = Vec::new();
    for (line, event) in lines.lines.iter().zip(&events) {
        assert_ne!(line.node, NodeId::BAD, "{}", String::from_utf8_lossy(&chunk.bytes()[event.range()]));
        let slots = &lines.slots[line.first_slot as usize..][..line.slots as usize];
        let mut record = workshop.line(chunk.bytes(), &chunk.bytes()[event.range()], line, slots, PLACE);
        work(&mut record);
        record.encode(&mut out);
    }
    String::from_utf8(out).expect("JSON is UTF-8").lines().map(str::to_owned).collect()
}

fn roomy() -> Workshop {
    workshop(4096, 4096)
}

#[test]
fn what_nobody_touches_leaves_byte_for_byte() {
    let mut workshop = Workshop::new(Shapes::new(&[], Some("message")));
    let lines = [
        r#"{"a":18446744073709551617,"b":1e400,"c":-0,"d":"\u00e9\/","e":{"x" : [1, 2]}}"#,
        r#"{"a": 1, "b": "two"}"#,
        "{}",
        r#"{"":null}"#,
    ];
    assert_eq!(each(&mut workshop, &lines.join("\n"), |_| {}), lines);
}

#[test]
fn what_the_input_knows_comes_first_and_gives_way_to_the_events_own() {
    let lines = each(&mut roomy(), "{\"a\":1}\n{\"b\":2,\"host\":\"mine\"}\n", |_| {});
    let expected = [r#"{"host":"web-03","offset":1234,"a":1}"#, r#"{"offset":1234,"b":2,"host":"mine"}"#];
    assert_eq!(lines, expected);
}

#[test]
fn of_a_key_that_occurs_twice_the_last_counts() {
    let mut workshop = Workshop::new(Shapes::new(&[], Some("message")));
    let find = workshop.shapes.register_find(b"a");
    let lines = each(&mut workshop, r#"{"a":1,"b":2,"\u0061":3,"c":4}"#, |record| {
        assert_eq!(record.get(find), Some(Value::Json(b"3")));
    });
    assert_eq!(lines, [r#"{"b":2,"\u0061":3,"c":4}"#]);
}

#[test]
fn text_is_escaped_and_can_be_edited() {
    let mut workshop = roomy();
    let key = workshop.shapes.key(b"parse_error");
    let reason = workshop.shapes.constant(b"\"no object\"");
    let edit = workshop.shapes.register_edit(Edit::Constant(key, reason));
    let message = workshop.shapes.register_find(b"message");
    let mut out = Vec::new();
    let mut record = workshop.text(b"a \"b\"\t\xff", PLACE);
    assert_eq!(record.get(message), Some(Value::Text(b"a \"b\"\t\xff")));
    record.edit(edit);
    record.encode(&mut out);
    let expected =
        "{\"host\":\"web-03\",\"offset\":1234,\"message\":\"a \\\"b\\\"\\t\u{FFFD}\",\"parse_error\":\"no object\"}\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
    assert_eq!((workshop.take_replaced(), workshop.take_replaced()), (1, 0));
}

#[test]
fn large_constants_in_many_shapes_cost_bounded_memory() {
    const CONSTANT_BYTES: usize = 64 * 1024;
    let mut workshop = workshop(4096, 4096);
    let constant = format!("\"{}\"", "c".repeat(CONSTANT_BYTES));
    let edit = Edit::Constant(workshop.shapes.key(b"note"), workshop.shapes.constant(constant.as_bytes()));
    let edit = workshop.shapes.register_edit(edit);
    let shapes = 2 * PLAN_BYTES_TOTAL_MAX / CONSTANT_BYTES;
    // Twice, so that both cached and temporary data are reused.
    for number in (0..shapes).chain(0..shapes) {
        let lines = each(&mut workshop, &format!("{{\"id-{number}\":1}}"), |record| record.edit(edit));
        let expected = format!("{{\"host\":\"web-03\",\"offset\":1234,\"id-{number}\":1,\"note\":{constant}}}");
        assert!(lines == [expected], "{number}");
    }
    let kept = workshop.shapes.plan_bytes_total();
    assert!((PLAN_BYTES_TOTAL_MAX - 2 * CONSTANT_BYTES..=PLAN_BYTES_TOTAL_MAX).contains(&kept), "{kept}");
}

#[test]
fn usual_keys_have_room_again_when_odd_ones_have_filled_it() {
    let mut workshop = workshop(64, 4096);
    let level = workshop.shapes.key(b"level");
    let rename = Edit::Rename { from: level, to: workshop.shapes.key(b"severity") };
    let rename = workshop.shapes.register_edit(rename);
    let find = workshop.shapes.register_find(b"level");
    let usual = "{\"level\":\"info\",\"n\":1}";
    let odd: Vec<String> = (0..100).map(|number| format!("{{\"odd-{number}\":1}}")).collect();
    each(&mut workshop, &odd.join("\n"), |_| {});
    let is_kept = |workshop: &mut Workshop| {
        let before = workshop.shapes.len();
        let lines = each(workshop, &format!("{usual}\n{usual}"), |record| {
            assert_eq!(record.get(find), Some(Value::Json(b"\"info\"")));
            record.edit(rename);
        });
        assert_eq!(lines, ["{\"host\":\"web-03\",\"offset\":1234,\"severity\":\"info\",\"n\":1}"; 2]);
        workshop.shapes.len() > before
    };
    assert!(!is_kept(&mut workshop));
    let names = workshop.shapes.names();
    for _ in 0..SHAPES_RENEWAL_EVENTS / 128 {
        workshop.shapes.renew_if_due();
        each(&mut workshop, &[usual; 128].join("\n"), |_| {});
    }
    workshop.shapes.renew_if_due();
    assert!(workshop.shapes.names() < names, "{names} names");
    assert!(is_kept(&mut workshop));
    // The text of an event that is not parsed has a shape after that as well.
    assert_eq!(workshop.text(b"text", PLACE).get(find), None);
}

#[test]
fn keys_made_of_data_cost_bounded_memory() {
    let mut workshop = workshop(64, 96);
    let keep = workshop.shapes.key(b"level");
    let rename = Edit::Rename { from: keep, to: workshop.shapes.key(b"severity") };
    let rename = workshop.shapes.register_edit(rename);
    for number in 0..10_000 {
        let text = format!("{{\"id-{number}\":{number},\"level\":\"info\"}}");
        let lines = each(&mut workshop, &text, |record| record.edit(rename));
        let expected =
            format!("{{\"host\":\"web-03\",\"offset\":1234,\"id-{number}\":{number},\"severity\":\"info\"}}");
        assert_eq!(lines, [expected]);
    }
    assert!(workshop.shapes.len() <= 96 && workshop.shapes.trie.len() <= 64);
}

#[test]
fn an_object_of_ten_thousand_fields_is_edited_like_any_other() {
    let mut workshop = roomy();
    let remove = Edit::Remove(workshop.shapes.key(b"f5000"));
    let remove = workshop.shapes.register_edit(remove);
    let fields: Vec<String> = (0..10_000).map(|number| format!("\"f{number}\":{number}")).collect();
    let text = format!("{{{}}}", fields.join(","));
    for _ in 0..2 {
        let lines = each(&mut workshop, &text, |record| record.edit(remove));
        let object: Map<String, Json> = serde_json::from_str(&lines[0]).expect("an object");
        assert_eq!(object.len(), 10_001);
        assert!(!object.contains_key("f5000"));
    }
}

/// An edit of the model. Numbers select names.
#[derive(Clone, Debug)]
enum Step {
    Remove(u8),
    Keep(Vec<u8>),
    Rename(u8, u8),
    Copy(u8, u8),
    Constant(u8, i32),
    Computed(u8, i32),
}

fn name(number: u8) -> String {
    match number {
        0 => "host".to_owned(),
        1 => "quote\"d".to_owned(),
        number => format!("k{number}"),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..8u8).prop_map(Step::Remove),
        proptest::collection::vec(0..8u8, 0..6).prop_map(Step::Keep),
        (0..8u8, 0..8u8).prop_map(|(from, to)| Step::Rename(from, to)),
        (0..8u8, 0..8u8).prop_map(|(from, to)| Step::Copy(from, to)),
        (0..8u8, any::<i32>()).prop_map(|(key, value)| Step::Constant(key, value)),
        (0..8u8, any::<i32>()).prop_map(|(key, value)| Step::Computed(key, value)),
    ];
    proptest::collection::vec(step, 0..8)
}

fn model(object: &mut Map<String, Json>, step: &Step) {
    match step {
        Step::Remove(key) => drop(object.remove(&name(*key))),
        Step::Keep(keys) => object.retain(|key, _| keys.iter().any(|kept| name(*kept) == *key)),
        Step::Rename(from, to) => {
            if let Some(value) = object.remove(&name(*from)) {
                object.insert(name(*to), value);
            }
        }
        Step::Copy(from, to) => {
            if let Some(value) = object.get(&name(*from)).cloned() {
                object.insert(name(*to), value);
            }
        }
        Step::Constant(key, value) | Step::Computed(key, value) => {
            object.insert(name(*key), Json::from(*value));
        }
    }
}

fn apply(record: &mut Record<'_>, step: &Step) {
    let shapes = record.shapes();
    let mut key = |number: &u8| shapes.key(name(*number).as_bytes());
    let edit = match step {
        Step::Remove(field) => Edit::Remove(key(field)),
        Step::Keep(fields) => Edit::Keep(fields.iter().map(key).collect()),
        Step::Rename(from, to) => Edit::Rename { from: key(from), to: key(to) },
        Step::Copy(from, to) => Edit::Copy { from: key(from), to: key(to) },
        Step::Constant(field, value) => {
            let field = key(field);
            Edit::Constant(field, shapes.constant(value.to_string().as_bytes()))
        }
        Step::Computed(field, _) => Edit::Computed(key(field)),
    };
    let edit = record.shapes().register_edit(edit);
    match step {
        Step::Computed(_, value) => {
            assert!(record.set(edit, |out| out.extend_from_slice(value.to_string().as_bytes())));
        }
        _ => record.edit(edit),
    }
}

fn objects() -> impl Strategy<Value = Vec<Vec<(u8, Json)>>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Json::from),
        Just(Json::Null),
        "[ -~\"\\\\ü\n]{0,12}".prop_map(Json::from),
        proptest::collection::vec(any::<bool>().prop_map(Json::from), 0..3).prop_map(Json::from),
    ];
    proptest::collection::vec(proptest::collection::vec((0..8u8, leaf), 0..8), 1..6)
}

proptest! {
    #[test]
    fn edits_do_to_lines_what_they_do_to_maps(
        objects in objects(),
        steps in steps(),
        roomy in any::<bool>(),
        spaced in any::<bool>(),
    ) {
        let mut workshop = if roomy { workshop(4096, 4096) } else { workshop(4, 3) };
        let finds: Vec<_> = (0..8).map(|number| workshop.shapes.register_find(name(number).as_bytes())).collect();
        let (comma, colon) = if spaced { (" , ", " : ") } else { (",", ":") };
        let member = |(key, value): &(u8, Json)| format!("{}{colon}{value}", Json::from(name(*key)));
        let line = |object: &Vec<(u8, Json)>| {
            format!("{{{}}}", object.iter().map(member).collect::<Vec<_>>().join(comma))
        };
        let text: Vec<String> = objects.iter().map(line).collect();
        let wanted = objects.iter().map(|object| {
            let known = [("host".to_owned(), Json::from("web-03")), ("offset".to_owned(), Json::from(1234))];
            let mut map: Map<String, Json> = known.into_iter().collect();
            map.extend(object.iter().map(|(key, value)| (name(*key), value.clone())));
            steps.iter().for_each(|step| model(&mut map, step));
            map
        });
        let wanted: Vec<Map<String, Json>> = wanted.collect();
        for _ in 0..2 {
            let mut wanted_now = wanted.iter();
            let lines = each(&mut workshop, &text.join("\n"), |record| {
                steps.iter().for_each(|step| apply(record, step));
                let wanted = wanted_now.next().expect("one for each line");
                for (number, find) in finds.iter().enumerate() {
                    let value = record.get(*find).map(|value| match value {
                        Value::Json(json) => serde_json::from_slice::<Json>(json).expect("JSON"),
                        Value::Text(_) => panic!("a parsed event has no text"),
                    });
                    assert_eq!(value.as_ref(), wanted.get(&name(number as u8)));
                }
            });
            prop_assert_eq!(lines.len(), wanted.len());
            for (line, wanted) in lines.iter().zip(&wanted) {
                let came: Map<String, Json> = serde_json::from_str(line).expect("an object");
                prop_assert_eq!(&came, wanted, "{}", line);
                prop_assert_eq!(line.matches("\"offset\":").count(), usize::from(came.contains_key("offset")));
            }
        }
    }
}

#[test]
fn other_fields_altogether_are_one_shape() {
    for (nodes_max, shapes_max) in [(4096, 4096), (1, 1)] {
        let mut workshop = workshop(nodes_max, shapes_max);
        for count in [3, 32, 33, 3000] {
            let before = workshop.shapes.len();
            let lines = each(&mut workshop, "{\"a\":1,\"b\":2,\"c\":3}\n{\"a\":4,\"b\":5,\"c\":6}\n", |record| {
                let kept: Vec<Field> = record.fields().iter().copied().skip(3).collect();
                let mut recast = record.recast();
                kept.iter().for_each(|field| recast.keep(*field));
                for number in (0..count).chain([1]) {
                    let key = recast.key(format!("n{number}").as_bytes());
                    recast.put(key, |out| out.extend_from_slice(number.to_string().as_bytes()));
                }
                let key = recast.key(b"c");
                recast.put(key, |out| out.extend_from_slice(b"true"));
                assert!(recast.finish());
            });
            let made: String = (0..count).map(|number| format!(",\"n{number}\":{number}")).collect();
            assert_eq!(lines, [format!("{{\"b\":2,\"c\":true{made}}}"), format!("{{\"b\":5,\"c\":true{made}}}")]);
            assert!(workshop.shapes.len() <= before + 2, "shapes on the way are not kept");
        }
    }
}

#[test]
fn an_event_that_would_grow_too_large_keeps_its_fields() {
    let mut workshop = roomy();
    let set = Edit::Computed(workshop.shapes.key(b"b"));
    let set = workshop.shapes.register_edit(set);
    let lines = each(&mut workshop, "{\"a\":1}\n", |record| {
        let mut recast = record.recast();
        for number in 0..5 {
            let key = recast.key(format!("n{number}").as_bytes());
            recast.put(key, |out| out.resize(out.len() + COMPUTED_BYTES_MAX / 4, b'7'));
        }
        assert!(!recast.finish());
        assert!(record.set(set, |out| out.push(b'2')), "there is room again");
    });
    assert_eq!(lines, [r#"{"host":"web-03","offset":1234,"a":1,"b":2}"#]);
}

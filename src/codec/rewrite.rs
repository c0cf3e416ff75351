//! Removes or replaces one value in a JSON text and keeps everything else byte for byte.
//!
//! Guarantees: never panics, whatever the bytes are. If a name occurs twice in an object, the last field counts; on the path, the
//! other fields of that name are removed. Does not validate JSON.

use super::json::{Elements, Fields, body_is};
use super::path::Segment;
use tailwater_shards::scan::escape_json_into;

/// Appends `json` without the value at `path`. If there is no such value, returns false and appends nothing.
pub fn remove(json: &[u8], path: &[Segment], out: &mut Vec<u8>) -> bool {
    let Some((step, rest)) = path.split_first() else { return false };
    let start = out.len();
    let mut found = false;
    match step {
        Segment::Field(name) => {
            let Some(fields) = Fields::of(json) else { return false };
            let last = if rest.is_empty() { None } else { last_of(json, name) };
            out.push(b'{');
            for (number, (body, value)) in fields.enumerate() {
                let is_it = body_is(body, name.as_bytes());
                if is_it && rest.is_empty() {
                    found = true;
                    continue;
                }
                if is_it && last != Some(number) {
                    found = true;
                    continue;
                }
                push_name(body, out.len() > start + 1, out);
                if is_it && remove(value, rest, out) {
                    found = true;
                } else {
                    out.extend_from_slice(value);
                }
            }
            out.push(b'}');
        }
        Segment::Index(index) => {
            let Some(elements) = Elements::of(json) else { return false };
            out.push(b'[');
            for (number, value) in elements.enumerate() {
                if number == *index && rest.is_empty() {
                    found = true;
                    continue;
                }
                if out.len() > start + 1 {
                    out.push(b',');
                }
                if number == *index && remove(value, rest, out) {
                    found = true;
                } else {
                    out.extend_from_slice(value);
                }
            }
            out.push(b']');
        }
    }
    if !found {
        out.truncate(start);
    }
    found
}

/// Appends `json` with `value` at `path`. Missing objects on the path are created. In an array, the value replaces an existing
/// element or is added right after the last one. If another value is in the way, returns false and appends nothing.
pub fn put(json: &[u8], path: &[Segment], value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((step, rest)) = path.split_first() else {
        out.extend_from_slice(value);
        return true;
    };
    let start = out.len();
    let done = match step {
        Segment::Field(name) => put_field(json, name, rest, value, out),
        Segment::Index(index) => put_element(json, *index, rest, value, out),
    };
    if !done {
        out.truncate(start);
    }
    done
}

fn put_field(json: &[u8], name: &str, rest: &[Segment], value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(fields) = Fields::of(json) else { return false };
    let start = out.len();
    let last = last_of(json, name);
    out.push(b'{');
    for (number, (body, old)) in fields.enumerate() {
        let is_last = last == Some(number);
        if !is_last && last.is_some() && body_is(body, name.as_bytes()) {
            continue;
        }
        push_name(body, out.len() > start + 1, out);
        if !is_last {
            out.extend_from_slice(old);
        } else if !put(old, rest, value, out) {
            return false;
        }
    }
    if last.is_none() {
        if out.len() > start + 1 {
            out.push(b',');
        }
        out.push(b'"');
        escape_json_into(name.as_bytes(), out);
        out.extend_from_slice(b"\":");
        if !put(b"{}", rest, value, out) {
            return false;
        }
    }
    out.push(b'}');
    true
}

fn put_element(json: &[u8], index: usize, rest: &[Segment], value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(elements) = Elements::of(json) else { return false };
    let mut count = 0;
    let mut done = false;
    out.push(b'[');
    for (number, old) in elements.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        if number != index {
            out.extend_from_slice(old);
        } else if put(old, rest, value, out) {
            done = true;
        } else {
            return false;
        }
        count = number + 1;
    }
    if !done && count == index {
        if count > 0 {
            out.push(b',');
        }
        done = put(b"{}", rest, value, out);
    }
    out.push(b']');
    done
}

/// Whether a name on the path occurs twice in its object: the path does not find the earlier value, but it is sent all the same.
pub fn has_twins(json: &[u8], path: &[Segment]) -> bool {
    let mut json = json;
    for step in path {
        let found = match step {
            Segment::Index(index) => Elements::of(json).and_then(|mut elements| elements.nth(*index)),
            Segment::Field(name) => {
                let Some(fields) = Fields::of(json) else { return false };
                let mut same = fields.filter(|(body, _)| body_is(body, name.as_bytes())).map(|(_, value)| value);
                let first = same.next();
                if same.next().is_some() {
                    return true;
                }
                first
            }
        };
        match found {
            Some(value) => json = value,
            None => return false,
        }
    }
    false
}

/// The index of the last field called `name`.
fn last_of(json: &[u8], name: &str) -> Option<usize> {
    let fields = Fields::of(json)?.enumerate();
    fields.filter(|(_, (body, _))| body_is(body, name.as_bytes())).last().map(|(number, _)| number)
}

fn push_name(body: &[u8], comma: bool, out: &mut Vec<u8>) {
    if comma {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(body);
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::path::Path;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn text(json: &str, path: &str, change: impl Fn(&[u8], &[Segment], &mut Vec<u8>) -> bool) -> Option<String> {
        let path: Path = format!("root.{path}").parse().expect("a path");
        let mut out = b"before".to_vec();
        let done = change(json.as_bytes(), path.rest(), &mut out);
        let text = String::from_utf8(out).expect("UTF-8").strip_prefix("before").expect("appended").to_owned();
        assert!(done || text.is_empty());
        done.then_some(text)
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        let json = r#"{"a": 1e400, "b" : {"c":[1,{"d":"\u00e9"},3]}, "a":2}"#;
        let removed = |path| text(json, path, remove);
        assert_eq!(removed("a").as_deref(), Some(r#"{"b":{"c":[1,{"d":"\u00e9"},3]}}"#));
        assert_eq!(removed("b.c[1]").as_deref(), Some(r#"{"a":1e400,"b":{"c":[1,3]},"a":2}"#));
        assert_eq!(removed("b.c[1].d").as_deref(), Some(r#"{"a":1e400,"b":{"c":[1,{},3]},"a":2}"#));
        // If a name occurs twice, the last one counts, and only that one is kept on the path.
        assert_eq!(removed("a.b").as_deref(), Some(r#"{"b":{"c":[1,{"d":"\u00e9"},3]},"a":2}"#));
        for missing in ["x", "b.b", "b.c[3]", "b.c.d", "b[0]"] {
            assert_eq!(removed(missing), None, "{missing}");
        }
    }

    #[test]
    fn what_is_missing_on_the_way_is_made() {
        let set = |json, path| text(json, path, |json, path, out| put(json, path, b"7", out));
        assert_eq!(set("{}", "a.b.c").as_deref(), Some(r#"{"a":{"b":{"c":7}}}"#));
        assert_eq!(set(r#"{"a":{"x":1}}"#, "a.b").as_deref(), Some(r#"{"a":{"x":1,"b":7}}"#));
        assert_eq!(set(r#"{"a":1,"a":2}"#, "a").as_deref(), Some(r#"{"a":7}"#));
        assert_eq!(set(r#"{"a":[1,2]}"#, "a[2]").as_deref(), Some(r#"{"a":[1,2,7]}"#));
        assert_eq!(set(r#"{"a":[]}"#, "a[0].b").as_deref(), Some(r#"{"a":[{"b":7}]}"#));
        for blocked in
            [("{\"a\":1}", "a.b"), ("{\"a\":[1]}", "a.b"), ("{\"a\":[1]}", "a[2]"), ("{}", "a[0]"), ("3", "a")]
        {
            assert_eq!(set(blocked.0, blocked.1), None, "{blocked:?}");
        }
    }

    fn model_remove(value: &mut Value, path: &[Segment]) -> bool {
        let [parents @ .., last] = path else { return false };
        let parent = parents.iter().try_fold(value, |value, step| match step {
            Segment::Field(name) => value.as_object_mut()?.get_mut(name),
            Segment::Index(index) => value.as_array_mut()?.get_mut(*index),
        });
        match (parent, last) {
            (Some(Value::Object(object)), Segment::Field(name)) => object.remove(name).is_some(),
            (Some(Value::Array(array)), Segment::Index(index)) if *index < array.len() => {
                array.remove(*index);
                true
            }
            _ => false,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\{},]{0,4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ab\"]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn path() -> impl Strategy<Value = Vec<Segment>> {
        let step = prop_oneof!["[ab\"]".prop_map(Segment::Field), (0..4usize).prop_map(Segment::Index)];
        proptest::collection::vec(step, 1..4)
    }

    proptest! {
        #[test]
        fn removal_agrees_with_the_model(before in value(), path in path(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_vec_pretty(&before) } else { serde_json::to_vec(&before) }.expect("JSON");
            let mut after = before.clone();
            let mut out = Vec::new();
            prop_assert_eq!(remove(&json, &path, &mut out), model_remove(&mut after, &path));
            if !out.is_empty() {
                prop_assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), after);
            }
        }

        #[test]
        fn what_was_put_is_found(before in value(), path in path()) {
            let json = serde_json::to_vec(&before).expect("JSON");
            let mut out = Vec::new();
            if put(&json, &path, b"{\"put\":1}", &mut out) {
                let after: Value = serde_json::from_slice(&out).expect("JSON");
                prop_assert_eq!(super::super::path::find_path(&out, &path), Some(&b"{\"put\":1}"[..]));
                let (mut without, mut was) = (after, before);
                model_remove(&mut without, &path);
                // Apart from objects that were created on the path, nothing else changed: checked if none was created.
                if model_remove(&mut was, &path) {
                    prop_assert_eq!(without, was);
                }
            }
        }

        #[test]
        fn any_bytes_are_safe(json in "[{}\\[\\]\",:\\\\a1 ]{0,40}", path in path()) {
            let _ = remove(json.as_bytes(), &path, &mut Vec::new());
            let _ = put(json.as_bytes(), &path, b"1", &mut Vec::new());
        }
    }
}

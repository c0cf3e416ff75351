//! What bounds the work of one evaluation: the steps inside walks, and an index of the maps in which a walk looks for keys.
//!
//! ```text
//! steps of a walk    a part of the expression, for an element        1
//!                    a string that is read                           1 for 16 bytes
//!                    a list or map that is read, or a map searched   1 for 4 bytes
//!                    a string that a pattern searches                1 for each byte, in addition
//! ```
//!
//! Guarantees: all walks of an evaluation together take at most [`STEPS_BASE`] steps, plus [`STEPS_PER_BYTE`] for each byte of the
//! range of a walk that is inside no other. Beyond that, the evaluation fails, whatever the rest of the expression is. Outside of
//! walks nothing is counted: each part of the expression reads the event once.

use super::PathIndex;
use super::error::EvalError;
use super::eval::FieldValue;
use super::json::distinct;
use super::value::{List, Map, Text, Value};
use crate::codec::json::find_last_field;

/// The steps that the walks of an evaluation may take, whatever their ranges are: two nested walks over some 500 elements each.
pub const STEPS_BASE: u64 = 1 << 20;

/// The further steps for each byte of a range. Two bytes are the shortest element, so each has at least eight steps.
pub const STEPS_PER_BYTE: u64 = 4;

/// The bytes that an element of a computed list counts as.
const ELEMENT_BYTES: usize = 4;

/// Bytes of a map in which a key is searched without an index.
const SCANNED_BYTES_MAX: usize = 512;

/// The maps with an index at a time.
const MAPS_MAX: usize = 4;

/// The fields below the top level that are found only once. Further ones are searched, and counted, for each element.
const FIELDS_MAX: usize = 4;

/// The steps of one search in an index, for the largest map.
const SEARCH_STEPS: u64 = 16;

/// The bytes for one step.
const STRING_BYTES: u64 = 16;
const TREE_BYTES: u64 = 4;

/// What one evaluation has done and may still do.
pub(super) struct Work<'a> {
    left: u64,
    spent: bool,
    maps: Vec<Known<'a>>,
    fields: [Option<Found<'a>>; FIELDS_MAX],
    #[cfg(test)]
    done: u64,
}

/// A field, and its value if the event has it.
type Found<'a> = (PathIndex, Option<FieldValue<'a>>);

/// A map of the event that was searched before.
struct Known<'a> {
    json: &'a [u8],
    /// Sorted, from the second search on.
    fields: Option<Vec<(Text<'a>, &'a [u8])>>,
}

impl<'a> Work<'a> {
    pub fn new() -> Work<'a> {
        Work {
            left: STEPS_BASE,
            spent: false,
            maps: Vec::new(),
            fields: [None; FIELDS_MAX],
            #[cfg(test)]
            done: 0,
        }
    }

    /// Begins a walk that is inside no other.
    pub fn begin(&mut self, range: &Value<'_>) -> Result<(), EvalError> {
        if self.spent {
            return Err(EvalError::TooMuchWork);
        }
        let bytes = match range {
            Value::List(List::Json(json)) | Value::Map(Map::Json(json)) => json.len(),
            // Of a computed one the elements count, not what is in them: walks over what walks made must not grow.
            Value::List(list) => ELEMENT_BYTES * list.len(),
            Value::Map(map) => ELEMENT_BYTES * map.len(),
            _ => 0,
        };
        self.left = self.left.saturating_add(STEPS_PER_BYTE.saturating_mul(bytes as u64));
        Ok(())
    }

    #[inline]
    pub fn take(&mut self, steps: u64) -> Result<(), EvalError> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                #[cfg(test)]
                {
                    self.done += steps;
                }
                Ok(())
            }
            None => {
                (self.left, self.spent) = (0, true);
                Err(EvalError::TooMuchWork)
            }
        }
    }

    /// The result of the whole expression.
    pub fn end<T>(&self, told: Result<T, EvalError>) -> Result<T, EvalError> {
        if self.spent { Err(EvalError::TooMuchWork) } else { told }
    }

    /// A field, searched in this many bytes if it was not found before.
    pub fn field(
        &mut self,
        path: PathIndex,
        bytes: usize,
        search: impl FnOnce() -> Option<FieldValue<'a>>,
    ) -> Result<Option<FieldValue<'a>>, EvalError> {
        let free = self.fields.iter().position(|known| known.is_none_or(|(known, _)| known == path));
        if let Some((_, found)) = free.and_then(|at| self.fields[at]) {
            return Ok(found);
        }
        self.take(bytes as u64 / TREE_BYTES)?;
        let found = search();
        if let Some(at) = free {
            self.fields[at] = Some((path, found));
        }
        Ok(found)
    }

    /// The value of a key of an object of the event.
    pub fn find(&mut self, json: &'a [u8], key: &Text<'_>) -> Result<Option<&'a [u8]>, EvalError> {
        let known = self.maps.iter().position(|known| std::ptr::eq(known.json, json));
        let Some(at) = known.filter(|_| json.len() > SCANNED_BYTES_MAX) else {
            self.take(bytes_of(json.len(), TREE_BYTES))?;
            if json.len() > SCANNED_BYTES_MAX && self.maps.len() < MAPS_MAX {
                self.maps.push(Known { json, fields: None });
            }
            return Ok(find_last_field(json, &key.decoded()));
        };
        self.take(SEARCH_STEPS)?;
        if self.maps[at].fields.is_none() {
            self.take(json.len() as u64)?;
            self.maps[at].fields = Some(distinct(json));
        }
        let fields = self.maps[at].fields.as_deref().unwrap_or_default();
        let found = fields.binary_search_by(|(name, _)| name.compare(key));
        Ok(found.ok().map(|at| fields[at].1))
    }
}

/// The steps of reading a value once.
pub(super) fn steps_of(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => bytes_of(text.bytes(), STRING_BYTES),
        Value::List(List::Json(json)) | Value::Map(Map::Json(json)) => bytes_of(json.len(), TREE_BYTES),
        Value::List(List::Built(values)) => 1 + values.iter().map(steps_of).sum::<u64>(),
        Value::List(List::Shared(values)) => 1 + values.iter().map(steps_of).sum::<u64>(),
        Value::Map(Map::Built(entries)) => steps_of_entries(entries),
        Value::Map(Map::Shared(entries)) => steps_of_entries(entries),
        _ => 1,
    }
}

fn steps_of_entries(entries: &[(Value<'_>, Value<'_>)]) -> u64 {
    1 + entries.iter().map(|(key, value)| steps_of(key) + steps_of(value)).sum::<u64>()
}

/// The steps of reading the JSON of a value that is no list or map: a number can be long.
pub(super) fn steps_of_json(json: &[u8]) -> u64 {
    match json {
        [b'{' | b'[' | b'"', ..] => 0,
        _ => json.len() as u64 / STRING_BYTES,
    }
}

fn bytes_of(bytes: usize, step: u64) -> u64 {
    1 + bytes as u64 / step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::eval::Machine;
    use crate::expr::{Fields, Program};

    /// An event with the fields of [`event`].
    struct Event {
        paths: Vec<String>,
        values: Vec<(&'static str, String)>,
    }

    impl Fields for Event {
        fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
            let path = &self.paths[path.index()];
            let (_, json) = self.values.iter().find(|(name, _)| path.split('.').next() == Some(name))?;
            match path.split_once('.') {
                Some((_, rest)) => find_last_field(json.as_bytes(), rest.as_bytes()).map(FieldValue::Json),
                None => Some(FieldValue::Json(json.as_bytes())),
            }
        }

        fn searched_bytes(&self, path: PathIndex) -> usize {
            let path = &self.paths[path.index()];
            let below = path.split_once('.').map(|(name, _)| name);
            self.values.iter().find(|(name, _)| Some(*name) == below).map_or(0, |(_, json)| json.len())
        }
    }

    /// Lists and maps with this many elements, and a string with as many characters.
    fn event(program: &Program, count: usize) -> Event {
        let listed = |one: fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
        let values = vec![
            ("m", format!("{{{}}}", listed(|number| format!("\"k{number}\":\"\"")))),
            ("n", format!("{{{}}}", listed(|number| format!("\"k\\u0030{number}\":\"\"")))),
            ("shifted", format!("{{{}}}", listed(|number| format!("\"k{}\":\"\"", number + 1)))),
            ("items", format!("[{}]", listed(|number| number.to_string()))),
            ("text", format!("\"{}\"", "x".repeat(count))),
            ("digits", "9".repeat(count)),
        ];
        Event { paths: program.paths().iter().map(ToString::to_string).collect(), values }
    }

    /// The result and the steps for an event with this many elements.
    fn run(source: &str, count: usize) -> (Result<bool, EvalError>, u64) {
        let program = Program::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        let event = event(&program, count);
        let mut scratch = program.scratch();
        let mut machine = Machine::new(&program.patterns, &event, &mut scratch);
        let told = machine.test(&program.root, None);
        (machine.work.end(told), machine.work.done)
    }

    #[test]
    fn keys_of_a_large_map_are_found_without_searching_it_again() {
        for source in [
            "m.all(k, m[k] == \"\")",
            "m.all(k, k in m && m[k] == \"\")",
            "n.all(k, n[k] == \"\" && !has(m.absent) && m.k7 == \"\")",
            "m.all(k, m[k] == \"\") && n.all(k, n[k] == \"\")",
            "m.all(k, k in m || k in n)",
        ] {
            let ((told, few), (also, many)) = (run(source, 5_000), run(source, 10_000));
            assert_eq!((told, also), (Ok(true), Ok(true)), "{source}");
            assert!(many < 3 * few, "{source}: {few} steps, then {many}");
        }
    }

    #[test]
    fn work_that_grows_faster_than_the_event_ends_in_an_error() {
        const COUNT: usize = 10_000;
        for source in [
            "items.exists(i, (i + 1 - 1 - 100000) in items)",
            "items.exists(i, items.exists(j, i + j < 0))",
            "items.all(i, items[i] == i)",
            "items.all(i, text.contains(\"y\") || i >= 0)",
            "items.all(i, !text.matches(\"y\"))",
            "items.all(i, size(text) > 1)",
            "items.all(i, text + \"a\" != \"\")",
            "items.all(i, digits > i)",
            "items.all(i, size(m) > 1)",
            "items.all(i, m == m)",
            "items.all(i, items + items != [])",
            "items.all(i, !has(m.a) && !has(m.b) && !has(m.c) && !has(m.d) && !has(m.e))",
            "items.all(i, items.map(j, j) != [])",
            "items.map(i, text + \"a\").all(t, t != \"\")",
            "items.map(i, items).all(l, l != [])",
            "[items.map(i, [i, i])].all(w, items.all(k, size(w) > 0))",
            "size(items.filter(i, items.exists_one(j, j == i))) == 0",
        ] {
            let (told, steps) = run(source, COUNT);
            assert_eq!(told, Err(EvalError::TooMuchWork), "{source}: {steps}");
            let granted = STEPS_BASE + STEPS_PER_BYTE * 6 * COUNT as u64;
            assert!(steps <= granted, "{source}: {steps} of {granted}");
        }
        // A failure of this kind outweighs what is decisive.
        let endless = "items.exists(i, items.exists(j, i + j < 0))";
        for source in [format!("{endless} || true"), format!("!({endless}) && false")] {
            assert_eq!(run(&source, COUNT).0, Err(EvalError::TooMuchWork), "{source}");
        }
    }

    #[test]
    fn work_that_grows_with_the_event_has_no_limit() {
        for source in [
            "items.all(i, i >= 0 && i < 1000000000)",
            "items.filter(i, i % 2 == 0).all(i, i % 2 == 0)",
            "size(items.map(i, [i, i + 1])) > 0",
            "m.all(k, k.startsWith(\"k\") && k != \"\")",
            "size(text) > 0 && text.matches(\"x$\") && !text.contains(\"y\") && m == m && items == items",
        ] {
            assert_eq!(run(source, 200_000).0, Ok(true), "{source}");
        }
        // Nearly all keys are in both, at another place.
        assert_eq!(run("m != shifted && m.size() == shifted.size()", 200_000).0, Ok(true));
        // Two nested walks over lists as people have them.
        assert_eq!(run("items.all(i, items.exists(j, i == j))", 400).0, Ok(true));
    }

    /// Otherwise a long expression takes as many times the steps.
    #[test]
    fn walks_of_an_expression_share_their_steps() {
        const COUNT: usize = 400;
        let nested = "items.all(i, items.exists(j, i == j))";
        let (one, few) = run(nested, COUNT);
        assert_eq!(one, Ok(true));
        let fitting = (STEPS_BASE / few) as usize;
        let source = |times: usize| vec![nested; times].join(" && ");
        assert_eq!(run(&source(fitting), COUNT), (Ok(true), few * fitting as u64));
        assert_eq!(run(&source(fitting + 2), COUNT).0, Err(EvalError::TooMuchWork));
        // What grows with the event fits as often as it is written.
        let linear = vec!["items.all(i, i >= 0)"; 200].join(" && ");
        assert_eq!(run(&linear, 10_000).0, Ok(true));
    }

    /// Each part of it is evaluated again for that.
    #[test]
    fn error_of_an_expression_with_large_walks_is_explained() {
        let program = Program::compile("items.all(i, items.exists(j, i == j)) && absent > 1").expect("valid");
        let event = event(&program, 500);
        let told = program.test(&event, &mut program.scratch());
        let error = told.expect_err("a field is missing");
        let explained = program.explain_on(error, &event);
        assert!(explained.contains("absent"), "{explained}");
    }

    /// Whoever writes the event chooses that, and there is a dead letter for each.
    #[test]
    fn expression_that_takes_too_much_work_is_not_evaluated_again() {
        let source = vec!["items.all(i, items.exists(j, i == j))"; 100].join(" && ");
        let program = Program::compile(&source).expect("valid");
        let event = event(&program, 500);
        let error = program.test(&event, &mut program.scratch()).expect_err("there are too many");
        assert_eq!(error, EvalError::TooMuchWork);
        assert_eq!(program.explain_on(error, &event), program.explain(error), "no part of it is described");
    }
}

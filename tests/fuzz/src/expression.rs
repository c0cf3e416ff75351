//! Target `expression`: bytes as a condition, and after the first zero byte as the JSON of an event.
//!
//! Promises: a rejected source has a reason and a position inside the source, at character boundaries. An accepted one reads
//! any event, however broken, without a panic, gives the same result twice, and gives the same result as a condition and as a
//! value. Each path is listed once and can be parsed from its displayed form.

use crate::Verdict;
use tailwater::codec::path::{Path, find_path};
use tailwater::expr::{EvalError, FieldValue, Fields, PathIndex, Program, Value};

struct Event<'a> {
    json: &'a [u8],
    paths: &'a [Path],
}

impl Fields for Event<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        let path = &self.paths[path.index()];
        match path.first() {
            // Strings have no quotes, and may be any bytes.
            "text" => Some(FieldValue::Text(self.json)),
            _ => find_path(self.json, path.segments()).map(FieldValue::Json),
        }
    }
}

/// The value as text, or the error.
fn outcome(program: &Program, event: &Event<'_>) -> Result<Vec<u8>, EvalError> {
    let mut out = Vec::new();
    program.evaluate(event, &mut program.scratch())?.write_json(&mut out);
    Ok(out)
}

/// See the module.
pub fn check(data: &[u8]) -> Verdict {
    let (source, json) = match data.iter().position(|byte| *byte == 0) {
        Some(zero) => (&data[..zero], &data[zero + 1..]),
        None => (data, &b"{}"[..]),
    };
    let source = String::from_utf8_lossy(source);
    let program = match Program::compile_value(&source) {
        Ok(program) => program,
        Err(error) => {
            assert!(source.get(error.span.clone()).is_some(), "{:?} of {} bytes", error.span, source.len());
            assert!(!error.message.is_empty());
            return Verdict::Refused;
        }
    };
    let mut seen = std::collections::HashSet::new();
    for path in program.paths() {
        assert!(seen.insert(path), "{path} has two numbers");
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(path));
    }
    let event = Event { json, paths: program.paths() };
    let first = outcome(&program, &event);
    assert_eq!(first, outcome(&program, &event), "two values of one event");
    let mut scratch = program.scratch();
    let tested = program.test(&event, &mut scratch);
    match program.evaluate(&event, &mut scratch) {
        Ok(Value::Bool(value)) => assert_eq!(tested, Ok(value)),
        Ok(_) => assert!(tested.is_err(), "a condition that is none holds"),
        Err(error) => assert_eq!(tested, Err(error)),
    }
    Verdict::Accepted
}

//! What the language promises, by example.

use super::*;
use crate::codec::json::find_last_field;
use crate::codec::path::find_path;

/// An event as one JSON object, and how the fields of it are found.
struct Event<'a> {
    json: &'a [u8],
    paths: &'a [Path],
}

impl Fields for Event<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        let path = &self.paths[path.index()];
        find_path(find_last_field(self.json, path.first().as_bytes())?, path.rest()).map(FieldValue::Json)
    }
}

const EVENT: &str = r#"{
    "status": 503, "level": "warn", "message": "GET /index \"x\" é", "took": 0.25, "big": 18446744073709551615,
    "huge": 1e400, "small": -9223372036854775808, "user": {"id": "u1", "name": null, "a.b": 7, "tags": ["x", "y", 3]},
    "items": [{"n": 1}, {"n": 2}, {"n": 2.5}], "ok": true, "none": null, "empty": "", "time": "2026-11-23T10:20:30.5+01:00",
    "twice": 1, "twice": 2, "dup": {"k": 1, "\u006b": 2}, "raw": "a\u0000b\\n", "zero": 0, "minus": -0, "text": "42"
}"#;

/// The value as JSON, or the error's word.
fn value(source: &str) -> String {
    let (program, _) = Program::build(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    let event = Event { json: EVENT.as_bytes(), paths: program.paths() };
    let mut scratch = program.scratch();
    match program.evaluate(&event, &mut scratch) {
        Ok(value) => {
            let mut out = Vec::new();
            value.write_json(&mut out);
            String::from_utf8(out).expect("JSON is UTF-8")
        }
        Err(error) => format!("error {}", error.reason()),
    }
}

fn check(table: &[(&str, &str)]) {
    for (source, expected) in table {
        assert_eq!(value(source), *expected, "{source}");
    }
}

fn refused(source: &str) -> ExprError {
    match Program::compile(source) {
        Ok(_) => panic!("{source} was taken"),
        Err(error) => error,
    }
}

#[test]
fn comparisons_hold_across_types_of_numbers() {
    check(&[
        ("status == 503", "true"),
        ("status == 503u", "true"),
        ("status == 503.0", "true"),
        ("status != 503", "false"),
        ("status >= 500 && status < 600", "true"),
        ("took > 0", "true"),
        ("big > 9223372036854775807", "true"),
        ("big == 18446744073709551615u", "true"),
        ("big == 18446744073709551615.0", "false"),
        ("huge > big", "true"),
        ("small == -9223372036854775808", "true"),
        ("small < -9223372036854775807", "true"),
        ("9007199254740993 == 9007199254740992.0", "false"),
        ("minus == 0", "true"),
        ("\"a\" < \"b\" && \"Z\" < \"a\" && \"a\" < \"aa\"", "true"),
        ("false < true", "true"),
        ("status == \"503\"", "false"),
        ("status != \"503\"", "true"),
        ("status < \"503\"", "error wrong_type"),
        ("none == null && none != 0", "true"),
        ("message == \"GET /index \\\"x\\\" é\"", "true"),
        ("message > \"GET /index \\\"w\"", "true"),
        ("raw == \"a\\u0000b\\\\n\"", "true"),
        ("[1, 2u, \"a\"] == [1.0, 2, \"a\"]", "true"),
        ("user.tags == [\"x\", \"y\", 3]", "true"),
        ("user.tags == [\"x\", \"y\"]", "false"),
        ("items[0] == {\"n\": 1}", "true"),
        ("{\"a\": 1, \"b\": [2]} == {\"b\": [2u], \"a\": 1.0}", "true"),
        ("dup == {\"k\": 2}", "true"),
        ("items == items", "true"),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
        ("0.0 / 0.0 < 1.0 || 0.0 / 0.0 >= 1.0", "false"),
    ]);
}

#[test]
fn arithmetic_keeps_types_and_refuses_what_does_not_fit() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("(1 + 2) * 3", "9"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7u / 2u", "3"),
        ("1.5 * 2.0", "3.0"),
        ("status + 1", "504"),
        ("-status", "-503"),
        ("- -5", "5"),
        ("9223372036854775807 + zero + 1", "error overflow"),
        ("small - 1", "error overflow"),
        ("-small", "error overflow"),
        ("small / -1", "error overflow"),
        ("zero * 1u", "error wrong_type"),
        ("big + 1u", "error overflow"),
        ("1u - uint(status)", "error overflow"),
        ("status / zero", "error division_by_zero"),
        ("status % zero", "error division_by_zero"),
        ("1.0 / 0.0 > 1.0", "true"),
        ("status + 1.0", "error wrong_type"),
        ("level + \"!\"", "\"warn!\""),
        ("message + level", "\"GET /index \\\"x\\\" éwarn\""),
        ("[1] + user.tags", "[1,\"x\",\"y\",3]"),
    ]);
}

#[test]
fn logic_lets_a_decisive_operand_outweigh_an_error() {
    check(&[
        ("ok && true", "true"),
        ("!ok", "false"),
        ("missing || true", "true"),
        ("true || missing", "true"),
        ("missing && false", "false"),
        ("false && missing", "false"),
        ("missing && true", "error no_such_key"),
        ("missing || false", "error no_such_key"),
        ("status && false", "false"),
        ("status && true", "error wrong_type"),
        ("!status", "error wrong_type"),
        ("1 / zero > 0 || status == 503", "true"),
        ("1 / 0 > 0 || status == 503", "true"),
        ("ok ? 1 : missing", "1"),
        ("status > 600 ? 1 : status > 500 ? 2 : 3", "2"),
        ("status ? 1 : 2", "error wrong_type"),
    ]);
}

#[test]
fn fields_are_found_and_missing_ones_are_errors() {
    check(&[
        ("user.id", "\"u1\""),
        ("user[\"a.b\"] + 1", "8"),
        ("user.`a.b`", "7"),
        ("`status`", "503"),
        ("user.tags[1]", "\"y\""),
        ("user.tags[2] == 3.0", "true"),
        ("user.tags[zero]", "\"x\""),
        ("user.tags[7]", "error no_such_key"),
        ("user.tags[status]", "error index_out_of_bounds"),
        ("user.tags[-1]", "error index_out_of_bounds"),
        ("user[level]", "error no_such_key"),
        ("user[\"na\" + \"me\"]", "null"),
        ("missing", "error no_such_key"),
        ("user.missing", "error no_such_key"),
        ("status.code", "error no_such_key"),
        ("twice", "2"),
        ("dup.k", "2"),
        ("{\"a\": {\"b\": status}}.a.b", "503"),
        ("{\"a\": 1}[\"b\"]", "error no_such_key"),
        ("{1: \"x\"}[1.0]", "\"x\""),
        ("[1, 2, 3][1]", "2"),
        ("has(user.id) && has(user.name) && has(user)", "true"),
        ("has(user.missing) || has(missing) || has(missing.a.b) || has(status.code)", "false"),
        ("has(user[\"a.b\"])", "true"),
        ("has({\"a\": 1}.a)", "true"),
        ("has(items[zero].n) && !has(items[status].n) && !has(items[zero].x)", "true"),
    ]);
}

#[test]
fn membership_finds_values_of_any_type() {
    check(&[
        ("level in [\"warn\", \"error\"]", "true"),
        ("level in [\"info\"]", "false"),
        ("message in [\"a\", \"GET /index \\\"x\\\" é\", \"z\"]", "true"),
        ("status in [500, 503]", "true"),
        ("status in [500u, 503u]", "true"),
        ("status in [503.0]", "true"),
        ("took in [1, 0.25]", "true"),
        ("1.0 in [zero, 1]", "true"),
        ("double(status) in [502, 503]", "true"),
        ("none in [null]", "true"),
        ("none in [1, \"a\"]", "false"),
        ("\"x\" in user.tags", "true"),
        ("3.0 in user.tags", "true"),
        ("\"id\" in user", "true"),
        ("\"nothing\" in user", "false"),
        ("status in user", "false"),
        ("\"a\" in {\"a\": 1}", "true"),
        ("level in level", "error wrong_type"),
        ("none in user", "error wrong_type"),
        ("level in []", "false"),
        ("user.tags in [[\"x\", \"y\", 3]]", "true"),
    ]);
}

#[test]
fn functions_of_strings_read_escapes() {
    check(&[
        ("size(level)", "4"),
        ("message.size()", "16"),
        ("size(raw)", "5"),
        ("size(\"é𝄞\")", "2"),
        ("size(user.tags) + size(user) + size(dup) + size([1, 2])", "10"),
        ("size(status)", "error wrong_type"),
        ("message.startsWith(\"GET\")", "true"),
        ("message.startsWith(\"GET /index \\\"x\")", "true"),
        ("message.startsWith(\"GET /index \\\\\")", "false"),
        ("message.startsWith(\"GET /index \\\"x\\\" é and more\")", "false"),
        ("message.endsWith(\"x\\\" é\")", "true"),
        ("message.contains(\"\\\"x\")", "true"),
        ("message.contains(\"\")", "true"),
        ("level.contains(message)", "false"),
        ("status.contains(\"5\")", "error wrong_type"),
        ("message.matches(r'^GET /\\w+ \"x\" \\pL$')", "true"),
        ("matches(level, \"^w.*n$\")", "true"),
        ("level.matches(\"^x\") || level.matches(\"arn\")", "true"),
        ("status.matches(\"5\")", "error wrong_type"),
    ]);
}

#[test]
fn conversions_follow_the_reference() {
    check(&[
        ("int(text) + 1", "43"),
        ("int(\"-\" + text)", "-42"),
        ("int(level)", "error conversion"),
        ("int(3.9) + int(-3.9)", "0"),
        ("int(huge)", "error overflow"),
        ("int(9223372036854775807.0)", "error overflow"),
        ("int(big)", "error overflow"),
        ("int(timestamp(\"1970-01-01T00:01:00Z\"))", "60"),
        ("uint(text)", "42"),
        ("uint(-1)", "error overflow"),
        ("uint(2.5)", "2"),
        ("double(text) / 4.0", "10.5"),
        ("double(\"1e3\")", "1000.0"),
        ("string(status) + string(true) + string(2.5) + string(1e30)", "\"503true2.51e30\""),
        ("string(duration(\"1h30m\"))", "\"5400s\""),
        ("bool(\"true\") && !bool(\"0\")", "true"),
        ("bool(level)", "error conversion"),
        ("string(user)", "error wrong_type"),
    ]);
}

#[test]
fn moments_and_durations_compute() {
    check(&[
        ("timestamp(time)", "\"2026-11-23T09:20:30.5Z\""),
        ("timestamp(time) > timestamp(\"2026-01-01T00:00:00Z\")", "true"),
        ("timestamp(time) - duration(\"1h\")", "\"2026-11-23T08:20:30.5Z\""),
        ("duration(\"1s\") + timestamp(time)", "\"2026-11-23T09:20:31.5Z\""),
        ("timestamp(time) - timestamp(\"2026-11-23T00:00:00Z\")", "\"33630.5s\""),
        ("duration(\"1h30m\") + duration(\"-1.5s\") == duration(\"5398.5s\")", "true"),
        ("duration(\"250ms\") < duration(\"1s\")", "true"),
        ("timestamp(level)", "error conversion"),
        ("timestamp(status)", "\"1970-01-01T00:08:23Z\""),
        ("timestamp(\"9999-12-31T23:59:59Z\") + duration(\"1s\")", "error overflow"),
        ("timestamp(time).getHours()", "9"),
        (
            "timestamp(time).getFullYear() * 10000 + timestamp(time).getMonth() * 100 + timestamp(time).getDate()",
            "20261023",
        ),
        ("timestamp(time).getDayOfWeek()", "1"),
        ("timestamp(time).getDayOfYear()", "326"),
        ("timestamp(time).getDayOfMonth()", "22"),
        ("timestamp(time).getMilliseconds()", "500"),
        ("duration(\"1h30m5s\").getMinutes()", "90"),
        ("duration(\"0\") == duration(\"-0s\")", "true"),
    ]);
}

#[test]
fn walks_see_every_element() {
    check(&[
        ("items.all(item, item.n > 0)", "true"),
        ("items.exists(item, item.n == 2)", "true"),
        ("items.exists_one(item, item.n >= 2)", "false"),
        ("items.exists_one(item, item.n == 1)", "true"),
        ("items.map(item, item.n * 2)", "error wrong_type"),
        ("user.tags.filter(tag, tag != 3).map(tag, tag + \"!\")", "[\"x!\",\"y!\"]"),
        ("[1, 2, 3].map(n, n > 1, n * status)", "[1006,1509]"),
        ("[1, 2].all(x, [3, 4].all(y, x < y && status > y))", "true"),
        ("user.exists(key, key == \"id\")", "true"),
        ("[1, 0].exists(n, 1 / n > 0)", "true"),
        ("[0, 1].exists(n, 1 / n > 0)", "true"),
        ("[0].exists(n, 1 / n > 0)", "error division_by_zero"),
        ("[0, 1].all(n, 1 / n > 5)", "false"),
        ("[].all(n, n) && ![].exists(n, n)", "true"),
        ("status.all(n, n)", "error wrong_type"),
        ("[503].all(status, status == 503) && status == 503", "true"),
    ]);
}

#[test]
fn mistakes_are_refused_with_place_and_help() {
    for (source, place, message, help) in [
        ("status >=", "", "expected a value, found the end", ""),
        ("status = 5", "=", "not an operator", "=="),
        ("a and b", "and", "expected an operator", "&&"),
        ("not has(a)", "not", "not an operator", "`!`"),
        ("level =~ \"x\"", "=", "not an operator", "matches"),
        ("level <> \"x\"", ">", "expected a value", "!="),
        ("level eq \"x\"", "eq", "expected an operator", "=="),
        ("a contains \"x\"", "contains", "expected an operator", "field.contains"),
        ("a in (\"x\", \"y\")", ",", "expected `)`", "in brackets"),
        ("length(a) > 5", "length", "unknown function", "size(field)"),
        ("a.length() > 5", "length", "unknown function", "size(field)"),
        ("exists(a)", "exists", "must be called on a list", "has(field)"),
        ("(a", "", "expected `)`", ""),
        ("a b", "b", "expected an operator", ""),
        ("[1, 2", "", "`,` or `]`", ""),
        ("startWith(a)", "startWith", "unknown function", "startsWith"),
        ("a.startwith(\"b\")", "startwith", "unknown function", "startsWith"),
        ("frobnicate(a)", "frobnicate", "unknown function", "docs/expressions.md"),
        ("startsWith(a, \"b\")", "startsWith", "must be called on a value", "message.startsWith"),
        ("a.int() == 1", "int", "in parentheses", "int(status)"),
        ("a.startsWith(1)", "1", "accepts string, not int", "startsWith(\"GET\")"),
        ("a.startsWith()", "a.startsWith()", "needs 1 argument", ""),
        ("\"a\" + 1 == a", "\"a\" + 1", "does not accept string and int", "string(5)"),
        ("1 + 1.0 == a", "1 + 1.0", "does not accept int and double", "convert"),
        ("size(5) > 1", "5", "accepts string or list or map, not int", "size(tags)"),
        ("!\"x\"", "!\"x\"", "does not accept string", ""),
        ("a && 5", "5", "needs a condition, not int", ""),
        ("a in \"text\"", "\"text\"", "must be a list or a map", "contains"),
        ("a.matches(\"(\")", "\"(\"", "regular expression", "raw strings"),
        ("a.matches(b)", "b", "must be a literal string", "compiled once"),
        ("a.matches(\"(?=x)\")", "\"(?=x)\"", "regular expression", "lookaround"),
        ("a.matches(\"(\\\\pL{500}){500}\")", "\"(\\\\pL{500}){500}\"", "the compiled pattern", ""),
        ("timestamp(\"yesterday\") < timestamp(a)", "\"yesterday\"", "this is not a timestamp", ""),
        ("duration(\"5 min\") < duration(a)", "\"5 min\"", "this is not a duration", ""),
        ("status + 1", "status + 1", "must be a bool, this is int", ">= 500"),
        (" size(a) ", "size(a)", "must be a bool, this is int", ""),
        ("\"yes\"", "\"yes\"", "must be a bool, this is string", ""),
        ("has(a + b)", "a + b", "needs a field", ""),
        ("a.all(1, b)", "1", "name of a variable", ""),
        ("all(a, b)", "all", "must be called on a list", "tags.all"),
        ("{\"a\": 1, \"a\": 2} == a", "\"a\"", "duplicate key", ""),
        ("99999999999999999999 > a", "99999999999999999999", "64 bits", ""),
        ("9223372036854775808 > a", "9223372036854775808", "outside the range of int", "`u`"),
        ("\"a\" < 5 || a", "\"a\" < 5", "does not accept string and int", ""),
        ("1 / 0 > 1", "1 / 0 > 1", "division by zero", "name a field"),
        ("", "", "expected a value", ""),
    ] {
        let error = refused(source);
        assert_eq!(&source[error.span.clone()], place, "{source}: {error:?}");
        assert!(error.message.contains(message), "{source}: {error:?}");
        assert!(error.help.as_deref().unwrap_or("").contains(help), "{source}: {error:?}");
    }
}

#[test]
fn hostile_sources_are_refused_and_long_chains_are_not() {
    let deep = |open: &str, close: &str, times: usize| format!("{}true{}", open.repeat(times), close.repeat(times));
    for source in [
        deep("(", ")", 10_000),
        deep("[", "]", 10_000),
        deep("!", "", 60_000),
        deep("-", "", 60_000),
        deep("{1:", "}", 10_000),
        deep("f(", ")", 10_000),
        deep("a ? b : ", "", 8_000),
        format!("a{}", ".b".repeat(10_000)),
        format!("a{}", "[0]".repeat(10_000)),
        format!("a{}", " + a".repeat(10_000)),
        format!("a{}", ".size()".repeat(1_000)),
        "[".repeat(60_000),
        "(".repeat(60_000),
        "x".repeat(SOURCE_BYTES_MAX + 1),
        format!("a in [{}]", "1,".repeat(10_000)),
        format!("a({})", "1,".repeat(10_000)),
        vec!["a.matches(\"x\")"; 65].join(" || "),
    ] {
        assert!(Program::compile_value(&source).is_err(), "{}", &source[..40.min(source.len())]);
    }
    assert!(Program::compile(&deep("(", ")", 60)).is_ok());
    assert!(Program::compile(&deep("!", "", 60)).is_ok());
    let chain: Vec<String> = (0..3_000).map(|number| format!("status == {number}")).collect();
    let program = Program::compile(&chain.join(" || ")).expect("a chain is one level");
    let event = Event { json: EVENT.as_bytes(), paths: program.paths() };
    assert_eq!(program.test(&event, &mut program.scratch()), Ok(true));
    assert_eq!(program.paths().len(), 1);
}

#[test]
fn hostile_events_give_errors() {
    let program = Program::compile("a == b").expect("compiles");
    struct Raw<'a>([&'a [u8]; 2]);
    impl Fields for Raw<'_> {
        fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
            Some(FieldValue::Json(self.0[path.index()]))
        }
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let raw = Raw([deep.as_bytes(), deep.as_bytes()]);
    assert_eq!(program.test(&raw, &mut program.scratch()), Err(EvalError::TooDeep));
    for bytes in [&b""[..], b"x", b"-", b"1x", b"\"", b"{", b"[1", b"nul", b"1e", b"--1", b"inf", b"\xff"] {
        let raw = Raw([bytes, bytes]);
        let _ = program.test(&raw, &mut program.scratch());
    }
    let many: String = (0..10_000).map(|number| format!("\"k{number}\":1,")).collect();
    let many = format!("{{{}\"k0\":1}}", many);
    assert_eq!(program.test(&Raw([many.as_bytes(), many.as_bytes()]), &mut program.scratch()), Ok(true));
}

#[test]
fn broken_utf8_is_one_character_for_each_sequence() {
    struct Text(&'static [u8]);
    impl Fields for Text {
        fn get(&self, _: PathIndex) -> Option<FieldValue<'_>> {
            Some(FieldValue::Text(self.0))
        }
    }
    let test = |source: &str| {
        let program = Program::compile(source).expect("compiles");
        program.test(&Text(b"a\xff\"\\b"), &mut program.scratch())
    };
    assert_eq!(test("size(m) == 5"), Ok(true));
    assert_eq!(test("m.startsWith(\"a\") && m.endsWith(\"\\\"\\\\b\")"), Ok(true));
    assert_eq!(test("m.matches(\"b$\") && !m.matches(\"^a.\\\"\")"), Ok(true));
    assert_eq!(test("m == \"a\""), Ok(false));
    assert_eq!(test("m"), Err(EvalError::NotBool));
}

#[test]
fn paths_are_numbered_once_and_errors_name_them() {
    let program = Program::compile("a.b == 1 || c[\"d.e\"] == a.b || has(c[0])").expect("compiles");
    let paths: Vec<String> = program.paths().iter().map(Path::to_string).collect();
    assert_eq!(paths, ["a.b", "c[\"d.e\"]", "c[0]"]);
    let event = Event { json: b"{\"a\":{\"b\":2}}", paths: program.paths() };
    let error = program.test(&event, &mut Scratch::default()).expect_err("c is not there");
    assert_eq!(program.explain(error), "the event has no field `c[\"d.e\"]`");
}

#[test]
fn programs_and_their_scratch_may_be_mixed() {
    let first = Program::compile("level.matches(\"^w\")").expect("compiles");
    let second = Program::compile("level.matches(\"n$\") && level.matches(\"r\")").expect("compiles");
    let mut scratch = Scratch::default();
    for program in [&first, &second, &first, &second] {
        let event = Event { json: EVENT.as_bytes(), paths: program.paths() };
        assert_eq!(program.test(&event, &mut scratch), Ok(true));
    }
    fn travels<T: Send + Sync>(_: &T) {}
    travels(&first);
}

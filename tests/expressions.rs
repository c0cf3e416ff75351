//! The condition language compared with the `cel` crate: for one expression and one event, both give the same value or an
//! error.
//!
//! Guarantees: a table with the constructs of the language specification, and generated expressions with generated events.
//! Where the crate differs from the specification, [`reference::DIFFERENCES`] describes it, and a test checks that it still
//! does, so that no exception outlives its reason.
#![forbid(unsafe_code)]

#[path = "expressions/generate.rs"]
mod generate;
#[path = "expressions/reference.rs"]
mod reference;

use proptest::prelude::*;
use reference::{DIFFERENCES, Outcome, ours, theirs};

const EVENT: &str = r#"{
    "i": 7, "j": -3, "u": 18446744073709551615, "d": 2.5, "s": "GET /a \"b\" é", "t": "warn", "b": true, "n": null,
    "l": [1, 2, 3], "k": ["a", "warn"], "m": {"a": 1, "warn": 2, "x": {"y": [10, 20]}}, "e": "", "w": "2026-11-23T10:20:30.25Z"
}"#;

/// One line for each construct on which both must agree.
const TABLE: &str = r##"
1 + 2 * 3 - 4 / 2 % 3
-7 / 2
-7 % 3
7u / 2u + 1u
1.5 + 2.5 * 2.0 / 4.0 - 1.0
"a" + "b" + s
[1, 2] + l
9223372036854775807 + 1
-9223372036854775808 - 1
9223372036854775807 * 2
0u - 1u
i / 0
i % 0
u / 0u
1.0 / 0.0 > 0.0
i == 7 && i == 7.0 && i == 7u
j < 0u
u > i
d > i
d < 3u
"a" < "b"
"Z" < "a"
"a" < "aa"
false < true
i == "7"
i != "7"
n == null
n == 0
l == [1, 2, 3]
l == [1.0, 2u, 3]
m == {"a": 1}
m.x == {"y": [10, 20]}
b && !b
b || missing
missing || b
missing && false
false && missing
missing && true
missing || false
i / 0 > 1 || b
b ? i : j
!b ? i : j
b ? i : i / 0
i in l
9 in l
2.0 in l
t in k
"warn" in m
"zzz" in m
t in ["info", "warn"]
i in [5, 6, 7]
s in ["x", "GET /a \"b\" é"]
has(m.a)
has(m.zzz)
has(m.x.y)
m.a
m.zzz
m.x.y[1]
m["x"]["y"][0]
m[t]
l[0]
l[3]
l[-1]
l[u]
missing
size(s)
size(l) + size(m) + size(k)
s.size()
size("é𝄞")
s.startsWith("GET")
s.startsWith("GET /a \"")
s.startsWith("POST")
s.endsWith("é")
s.contains("\"b\"")
s.contains("")
s.matches("^GET /[a-z] ")
s.matches(r"\d")
matches(t, "^w.*n$")
i.matches("7")
size(i)
int("42")
int("x")
int(2.9) + int(-2.9)
int(u)
int(1e300)
uint(7)
uint(-1)
uint("3")
double("2.5") + double(i) + double(3u)
string(i) + string(u) + string(d) + string(b)
string(s)
int(timestamp("2026-01-01T00:00:00Z"))
timestamp(w) > timestamp("2026-01-01T00:00:00Z")
timestamp(w) - timestamp("2026-11-23T00:00:00Z") == duration("10h20m30.25s")
timestamp(w) + duration("1h") == timestamp("2026-11-23T12:20:30.25+01:00")
duration("1h30m") == duration("90m")
duration("1.5s") > duration("1400ms")
duration("-1m") + duration("1h") == duration("59m")
timestamp("yesterday")
duration("soon")
timestamp(w).getFullYear()
timestamp(w).getMonth()
timestamp(w).getDate()
timestamp(w).getDayOfMonth()
timestamp(w).getDayOfWeek()
timestamp(w).getDayOfYear()
timestamp(w).getHours()
timestamp(w).getMinutes()
timestamp(w).getSeconds()
timestamp(w).getMilliseconds()
l.all(x, x > 0)
l.all(x, x > 1)
l.exists(x, x == 2)
l.exists(x, x == 9)
l.exists_one(x, x > 2)
l.exists_one(x, x > 1)
l.filter(x, x > 1)
l.map(x, x * 2)
l.map(x, x > 1, x * 2)
l.all(x, k.exists(y, size(y) >= x))
[0, 1].exists(x, 1 / x > 0)
[0, 1].all(x, 1 / x > 5)
[0].all(x, 1 / x > 5)
m.exists(key, key == "a")
{"a": 1, "b": [2, {"c": i}]}
{"a": i}.a
{1: "x", true: "y", "z": 3u}
0x1F + 0xffu == 5
0x1F == 31
1e3 == 1000.0
.5 + 1.
'single' + "double" + '''triple "x"''' + """y"""
r"raw\d" + r'\n'
"\x41\u00e9\U0001d11e\101\a\b\f\n\r\t\v\\\?\"\'\`"
-d
-(-j)
!(i == 7)
- 9223372036854775808
i == 7 ? "seven" : i == 8 ? "eight" : "many"
i + 1.0
i + "x"
s + 1
b + b
i && b
!i
i ? 1 : 2
1 < 2 == true
(i + 1) * 2 in [16]
"##;

#[test]
fn every_construct_gives_what_the_reference_gives() {
    let event = serde_json::from_str(EVENT).expect("an event");
    let mut wrong = Vec::new();
    for source in TABLE.lines().filter(|line| !line.is_empty()) {
        let excused = DIFFERENCES.iter().any(|difference| difference.example == source);
        let (ours, theirs) = (ours(source, EVENT), theirs(source, &event));
        if !ours.agrees(&theirs) && !excused {
            wrong.push(format!("{source}\n    ours:   {ours:?}\n    theirs: {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_exception_still_has_its_reason() {
    let event = serde_json::from_str(EVENT).expect("an event");
    for difference in DIFFERENCES {
        let (ours, theirs) = (ours(difference.example, EVENT), theirs(difference.example, &event));
        assert_eq!(ours, Outcome::Value(difference.ours.to_owned()), "{}", difference.example);
        assert!(!ours.agrees(&theirs), "{}: the crate agrees now: {theirs:?}", difference.example);
    }
}

/// The code in the example column of every table on the page.
fn documented_examples() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/expressions.md");
    let text = std::fs::read_to_string(page).expect("the page of conditions");
    let (_, tables) = text.split_once("\n## Operators").expect("the section of operators");
    // A bar inside a table is escaped with a backslash.
    let rows = tables.lines().filter(|line| line.starts_with("| `")).map(|line| line.replace("\\|", "\u{0}"));
    let example = |row: String| row.split('|').nth(2).unwrap_or("").replace('\u{0}', "|");
    let code = |cell: String| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(example).flat_map(code).collect()
}

#[test]
fn every_documented_example_compiles() {
    let examples = documented_examples();
    assert!(examples.len() > 30, "{examples:?}");
    for source in examples {
        let compiled = tailwater::expr::Program::compile_value(&source);
        assert!(compiled.is_ok(), "{source}: {:?}", compiled.err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_expressions_give_what_the_reference_gives(source in generate::expression(), event in generate::event()) {
        let ours = ours(&source, &event.to_string());
        let theirs = theirs(&source, &event);
        prop_assert!(ours.agrees(&theirs), "{source}\n    event:  {event}\n    ours:   {ours:?}\n    theirs: {theirs:?}");
    }
}

//! Random expressions and events: mostly of matching types, with a field of any type among them.
//!
//! Known differences of the crate are not generated: integers beyond 2^53, which it rounds to compare them with doubles; NaN,
//! which it does not order; maps combined with lists; and the digits of very large and very small doubles.

use proptest::prelude::*;
use serde_json::{Value, json};

/// Expressions by the type of their value.
#[derive(Clone)]
struct Level {
    bools: BoxedStrategy<String>,
    ints: BoxedStrategy<String>,
    doubles: BoxedStrategy<String>,
    texts: BoxedStrategy<String>,
    lists: BoxedStrategy<String>,
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<String> {
    proptest::sample::select(words).prop_map(str::to_owned).boxed()
}

fn leaves() -> Level {
    Level {
        bools: one_of(&["true", "false", "b", "b", "missing", "x"]),
        ints: one_of(&["0", "1", "-1", "7", "i", "i", "j", "m.a", "l[0]", "l[i]", "x", "missing"]),
        doubles: one_of(&["0.0", "1.5", "-2.0", "d", "d", "double(i)", "x"]),
        texts: one_of(&["\"\"", "'a'", "\"warn\"", "s", "t", "t", "m.c", "\"\\u00e9\\n\"", "x"]),
        lists: one_of(&["[]", "[1, 2]", "['a', t]", "l", "l", "k", "[i, d, s]", "missing"]),
    }
}

fn two(
    left: &BoxedStrategy<String>,
    operators: &'static [&'static str],
    right: &BoxedStrategy<String>,
) -> BoxedStrategy<String> {
    (left.clone(), proptest::sample::select(operators), right.clone())
        .prop_map(|(left, operator, right)| format!("({left} {operator} {right})"))
        .boxed()
}

fn call(of: &BoxedStrategy<String>, form: &'static str) -> BoxedStrategy<String> {
    of.clone().prop_map(move |inner| form.replace('$', &inner)).boxed()
}

fn choose(condition: &BoxedStrategy<String>, branch: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    (condition.clone(), branch.clone(), branch.clone())
        .prop_map(|(condition, yes, no)| format!("({condition} ? {yes} : {no})"))
        .boxed()
}

fn above(below: &Level) -> Level {
    const ORDER: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
    let Level { bools, ints, doubles, texts, lists } = below;
    let tests = prop_oneof![
        two(ints, ORDER, ints),
        two(ints, ORDER, doubles),
        two(doubles, ORDER, doubles),
        two(texts, ORDER, texts),
        two(lists, &["==", "!="], lists),
        two(ints, &["==", "!=", "in"], lists),
        two(texts, &["in"], lists),
        two(texts, &["in"], &Just("m".to_owned()).boxed()),
    ];
    let asks = prop_oneof![
        one_of(&["has(m.a)", "has(m.zzz)", "has(m.x.y)"]),
        call(texts, "($).startsWith(t)"),
        call(texts, "s.contains($)"),
        call(texts, "($).endsWith('n')"),
        call(texts, "($).matches('^[a-w]+$')"),
        call(ints, "l.all(y, y < $)"),
        call(ints, "l.exists(y, y == $)"),
        call(lists, "($).exists_one(y, y == 1)"),
    ];
    Level {
        bools: prop_oneof![
            1 => bools.clone(),
            2 => two(bools, &["&&", "||", "==", "<"], bools),
            1 => call(bools, "!($)"),
            1 => choose(bools, bools),
            4 => tests,
            2 => asks,
        ]
        .boxed(),
        ints: prop_oneof![
            2 => ints.clone(),
            4 => two(ints, &["+", "-", "*", "/", "%"], ints),
            1 => call(ints, "-($)"),
            1 => choose(bools, ints),
            1 => call(texts, "size($)"),
            1 => call(lists, "size($)"),
            1 => call(doubles, "int($)"),
            1 => call(texts, "int($)"),
        ]
        .boxed(),
        doubles: prop_oneof![
            2 => doubles.clone(),
            3 => two(doubles, &["+", "-", "*"], doubles),
            1 => call(ints, "double($)"),
            1 => choose(bools, doubles),
        ]
        .boxed(),
        texts: prop_oneof![
            2 => texts.clone(),
            2 => two(texts, &["+"], texts),
            1 => call(ints, "string($)"),
            1 => choose(bools, texts),
        ]
        .boxed(),
        lists: prop_oneof![
            2 => lists.clone(),
            1 => two(lists, &["+"], lists),
            1 => call(ints, "l.filter(y, y > $)"),
            1 => call(ints, "l.map(y, y + $)"),
            1 => call(texts, "[$, 1]"),
        ]
        .boxed(),
    }
}

/// An expression of any type, three operations deep.
pub fn expression() -> BoxedStrategy<String> {
    let top = above(&above(&above(&leaves())));
    prop_oneof![4 => top.bools, 2 => top.ints, 1 => top.doubles, 1 => top.texts, 1 => top.lists].boxed()
}

fn text() -> impl Strategy<Value = String> {
    "[a-z]{0,3}|[ -~é\n\"\\\\𝄞]{0,8}|warn|-?[0-9]{1,4}"
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        (-8_000i32..8_000).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        text().prop_map(Value::from),
        proptest::collection::vec(-2i64..4, 0..4).prop_map(Value::from),
        Just(json!({"a": 1})),
    ]
}

/// An event with the fields that expressions name, except `missing`.
pub fn event() -> impl Strategy<Value = Value> {
    let numbers = (-5i64..10, -5i64..10, (-8_000i32..8_000).prop_map(|eighths| f64::from(eighths) / 8.0));
    let lists = (proptest::collection::vec(-2i64..8, 0..4), proptest::collection::vec(text(), 0..3));
    (numbers, any::<bool>(), text(), text(), lists, anything()).prop_map(|((i, j, d), b, s, t, (l, k), x)| {
        json!({"i": i, "j": j, "d": d, "b": b, "s": s, "t": t, "l": l, "k": k, "x": x, "m": {"a": j, "c": t, "x": {"y": l}}})
    })
}

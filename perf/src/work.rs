//! What the `json_to` scenarios do to a line, implemented with `serde_json`, and whether a program did the same.
//!
//! The work: parse the line as JSON, drop `pod` and `region`, rename `msg` to `message`, add `env` and `collector`, and add
//! `alert` if `status` is at least 500. The configurations of the programs in those folders do the same.
//!
//! Guarantees: detects a field that is missing, wrong or should have been dropped. Fields that a program adds by itself are
//! allowed.

use serde_json::{Map, Value};

/// How much of an event a program can preserve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fidelity {
    /// Every value with its type.
    Values,
    /// Every value, but numbers and booleans may be strings.
    Texts,
    /// The event, in the program's own format.
    Presence,
}

/// The expected output for a line.
pub fn expected(line: &[u8]) -> Result<Map<String, Value>, String> {
    let mut event: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("{error}: {}", text(line)))?;
    event.remove("pod");
    event.remove("region");
    if let Some(message) = event.remove("msg") {
        event.insert("message".into(), message);
    }
    event.insert("env".into(), "production".into());
    event.insert("collector".into(), "perf".into());
    if event.get("status").and_then(Value::as_u64).is_some_and(|status| status >= 500) {
        event.insert("alert".into(), true.into());
    }
    Ok(event)
}

/// Compares what arrived with the line from which it was made.
pub fn verify(line: &[u8], arrived: &[u8], fidelity: Fidelity) -> Result<(), String> {
    let wrong = |what: &str| format!("{what}; received {}, sent {}", text(arrived), text(line));
    let found: Map<String, Value> =
        serde_json::from_slice(arrived).map_err(|error| wrong(&format!("not JSON: {error}")))?;
    let wanted = expected(line)?;
    for (name, value) in &wanted {
        match found.get(name) {
            Some(other) if same(value, other, fidelity) => {}
            Some(_) => return Err(wrong(&format!("`{name}` has a different value"))),
            None => return Err(wrong(&format!("`{name}` is missing"))),
        }
    }
    let left = ["pod", "region", "msg", "alert"]
        .into_iter()
        .find(|name| found.contains_key(*name) && !wanted.contains_key(*name));
    left.map_or(Ok(()), |name| Err(wrong(&format!("`{name}` should not be there"))))
}

fn same(wanted: &Value, found: &Value, fidelity: Fidelity) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let field =
                |(name, value): (&String, &Value)| found.get(name).is_some_and(|other| same(value, other, fidelity));
            wanted.len() == found.len() && wanted.iter().all(field)
        }
        // Decimal places may have been added.
        (Value::Number(number), Value::String(text)) if fidelity == Fidelity::Texts => {
            text.parse().is_ok_and(|other: f64| number.as_f64() == Some(other))
        }
        (Value::Bool(truth), Value::String(text)) if fidelity == Fidelity::Texts => truth.to_string() == *text,
        _ => wanted == found,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"event_number":"000000000001","msg":"a \"b\"","status":503,"http":{"method":"GET"},"pod":"p","region":"r"}"#;
    const DONE: &str = r#"{"event_number":"000000000001","status":503,"http":{"method":"GET"},"message":"a \"b\"","env":"production","collector":"perf","alert":true,"host":"x"}"#;

    #[test]
    fn work_done_right_is_right_in_any_order() {
        assert_eq!(verify(LINE, DONE.as_bytes(), Fidelity::Values), Ok(()));
        let texts = DONE.replace("503", "\"503\"").replace("true", "\"true\"");
        assert_eq!(verify(LINE, texts.as_bytes(), Fidelity::Texts), Ok(()));
        assert!(verify(LINE, texts.as_bytes(), Fidelity::Values).is_err());
    }

    #[test]
    fn every_part_of_the_work_that_is_left_out_is_seen() {
        for (done, undone) in [
            ("\"collector\":\"perf\",", ""),
            ("\"env\":\"production\",", ""),
            (",\"alert\":true", ""),
            ("\"message\"", "\"msg\""),
            ("\"host\":\"x\"", "\"pod\":\"p\""),
            ("\"host\":\"x\"", "\"region\":\"r\""),
            ("\"GET\"", "\"PUT\""),
            ("\"status\":503", "\"status\":502"),
            ("}", ""),
        ] {
            let arrived = DONE.replace(done, undone);
            assert_ne!(arrived, DONE);
            assert!(verify(LINE, arrived.as_bytes(), Fidelity::Texts).is_err(), "{arrived}");
        }
    }

    #[test]
    fn alert_is_only_for_what_failed() {
        let line = LINE.to_vec();
        let fine = String::from_utf8(line).unwrap().replace("503", "499");
        assert!(!expected(fine.as_bytes()).unwrap().contains_key("alert"));
        assert!(verify(fine.as_bytes(), DONE.replace("503", "499").as_bytes(), Fidelity::Values).is_err());
    }
}

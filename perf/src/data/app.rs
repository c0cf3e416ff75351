//! JSON as applications log it: about 330 bytes, twelve top-level fields of which one is an object, in two orders of keys, with
//! optional fields, integers and fractions, and sometimes an escape or a non-ASCII letter in the message.
//!
//! It has no array, because some of the compared programs cannot carry one. `work.rs` describes what is done to it.

use super::{NUMBER_DIGITS, NUMBER_KEY, Random, clock};
use std::fmt::{Result, Write as _};

const LEVELS: [&str; 8] = ["info", "info", "info", "info", "debug", "debug", "warn", "error"];
const SERVICES: [&str; 6] = ["checkout", "inventory", "auth-gateway", "billing", "search-api", "recommender"];
const METHODS: [&str; 6] = ["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const STATUSES: [&str; 18] = [
    "200", "200", "200", "200", "200", "200", "200", "201", "204", "301", "304", "400", "401", "404", "404", "429",
    "500", "503",
];
const WORDS: [&str; 20] = [
    "order",
    "payment",
    "cart",
    "session",
    "token",
    "cache",
    "queue",
    "worker",
    "request",
    "response",
    "timeout",
    "retry",
    "shard",
    "invoice",
    "warehouse",
    "customer",
    "profile",
    "upstream",
    "handler",
    "batch",
];
const ESCAPED: [&str; 4] = [
    " said \\\"no\\\"",
    " at line 3\\n\\tat shop.Cart.total(Cart.java:42)",
    " in C:\\\\shop\\\\cart.log",
    " for caf\\u00e9",
];

/// Appends a line with its newline.
pub(super) fn append(line: &mut String, number: u64, random: &mut Random) -> Result {
    if random.below(3) == 0 {
        access(line, number, random)?
    } else {
        service(line, number, random)?
    }
    line.push_str("}\n");
    Ok(())
}

/// The format of most services.
fn service(line: &mut String, number: u64, random: &mut Random) -> Result {
    write!(line, "{{\"{NUMBER_KEY}\":\"{number:0NUMBER_DIGITS$}\",")?;
    time(line, number)?;
    write!(line, ",\"level\":\"{}\",\"service\":\"{}\",", random.pick(&LEVELS), random.pick(&SERVICES))?;
    message(line, random)?;
    write!(line, ",\"status\":{},", random.pick(&STATUSES))?;
    duration(line, random)?;
    line.push_str(",\"http\":{");
    request(line, random)?;
    if random.below(4) > 0 {
        write!(line, ",\"user_id\":{}", 1000 + random.below(9_000_000))?;
    }
    write!(line, ",\"trace_id\":\"{:016x}\"", random.next())?;
    write!(line, ",\"region\":\"eu-west-{}\",\"pod\":\"shop-7f9c4d-{:05x}\"", 1 + random.below(3), random.below(200))
}

/// The format of the others: a different order of fields, and an additional field.
fn access(line: &mut String, number: u64, random: &mut Random) -> Result {
    write!(line, "{{\"level\":\"{}\",", random.pick(&LEVELS))?;
    time(line, number)?;
    write!(line, ",\"pod\":\"edge-5d8b9f-{:05x}\",", random.below(200))?;
    message(line, random)?;
    write!(line, ",\"service\":\"{}\",\"http\":{{", random.pick(&SERVICES))?;
    request(line, random)?;
    write!(line, ",\"status\":{},", random.pick(&STATUSES))?;
    duration(line, random)?;
    write!(line, ",\"region\":\"eu-central-{}\",\"{NUMBER_KEY}\":\"{number:0NUMBER_DIGITS$}\"", 1 + random.below(3))?;
    if random.below(3) == 0 {
        write!(line, ",\"cached\":{}", if random.below(2) == 0 { "true" } else { "false" })?;
    }
    write!(line, ",\"trace_id\":\"{:016x}\"", random.next())
}

fn time(line: &mut String, number: u64) -> Result {
    let (hour, minute, second, microsecond) = clock(number);
    write!(line, "\"time\":\"2026-11-23T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z\"")
}

/// Never an integer, because programs write integers in more than one way.
fn duration(line: &mut String, random: &mut Random) -> Result {
    write!(line, "\"duration_ms\":{}.{:02}{}", random.below(900), random.below(100), 1 + random.below(9))
}

/// The end of an object.
fn request(line: &mut String, random: &mut Random) -> Result {
    let (method, version) = (random.pick(&METHODS), 1 + random.below(3));
    write!(
        line,
        "\"method\":\"{method}\",\"path\":\"/api/v{version}/{}s/{}\"}}",
        random.pick(&WORDS),
        random.below(1_000_000)
    )
}

fn message(line: &mut String, random: &mut Random) -> Result {
    line.push_str("\"msg\":\"");
    for word in 0..3 + random.below(4) {
        if word > 0 {
            line.push(' ');
        }
        line.push_str(random.pick(&WORDS));
        if random.below(5) == 0 {
            write!(line, " {}", random.below(100_000))?;
        }
    }
    if random.below(6) == 0 {
        line.push_str(random.pick(&ESCAPED));
    }
    if random.below(30) == 0 {
        line.push_str(" naïve Größe ✓");
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::data::{Kind, Lines};
    use serde_json::Value;

    #[test]
    fn lines_are_json_of_two_orders_with_fields_that_come_and_go() {
        let mut source = Lines::new(Kind::App, 1, 0);
        let (mut first, mut fields, mut escapes, mut beyond) = ([0, 0], [0; 16], 0, 0);
        for _ in 0..3000 {
            let mut line = String::new();
            source.append(&mut line);
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let object = value.as_object().expect("an object");
            fields[object.len()] += 1;
            assert!(object["http"].is_object() && object["status"].is_u64() && object["duration_ms"].is_f64());
            first[usize::from(line.starts_with("{\"level\""))] += 1;
            escapes += usize::from(line.contains('\\'));
            beyond += usize::from(!line.is_ascii());
        }
        assert!(first.iter().all(|count| *count > 500), "{first:?}");
        assert!(fields[11] > 500 && fields[12] > 500, "{fields:?}");
        assert!(escapes > 200 && beyond > 20, "{escapes} {beyond}");
    }
}

//! Events that the server will never accept: rejected and kept with the reason, without harm to the others in their request,
//! and sent again after the cause was fixed.

use crate::case::Case;
use crate::node::steady;
use crate::product::{run_to_end, text};
use crate::scene::{Scene, from_file, to_index};
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::process::Output;
use tailwater_services::search::Document;

const EVENTS: u64 = 3_000;

/// The value that an integer mapping rejects, or none: every seventh event has a string, every eleventh an object.
fn unfit(number: u64) -> Option<&'static str> {
    match number {
        _ if number.is_multiple_of(7) => Some("\"down\""),
        _ if number.is_multiple_of(11) => Some("{\"code\":500}"),
        _ => None,
    }
}

fn event(number: u64) -> String {
    let status = unfit(number).map_or_else(|| (200 + number % 300).to_string(), str::to_owned);
    format!("{{\"number\":{number},\"status\":{status}}}\n")
}

fn numbers(documents: &[Document]) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        documents.iter().map(|document| document.source["number"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn events_with_mapping_conflicts_are_rejected_and_stored_once_after_a_fix() {
    let search = steady().search();
    let mappings = json!({"properties": {"status": {"type": "integer"}}});
    search.put_template("typed", &json!({"index_patterns": ["typed-*"], "template": {"mappings": mappings}}));
    let case = Case::new("conflicts");
    let input = from_file(&case, ", parse: json");
    // Without ids, so that an event that is sent twice is stored twice.
    let output = to_index(&steady().url(), "typed-events", ", request_bytes: 64KiB");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), (1..=EVENTS).map(event).collect::<String>()).expect("events");
    let mut product =
        scene.start_expecting(&["moved to the dead letter queue; the first: status 400, mapper_parsing_exception"]);

    let refused = (1..=EVENTS).filter(|number| unfit(*number).is_some()).count() as u64;
    wait_for("events that were sent or refused", || {
        match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
            left if left == (EVENTS - refused, refused) => Ok(()),
            left => Err(format!("{left:?}; {}", product.state())),
        }
    });
    scene.assert_balance(&mut product);
    assert_eq!(scene.retries("out"), Ok(0), "what will never be taken is not tried again");
    product.wait_for_log(&["mapper_parsing_exception", "failed to parse field [status] of type [integer]", "down"]);
    let there = numbers(&search.documents("typed-events"));
    assert_eq!(there, (1..=EVENTS).filter(|number| unfit(*number).is_none()).collect::<Vec<_>>());
    let letters = letters(&scene);
    assert_eq!(letters.len() as u64, refused);
    let reasons: Vec<&str> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("status 400, mapper_parsing_exception")), "{reasons:?}");

    // Nothing is fixed yet.
    let replay = dlq(&scene, &["replay"]);
    assert_eq!(replay.status.code(), Some(1), "{}{}", text(&replay.stdout), text(&replay.stderr));
    assert_eq!(self::letters(&scene).len() as u64, refused);
    // The index with the other name does not check the types of fields.
    let mappings = json!({"properties": {"status": {"type": "object", "enabled": false}}});
    search.put_template("typed", &json!({"index_patterns": ["typed-*"], "template": {"mappings": mappings}}));
    let config = fs::read_to_string(&scene.config).expect("the configuration");
    scene.case.write("tailwater.yaml", config.replace("typed-events", "typed-mended").as_bytes());
    let replay = dlq(&scene, &["replay"]);
    assert_eq!(replay.status.code(), Some(0), "{}{}", text(&replay.stdout), text(&replay.stderr));
    assert!(
        text(&replay.stdout).contains(&format!("{refused} delivered, 0 rejected again")),
        "{}",
        text(&replay.stdout)
    );
    assert!(self::letters(&scene).is_empty());
    product.terminate();
    assert_eq!(numbers(&search.documents("typed-*")), (1..=EVENTS).collect::<Vec<_>>());
}

/// Runs a command on the dead letters.
fn dlq(scene: &Scene, arguments: &[&str]) -> Output {
    let config = scene.config.to_str().expect("UTF-8");
    run_to_end(&[&["dlq"], arguments, &["-c", config]].concat())
}

fn letters(scene: &Scene) -> Vec<Value> {
    let shown = dlq(scene, &["cat"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    text(&shown.stdout).lines().map(|line| serde_json::from_str(line).expect("a letter is JSON")).collect()
}

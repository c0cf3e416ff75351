//! Requests that are rejected as a whole because of some of their events: these are found and kept, and the others arrive.

use crate::case::Case;
use crate::lines::{Arrived, block, number};
use crate::node::steady;
use crate::product::{Product, run_to_end, text};
use crate::scene::{Scene, from_file, to_index};
use crate::server::{Plan, Server};
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

const EVENTS: u64 = 2_000;

/// Waits until this many events were sent, and this many rejected.
fn wait_for_balance(scene: &Scene, product: &mut Product, sent: u64, refused: u64) {
    wait_for("events that were sent or refused", || {
        match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
            left if left == (sent, refused) => Ok(()),
            left => Err(format!("{left:?}; {}", product.state())),
        }
    });
    scene.assert_balance(product);
}

/// The originals and the reasons of all dead letters.
fn letters(scene: &Scene) -> Vec<(Value, String)> {
    let shown = run_to_end(&["dlq", "cat", "-c", scene.config.to_str().expect("UTF-8")]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let letter = |line: &str| {
        let letter: Value = serde_json::from_str(line).expect("a letter is JSON");
        let part = |name: &str| letter[name].as_str().expect("text").to_owned();
        (serde_json::from_str(&part("original")).expect("an event"), part("reason"))
    };
    text(&shown.stdout).lines().map(letter).collect()
}

/// The two lines of this event in a bulk request; in some, the first line is invalid.
fn pair(number: u64) -> String {
    let action = match number {
        _ if number % 700 == 300 => json!({ "no such action": {} }),
        _ if number % 700 == 301 => json!({ "index": { "_id": "x".repeat(513) } }),
        _ => json!({ "index": { "_id": number.to_string() } }),
    };
    format!("{action}\n{}", json!({ "number": number }))
}

#[test]
fn events_that_spoil_a_request_to_a_real_server_are_found_and_all_others_arrive() {
    let search = steady().search();
    let case = Case::new("spoilt");
    let more = "framing: text, newlines: keep, headers: {content-type: application/x-ndjson}, batch: {max_age: 500ms}";
    let output = format!("{{type: http, url: \"{}/spoilt/_bulk\", {more}}}", steady().url());
    let scene = Scene::new(case, "{type: stdin, parse: json}", &[("out", output)]);
    let (mut product, mut input) = Product::start_piped(&scene.case, &scene.config);
    product.expect("moved to the dead letter queue; the first: ");
    for number in 1..=EVENTS {
        writeln!(input, "{}", json!({ "message": pair(number), "number": number })).expect("a line");
    }
    let guilty: Vec<u64> = (1..=EVENTS).filter(|number| [300, 301].contains(&(number % 700))).collect();
    wait_for_balance(&scene, &mut product, EVENTS - guilty.len() as u64, guilty.len() as u64);
    let requests = scene.retries("out");
    drop(input);
    assert_eq!(product.wait().code(), Some(0));
    assert_eq!(requests, Ok(0), "what is refused is not waited for");

    let mut there: Vec<u64> = search
        .documents("spoilt")
        .iter()
        .map(|document| document.source["number"].as_u64().expect("a number"))
        .collect();
    there.sort_unstable();
    assert_eq!(there, (1..=EVENTS).filter(|number| !guilty.contains(number)).collect::<Vec<_>>());
    let mut kept = letters(&scene);
    kept.sort_by_key(|(event, _)| event["number"].as_u64());
    assert_eq!(kept.iter().filter_map(|(event, _)| event["number"].as_u64()).collect::<Vec<_>>(), guilty);
    for (event, reason) in &kept {
        let why = if event["number"].as_u64().is_some_and(|number| number % 700 == 300) {
            "Malformed action"
        } else {
            "Validation Failed: 1: id [xxx"
        };
        assert!(reason.contains("HTTP 400") && reason.contains(why), "{reason}");
    }
}

/// The number of the line in an event.
fn line_number(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["message"].as_str().and_then(number).expect("a numbered line")
}

#[test]
fn bulk_requests_are_halved_until_the_events_at_fault_are_alone() {
    let server = Server::start(|_, _| Plan::Refuse(|event| line_number(event) % 500 == 7));
    let case = Case::new("halved");
    let input = from_file(&case, "");
    let scene = Scene::new(case, &input, &[("out", to_index(&server.url(), "halved", ", batch: {max_age: 1s}"))]);
    fs::write(scene.log(), block(1, EVENTS)).expect("lines");
    let mut product = scene.start_expecting(&["moved to the dead letter queue; the first: "]);
    wait_for_balance(&scene, &mut product, EVENTS - 4, 4);
    product.terminate();
    let taken = Arrived::of(EVENTS, server.taken().into_iter());
    assert!(taken.repeated().is_empty(), "taken again: {:?}", taken.repeated());
    assert_eq!(taken.lost(), [7, 507, 1007, 1507]);
    let kept = letters(&scene);
    assert!(kept.iter().all(|(_, reason)| reason.contains("HTTP 400") && !reason.contains("with others")), "{kept:?}");
    // Two requests for each halving, and the first requests.
    assert!(server.requests() <= 40 + 4 * 2 * 11, "{} requests", server.requests());
}

#[test]
fn server_that_rejects_everything_gets_a_bounded_number_of_requests_and_its_events_are_kept() {
    let server = Server::start(|_, _| Plan::Refuse(|_| true));
    let case = Case::new("refuses-all");
    let input = from_file(&case, "");
    let scene = Scene::new(case, &input, &[("out", to_index(&server.url(), "all", ", batch: {max_age: 1s}"))]);
    fs::write(scene.log(), block(1, EVENTS)).expect("lines");
    let mut product = scene.start_expecting(&["moved to the dead letter queue; the first: "]);
    wait_for_balance(&scene, &mut product, 0, EVENTS);
    product.terminate();
    assert!(server.requests() <= EVENTS as usize / 4, "{} requests", server.requests());
    let kept = letters(&scene).into_iter().map(|(event, _)| event);
    Arrived::of(EVENTS, kept).assert_exactly_once();
}

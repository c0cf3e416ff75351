//! How long a delivery is retried that a server accepts in part.

use crate::case::Case;
use crate::lines::{Arrived, block, number};
use crate::scene::{Scene, from_file};
use crate::server::{Plan, Server};
use crate::wait::wait_for;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const LINES: u64 = 40;

fn scene(server: &Server, retry: &str) -> Scene {
    let case = Case::new("patience");
    let input = from_file(&case, "");
    // All lines in one delivery.
    let more = format!("index: patience, batch: {{max_age: 1s}}, retry: {retry}");
    let output = format!("{{type: elasticsearch, endpoints: [\"{}\"], {more}}}", server.url());
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    scene
}

/// The number of the line in an event.
fn line_number(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["message"].as_str().and_then(number).expect("a numbered line")
}

#[test]
fn accepted_or_rejected_events_are_not_expired_with_the_rest() {
    let server = Server::start(|_, _| Plan::Sort(|_, event| [201, 429, 201, 400][(line_number(event) % 4) as usize]));
    let scene = scene(&server, "{initial: 20ms, max: 100ms, max_age: 1s}");
    let mut product = scene.start_expecting(&["status 429", "status 400", "moved to the dead letter queue"]);
    let dead = |reason: &str| scene.dead_letters("out", reason);
    wait_for("a delivery that is given up", || {
        match (scene.sent("out")?, dead("rejected")?, dead("retries_exhausted")?) {
            left if left == (LINES / 2, LINES / 4, LINES / 4) => Ok(()),
            left => Err(format!("{left:?}; {}", product.state())),
        }
    });
    scene.assert_balance(&mut product);
    product.terminate();
    let taken = Arrived::of(LINES, server.taken().into_iter());
    assert!(taken.repeated().is_empty(), "taken again: {:?}", taken.repeated());
    assert_eq!(taken.lost(), (1..=LINES).filter(|number| number % 2 == 1).collect::<Vec<_>>());
}

#[test]
fn partial_progress_resets_the_backoff() {
    let server = Server::start(|_, _| Plan::Sort(|place, _| if place == 0 { 201 } else { 429 }));
    let scene = scene(&server, "{initial: 100ms, max: 5m}");
    let mut product = scene.start_expecting(&["status 429"]);
    let begun = Instant::now();
    wait_for("all that is sent", || match scene.sent("out")? {
        LINES => Ok(()),
        sent => Err(format!("{sent}; {}", product.state())),
    });
    let took = begun.elapsed();
    scene.assert_balance(&mut product);
    product.terminate();
    Arrived::of(LINES, server.taken().into_iter()).assert_exactly_once();
    assert!(took < Duration::from_secs(30), "{took:?}");
}

//! Events that the server will never take: refused with its reason, counted, and no harm to the others of their request.

use crate::case::Case;
use crate::node::steady;
use crate::scene::{Scene, from_file, to_index};
use crate::wait::wait_for;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;

const LINES: u64 = 3_000;

/// Whether the mapping takes the line: every seventh is no number.
fn fits(number: u64) -> bool {
    !number.is_multiple_of(7)
}

#[test]
fn mapping_conflicts_refuse_their_events_and_no_others() {
    let search = steady().search();
    let mappings = json!({"properties": {"message": {"type": "integer"}}});
    search.put_template("typed", &json!({"index_patterns": ["typed-*"], "template": {"mappings": mappings}}));
    let case = Case::new("conflicts");
    let input = from_file(&case, "");
    let output = to_index(&steady().url(), "typed-events", ", id: hash, op: create, request_bytes: 64KiB");
    let scene = Scene::new(case, &input, &[("out", output)]);
    let line = |number| if fits(number) { format!("{number}\n") } else { format!("line {number}\n") };
    fs::write(scene.log(), (1..=LINES).map(line).collect::<String>()).expect("lines");
    let mut product = scene.start_expecting(&["events refused, the first: status 400, mapper_parsing_exception"]);

    let unfit = LINES / 7;
    wait_for("events that were sent or refused", || match (scene.sent("out")?, scene.discarded("out", "rejected")?) {
        (sent, rejected) if (sent, rejected) == (LINES - unfit, unfit) => Ok(()),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    scene.assert_balance(&mut product);
    assert_eq!(scene.retries("out"), Ok(0), "what will never be taken is not tried again");
    product.wait_for_log(&["mapper_parsing_exception", "failed to parse field [message] of type [integer]", "line 7"]);
    product.terminate();
    let there: Vec<u64> = numbers(&search.documents("typed-events"));
    assert_eq!(there.len(), there.iter().collect::<BTreeSet<_>>().len(), "an event is there twice");
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), (1..=LINES).filter(|n| fits(*n)).collect());
}

/// The number in each document's line.
fn numbers(documents: &[tailwater_services::search::Document]) -> Vec<u64> {
    let message =
        |document: &tailwater_services::search::Document| document.source["message"].as_str().map(str::to_owned);
    let number = |line: String| line.trim_start_matches("line ").parse().ok();
    documents.iter().map(|document| message(document).and_then(number).expect("a line with a number")).collect()
}

//! Ids make an event one document, however often the product dies between sending it and learning that it was accepted.

use crate::case::Case;
use crate::lines::LineWriter;
use crate::node::steady;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::{pause, wait_for};
use std::thread;
use std::time::Duration;

const LINES: u64 = 20_000;
const KILLS: u64 = 6;

/// All outputs get the same events: with the hash of the event as id, with a template of its fields, and without an id.
fn outputs(url: &str) -> [(&'static str, String); 3] {
    // Small requests, one at a time, so that a request is in progress at each kill.
    let small = ", request_bytes: 64KiB, concurrency: 2, batch: {max_bytes: 256KiB}";
    let place = "{{ host }}:{{ file }}:{{ offset }}";
    [
        ("hashed", to_index(url, "kills-hashed", &format!(", op: create, id: hash{small}"))),
        (
            "placed",
            to_index(url, "kills-placed", &format!(", compression: gzip, id: \"{place}\", allow_replace: true{small}")),
        ),
        ("plain", to_index(url, "kills-plain", small)),
    ]
}

#[test]
fn events_are_stored_once_with_an_id_and_never_lost_without_one() {
    let search = steady().search();
    let mut case = Case::new("kills");
    case.shards = 2;
    let input = from_file(&case, "");
    let scene = Scene::new(case, &input, &outputs(&steady().url()));
    let mut writer = LineWriter::create(scene.log()).with_pace(LINES / 6);
    let writing = thread::spawn(move || writer.write_to(LINES));
    for kill in 1..=KILLS {
        let mut product = scene.start();
        // In the middle: this run has delivered something, and the last line is not written or not stored yet.
        wait_for("events that were sent", || match scene.sent("plain")? {
            0 => Err(product.state()),
            _ => Ok(()),
        });
        pause(Duration::from_millis(kill * 97 % 400));
        product.kill();
    }
    let mut product = scene.start();
    writing.join().expect("the writer");
    for index in ["kills-hashed", "kills-placed", "kills-plain"] {
        scene.wait_for_documents(&mut product, &search, index, LINES);
    }
    scene.assert_balance(&mut product);
    product.terminate();
    for index in ["kills-hashed", "kills-placed"] {
        documents(&search, index, LINES).assert_exactly_once();
    }
    let plain = documents(&search, "kills-plain", LINES);
    assert!(plain.lost().is_empty() && plain.others.is_empty(), "lost {:?}", plain.lost());
    println!("without an id {} events are there more than once", plain.repeated().len());
}

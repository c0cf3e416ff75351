//! A server that is killed during a run, and one that is down for a while: the WAL keeps what it cannot accept.

use crate::case::Case;
use crate::lines::LineWriter;
use crate::node::Fragile;
use crate::product::Product;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use std::thread;

/// Lines around the kill, and lines that are written while the server is down.
const LINES: u64 = 20_000;
const LINES_MEANWHILE: u64 = 5_000;

/// What the product may report about a server that is unreachable, shutting down or not ready yet.
const OUTAGE: [&str; 5] = ["refused", "connection", "the answer is incomplete", "HTTP 503", "status 503"];

fn wait_for_sent(scene: &Scene, product: &mut Product, events: u64) {
    wait_for(&format!("{events} events that were sent"), || match scene.sent("once")? {
        sent if sent >= events => Ok(()),
        sent => Err(format!("{sent}; {}", product.state())),
    });
}

#[test]
fn server_that_is_killed_or_stopped_gets_every_event_later() {
    let mut turn = Fragile::take(false);
    let node = turn.node();
    let (url, search) = (node.url(), node.search());
    let case = Case::new("outage");
    let input = from_file(&case, "");
    let small = ", request_bytes: 64KiB, batch: {max_bytes: 512KiB}";
    let once = to_index(&url, "outage-once", &format!(", op: create, id: hash{small}"));
    let scene = Scene::new(case, &input, &[("once", once), ("plain", to_index(&url, "outage-plain", small))]);
    let mut writer = LineWriter::create(scene.log()).with_pace(LINES / 5);
    let writing = thread::spawn(move || {
        writer.write_to(LINES);
        writer
    });
    let mut product = scene.start_expecting(&OUTAGE);

    wait_for_sent(&scene, &mut product, LINES / 10);
    node.kill();
    let sent = scene.sent("once").expect("a scrape");
    assert!(sent < LINES, "the kill came too late: {sent} events were sent");
    node.start_again();
    let mut writer = writing.join().expect("the writer");
    wait_for_sent(&scene, &mut product, LINES);

    node.stop();
    let retries = scene.retries("once").expect("a scrape");
    writer.burst_to(LINES + LINES_MEANWHILE);
    wait_for("a log that holds what the server cannot take", || {
        let (waiting, again) =
            (scene.counter("once", "tailwater_output_buffered_events")?, scene.retries("once")? - retries);
        if waiting == LINES_MEANWHILE && again > 3 { Ok(()) } else { Err(format!("{waiting} wait, {again} retries")) }
    });
    node.start_again();
    let lines = LINES + LINES_MEANWHILE;
    for index in ["outage-once", "outage-plain"] {
        scene.wait_for_documents(&mut product, &search, index, lines);
    }
    scene.assert_balance(&mut product);
    product.terminate();
    documents(&search, "outage-once", lines).assert_exactly_once();
    let plain = documents(&search, "outage-plain", lines);
    assert!(plain.lost().is_empty() && plain.others.is_empty(), "lost {:?}", plain.lost());
    println!("without an id {} events are there more than once", plain.repeated().len());
}

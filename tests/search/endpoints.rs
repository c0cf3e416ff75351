//! Several endpoints: one that refuses connections, one that accepts them and sends nothing, and the server.

use crate::case::Case;
use crate::lines::block;
use crate::node::steady;
use crate::scene::{Scene, documents, from_file};
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const LINES: u64 = 20_000;
/// Maximum time of a request.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of deliveries that are retried because of the other two, which are paused for twice as long after each
/// failure. If they took turns, a third of the requests, about 150, would fail.
const RETRIES_MAX: u64 = 24;

#[test]
fn dead_and_hanging_endpoints_delay_nothing() {
    let search = steady().search();
    let dead = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    // Connections wait in its queue, and requests in their buffers.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = hanging.local_addr().expect("an address").port();
    let case = Case::new("endpoints");
    let input = from_file(&case, "");
    let output = format!(
        "{{type: elasticsearch, endpoints: [\"http://127.0.0.1:{dead}\", \"http://127.0.0.1:{silent}\", \"{}\"], \
         index: endpoints, op: create, id: hash, compression: gzip, timeout: {}s, request_bytes: 64KiB, \
         retry: {{initial: 20ms, max: 200ms}}}}",
        steady().url(),
        TIMEOUT.as_secs(),
    );
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start_expecting(&["refused", "no answer within 1s"]);
    let begun = Instant::now();
    scene.wait_for_documents(&mut product, &search, "endpoints", LINES);
    let took = begun.elapsed();
    scene.assert_balance(&mut product);
    let retries = scene.retries("out").expect("a scrape");
    let log = product.log();
    assert!(log.contains(&format!(":{dead}: ")) && log.contains(&format!(":{silent}: ")), "both were tried: {log}");
    product.terminate();
    println!("{LINES} events took {took:?} with {retries} retries");
    assert!(retries <= RETRIES_MAX, "{retries} retries in {took:?}");
    documents(&search, "endpoints", LINES).assert_exactly_once();
}

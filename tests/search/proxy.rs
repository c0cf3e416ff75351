//! A real proxy in front of the server: it accepts only small requests, or has no server behind it.

use crate::case::Case;
use crate::lines::{Arrived, block};
use crate::node::steady;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::server::{Plan, Server};
use crate::wait::wait_for;
use std::fs;
use tailwater_services::nginx::Nginx;
use tailwater_services::ports::free_port;

const LINES: u64 = 5_000;

#[test]
fn requests_become_small_enough_for_a_proxy() {
    let search = steady().search();
    let to_server = format!("client_max_body_size 100k;\nlocation / {{ proxy_pass {}; }}", steady().url());
    let proxy = Nginx::start(false, &to_server, &[]);
    let case = Case::new("small-requests");
    let input = from_file(&case, "");
    let url = format!("http://127.0.0.1:{}", proxy.port());
    // Without ids: a request that is too large is not forwarded in part.
    let output = to_index(&url, "small-requests", ", batch: {max_age: 500ms}");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    // The proxy closes the connection, possibly before its response was read.
    let mut product = scene.start_expecting(&["HTTP 413", "connection", "error"]);
    scene.wait_for_documents(&mut product, &search, "small-requests", LINES);
    scene.assert_balance(&mut product);
    product.terminate();
    documents(&search, "small-requests", LINES).assert_exactly_once();
    let refused = proxy.requests().iter().filter(|line| line.starts_with("413")).count();
    assert!((1..20).contains(&refused), "{refused} requests were too large, of {}", proxy.requests().len());
}

#[test]
fn events_wait_while_a_proxy_has_no_server() {
    let case = Case::new("no-server");
    let away = free_port();
    // The proxy retries the server without a delay of its own.
    let to_server = format!("location / {{ proxy_pass http://127.0.0.1:{away}; }}");
    let proxy = Nginx::start(false, &to_server, &[]);
    let input = from_file(&case, "");
    let output = to_index(&format!("http://127.0.0.1:{}", proxy.port()), "no-server", ", request_bytes: 64KiB");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start_expecting(&["HTTP 502"]);
    wait_for("several tries", || match scene.retries("out")? {
        retries if retries > 3 => Ok(()),
        retries => Err(format!("{retries} retries; {}", product.state())),
    });
    assert_eq!((scene.sent("out"), scene.dead_letters("out", "rejected")), (Ok(0), Ok(0)));
    assert!(proxy.requests().iter().all(|line| line.starts_with("502")), "{:?}", proxy.requests());

    let server = Server::start_on(away, |_, _| Plan::Take);
    wait_for("all that is sent", || match scene.sent("out")? {
        LINES => Ok(()),
        sent => Err(format!("{sent}; {}", product.state())),
    });
    scene.assert_balance(&mut product);
    product.terminate();
    Arrived::of(LINES, server.taken().into_iter()).assert_exactly_once();
}

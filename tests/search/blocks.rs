//! Events that the server blocks for a reason that a person can fix: they wait, and none becomes a dead letter, unless events chose the
//! index and the server accepts those of others.

use crate::case::Case;
use crate::lines::block;
use crate::node::steady;
use crate::product::Product;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use serde_json::json;
use std::fs;
use std::io::Write;

const LINES: u64 = 500;

#[test]
fn blocked_events_wait_until_the_block_is_removed() {
    let search = steady().search();
    for kind in ["write", "read_only_allow_delete"] {
        let index = format!("barred-{}", kind.replace('_', "-"));
        search.create_index(&index, &json!({}));
        search.block(&index, kind, true);
        let case = Case::new("barred");
        let input = from_file(&case, "");
        let output = to_index(&steady().url(), &index, ", op: create");
        let scene = Scene::new(case, &input, &[("out", output)]);
        fs::write(scene.log(), block(1, LINES)).expect("lines");
        let mut product = scene.start_expecting(&["cluster_block_exception"]);
        product.wait_for_log(&["cluster_block_exception", "check the blocks of the index", "waiting_events\":500"]);
        assert_eq!(scene.dead_letters("out", "rejected"), Ok(0), "{kind}");
        search.block(&index, kind, false);
        scene.wait_for_documents(&mut product, &search, &index, LINES);
        scene.assert_balance(&mut product);
        product.terminate();
        documents(&search, &index, LINES).assert_exactly_once();
    }
}

/// One user names indexes that are closed, blocked, or without a shard. The events of another user wait for a while, and then no longer.
#[test]
fn index_that_an_event_chose_and_that_is_blocked_stops_no_other() {
    let search = steady().search();
    for index in ["chosen-closed", "chosen-blocked"] {
        search.create_index(index, &json!({}));
    }
    search.ask("POST", "/chosen-closed/_close", None);
    search.block("chosen-blocked", "write", true);
    let nowhere = json!({"settings": {"index.routing.allocation.require._name": "nowhere"}});
    search.ask("PUT", "/chosen-red?wait_for_active_shards=0", Some(&nowhere));
    // The server waits for a third of `timeout` before it says that the shard is missing.
    let output = to_index(&steady().url(), "chosen-{{ svc }}", ", batch: {max_age: 50ms}");
    let scene = Scene::new(Case::new("chosen"), "{type: stdin, parse: json}", &[("out", output)]);
    let (mut product, mut input) = Product::start_piped(&scene.case, &scene.config);
    ["index_closed_exception", "cluster_block_exception", "unavailable_shards", "similar lines", "dead letter"]
        .into_iter()
        .for_each(|part| product.expect(part));
    let mut send = |svc: &str| writeln!(input, "{{\"svc\":\"{svc}\"}}").expect("a line");
    let sent = |product: &mut Product, sent: u64, dead: u64| {
        wait_for("the events are decided", || match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
            both if both == (sent, dead) => Ok(()),
            other => Err(format!("{other:?} sent and dead; {}", product.state())),
        });
    };
    send("good");
    sent(&mut product, 1, 0);
    for svc in ["closed", "red", "blocked", "good"] {
        send(svc);
    }
    sent(&mut product, 2, 3);
    for svc in ["good", "red", "closed", "blocked"] {
        send(svc);
    }
    sent(&mut product, 3, 6);
    search.ask("POST", "/chosen-closed/_open", None);
    search.block("chosen-blocked", "write", false);
    for svc in ["closed", "blocked"] {
        send(svc);
    }
    sent(&mut product, 5, 6);
    drop(input);
    assert_eq!(product.wait().code(), Some(0));
}

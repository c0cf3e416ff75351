//! A server that is killed in the middle, and one that is down for a while: the log keeps what it cannot take.

use crate::case::Case;
use crate::lines::{LineWriter, block};
use crate::node::Fragile;
use crate::product::Product;
use crate::running::append;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use std::thread;

const LINES: u64 = 30_000;

/// What the product may say while the server is away or not ready.
const OUTAGE: [&str; 6] =
    ["refused", "no answer within", "connection", "the answer broke off", "HTTP 503", "status 503"];

fn wait_for_sent(scene: &Scene, product: &mut Product, events: u64) {
    wait_for(&format!("{events} events that were sent"), || match scene.sent("once")? {
        sent if sent >= events => Ok(()),
        sent => Err(format!("{sent}; {}", product.state())),
    });
}

#[test]
fn server_that_is_killed_and_stopped_gets_every_event() {
    let mut turn = Fragile::take(false);
    let (node, search) = (turn.node(), turn_search);
}

//! Events that the server blocks for a reason that a person can fix: they wait, and none becomes a dead letter.

use crate::case::Case;
use crate::lines::block;
use crate::node::steady;
use crate::scene::{Scene, documents, from_file, to_index};
use serde_json::json;
use std::fs;

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

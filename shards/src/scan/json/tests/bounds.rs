//! Limits of the parser and of the trie, and reads at the end of memory.

use super::*;

fn nested(levels: usize, open: &str, close: &str) -> Vec<u8> {
    format!("{{\"a\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1)).into_bytes()
}

#[test]
fn nesting_is_good_up_to_its_limit() {
    for (open, close) in [("[", "]"), ("{\"b\":", "}"), ("[[{\"x\" : [ {\"y\":[", "]}]}]]"), ("[ ", " ]")] {
        for levels in 1..140 {
            let text = nested(levels, open, close);
            check(&text, &split(&text), 100);
        }
    }
    for levels in [63, 64, 65] {
        let text = nested(levels, "[", "]");
        let (lines, _) = check(&text, &split(&text), 100);
        assert_eq!(lines.lines[0].node != NodeId::BAD, levels <= 64, "{levels} levels");
    }
}

//! Reports the content of a cluster's dead letter queues to the oracle.
//!
//! Guarantees: each letter counts once, however often it was stored. A letter without a cause is a violation, and so is damage
//! in a sealed segment, because nothing rots there. Reads the files as any program would.

use super::setup::{DATA_DIR, output_name};
use super::{Cluster, decode_line, encode_line};
use crate::counters::DeadLettered;
use crate::dlq::segment::{Found, Segment, list};
use crate::dlq::{ComponentKind, DeadLetter, folder};
use crate::env::Disk as _;
use crate::sim::oracle::{Oracle, OutputIndex};
use std::path::Path;

impl Cluster {
    /// Reports every letter to the oracle. A segment that is being written ends with its last letter.
    pub(super) fn read_letters(&self) {
        let disk = self.simulation.disk();
        let all = folder(Path::new(DATA_DIR));
        for shard in disk.list(&all).unwrap_or_default() {
            for entry in list(disk, &all.join(&shard.name)).unwrap_or_default() {
                let Ok(segment) = Segment::open(disk, &entry.path) else { continue };
                let oracle = &mut self.ledger.state().oracle;
                let mut walk = segment.walk();
                while let Ok(Some(found)) = walk.next() {
                    match found {
                        Found::Letter(kept) => tell(oracle, &kept.letter, self.setup.outputs.len()),
                        // Nothing was promised about torn bytes there.
                        Found::Damage { .. } if !entry.sealed => {}
                        Found::Damage { offset, bytes } => {
                            oracle.damage(&format!("{bytes} bytes from {offset} of dead letters in {:?}", entry.path));
                        }
                    }
                }
            }
        }
    }
}

fn tell(oracle: &mut Oracle, letter: &DeadLetter<'_>, outputs: usize) {
    let named = (0..outputs).find(|output| output_name(*output) == letter.component);
    let mut line = Vec::new();
    let (line, whose, sure) = match (letter.kind, named) {
        (ComponentKind::Output, Some(output)) => {
            let refused = letter.place == DeadLettered::Rejected.name();
            (letter.original, vec![output], refused)
        }
        // An event that did not fit in the log was already a line of the log.
        _ if letter.place == "log" => (letter.original, (0..outputs).collect(), false),
        _ => {
            encode_line(letter.source, letter.original, &mut line);
            (line.as_slice(), (0..outputs).collect(), false)
        }
    };
    for output in whose.into_iter().map(|output| OutputIndex(output as u8)) {
        match decode_line(line) {
            Some(event) => oracle.dead_letter(output, letter.place, event, sure),
            None => oracle.garbled(output, "a dead letter that was no event"),
        }
    }
}

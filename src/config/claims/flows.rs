//! Where the content of output files goes: inputs that read them feed other outputs.
//!
//! Guarantees: what an output writes never comes back to it, over any number of inputs and outputs: the input that would close the
//! ring is told. Holds at most one entry per pair of outputs. Knows only what is read in this run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// For each output: the outputs that get what is read from its files. Without a ring.
#[derive(Debug, Default)]
pub struct Flows(BTreeMap<Arc<str>, BTreeSet<Arc<str>>>);

impl Flows {
    /// Whether what goes to the outputs `to` reaches `from`.
    pub fn come_back(&self, from: &Arc<str>, to: &BTreeSet<Arc<str>>) -> bool {
        // Most are known, and what is known is no part of a ring.
        if self.0.get(from).is_some_and(|known| to.is_subset(known)) {
            return false;
        }
        let mut reached: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut left: Vec<&Arc<str>> = to.iter().collect();
        while let Some(output) = left.pop() {
            if reached.insert(output) {
                left.extend(self.0.get(output).into_iter().flatten());
            }
        }
        reached.contains(from)
    }

    /// Records that an input reads what `from` writes and feeds the outputs `to`. False if that would come back to `from`.
    pub fn add(&mut self, from: &Arc<str>, to: &BTreeSet<Arc<str>>) -> bool {
        if self.come_back(from, to) {
            return false;
        }
        match self.0.get_mut(from) {
            Some(known) if to.is_subset(known) => {}
            Some(known) => known.extend(to.iter().cloned()),
            None => drop(self.0.insert(from.clone(), to.clone())),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_would_close_a_ring_is_refused_and_chains_are_not() {
        let mut flows = Flows::default();
        let mut add = |from: &str, to: &[&str]| flows.add(&from.into(), &to.iter().map(|&name| name.into()).collect());
        assert!(!add("x", &["x"]), "its own output");
        assert!(add("x", &["y"]));
        assert!(!add("y", &["x"]), "a ring of two");
        assert!(add("y", &["z", "w"]));
        assert!(!add("z", &["v", "x"]), "a ring of three");
        assert!(add("z", &["w"]), "two ways to one output are no ring");
        assert!(add("x", &["y"]), "what is known");
        assert!(add("x", &["w"]));
        assert!(!add("w", &["y"]) && add("w", &["v"]), "what was refused left nothing behind");
    }
}

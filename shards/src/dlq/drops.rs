//! Which components lose letters because the queue has no space for them.
//!
//! Guarantees: it is in the application log when that begins for a component, every minute how many letters it lost, and when it lost
//! none for a minute. Holds one entry for each component of the configuration at most. Does not decide what is dropped: the store does.

use super::letter::ComponentKind;
use crate::env::{Monotonic, Timestamp};
use crate::spell::{News, Spell};

/// A component that loses letters.
struct Loser {
    kind: ComponentKind,
    name: String,
    since: Timestamp,
    letters: u64,
    spell: Spell,
}

/// See the module.
#[derive(Default)]
pub struct Drops(Vec<Loser>);

impl Drops {
    /// Records that a letter of a component was dropped.
    pub fn add(&mut self, kind: ComponentKind, name: &str, now: Timestamp) {
        match self.0.iter_mut().find(|loser| loser.kind == kind && loser.name == name) {
            Some(loser) => loser.letters += 1,
            None => {
                self.0.push(Loser { kind, name: name.to_owned(), since: now, letters: 1, spell: Spell::default() });
            }
        }
    }

    /// Reports what is due. Returns whether a component began or ceased to lose letters.
    pub fn report(&mut self, now: Monotonic) -> bool {
        let mut has_changed = false;
        self.0.retain_mut(|Loser { kind, name, letters, spell, .. }| {
            let Some(news) = spell.look(*letters, now) else { return true };
            let (name, kind) = (name.as_str(), kind.name());
            match news {
                News::Begins => tracing::warn!(
                    component_id = name,
                    component_kind = kind,
                    "the dead letter queue has no more space for this component, and its dead letters are dropped; replay or purge letters \
                     (tailwater dlq), raise dlq.max_bytes, or let it wait (when_full: block)"
                ),
                News::Lasts(letters) => {
                    tracing::warn!(component_id = name, component_kind = kind, letters, "dead letters were dropped, and more may follow");
                }
                News::Over(letters) => {
                    tracing::info!(component_id = name, component_kind = kind, letters, "no dead letter was dropped for a minute");
                }
            }
            has_changed |= !matches!(news, News::Lasts(_));
            !matches!(news, News::Over(_))
        });
        has_changed
    }

    /// The components that lose letters, and since when.
    pub fn iter(&self) -> impl Iterator<Item = (ComponentKind, &str, Timestamp)> {
        self.0.iter().map(|loser| (loser.kind, loser.name.as_str(), loser.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spell::SPELL;

    #[test]
    fn component_is_named_as_long_as_it_loses_letters() {
        let mut drops = Drops::default();
        let (begin, kind) = (Monotonic(7), ComponentKind::Output);
        assert!(!drops.report(begin));
        for letter in 0..3 {
            drops.add(kind, "es", Timestamp(letter));
        }
        drops.add(ComponentKind::Input, "es", Timestamp(9));
        assert!(drops.report(begin) && !drops.report(begin));
        let named: Vec<_> = drops.iter().collect();
        assert_eq!(named, [(kind, "es", Timestamp(0)), (ComponentKind::Input, "es", Timestamp(9))]);
        drops.add(kind, "es", Timestamp(10));
        assert!(!drops.report(begin.after(SPELL / 2)));
        assert!(drops.report(begin.after(SPELL)), "the input lost none for a minute");
        assert_eq!(drops.iter().count(), 1);
        assert!(drops.report(begin.after(SPELL * 2)) && drops.iter().next().is_none());
    }
}

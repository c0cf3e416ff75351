//! Shares: how much of one shard's queue each component holds, and each source of it, and whether it may hold more.
//!
//! Guarantees: no component and no source can use all of the queue. What one may hold depends on what is free: a component at
//! most [`SHARE_OF_FREE`] times the bytes that remain free, and a source at most half of the bytes that its component may still
//! use. So each one that waits leaves space for the next one. Whoever holds nothing may store a letter if the queue has
//! space for it, and a source that holds little has space of its own when the share of its component is used up. Counts what the
//! segments on disk hold, also those of earlier starts.
//!
//! Bounded: a segment distinguishes [`SOURCES_OF_SEGMENT_MAX`] sources; the letters of all others count as those of one. Does
//! not read files, and does not decide what happens to a letter that is not admitted: the store does.

use super::letter::{self, ComponentKind};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many times what is free a component may hold. The first one can then use two thirds of the queue, the next one two thirds
/// of the rest, and so on. The first source of a component can use two fifths of the queue, the next one two fifths of that.
pub const SHARE_OF_FREE: u64 = 2;

/// The same for letters of sources that hold little: others may have used the share of their component.
const SHARE_FOR_FEW: u64 = 8 * SHARE_OF_FREE;

/// Which part of what is free such a source may hold.
const FEW_OF_FREE: u64 = 32;

/// Sources that are distinguished in one segment. A stranger decides how many there are.
pub const SOURCES_OF_SEGMENT_MAX: usize = 1024;

/// Whose letter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    component: u64,
    source: Source,
}

/// What a component's letters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Unknown, as for letters of outputs: only the share of the component applies.
    None,
    Named(u64),
    /// One of those that are not distinguished.
    Other,
}

/// A component with letters in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its kind.
    pub kind: ComponentKind,
    /// Its configured name.
    pub name: Arc<str>,
    /// Bytes of its letters.
    pub bytes: u64,
}

/// What a component holds.
struct Held {
    kind: ComponentKind,
    name: Arc<str>,
    bytes: u64,
    sources: BTreeMap<Source, u64>,
}

/// What is in one segment, by owner.
#[derive(Default)]
struct Tally(BTreeMap<Owner, u64>);

/// A sealed segment.
struct Sealed {
    /// The length that its file had.
    length: u64,
    tally: Tally,
}

/// See the module.
#[derive(Default)]
pub struct Shares {
    components: BTreeMap<u64, Held>,
    sealed: BTreeMap<u64, Sealed>,
    open: Tally,
}

impl Shares {
    /// The owner of the encoded letter at the beginning of `bytes`.
    pub fn owner(&mut self, bytes: &[u8]) -> Owner {
        match letter::owner(bytes) {
            Ok((kind, component, source)) => self.owner_of(kind, component, source),
            Err(_) => Owner { component: 0, source: Source::None },
        }
    }

    /// The owner of the letters of a component and a source.
    pub fn owner_of(&mut self, kind: ComponentKind, component: &str, source: &[u8]) -> Owner {
        let number = hash(&(kind, component));
        let held = || Held { kind, name: component.into(), bytes: 0, sources: BTreeMap::new() };
        self.components.entry(number).or_insert_with(held);
        let source = if source.is_empty() { Source::None } else { Source::Named(hash(source)) };
        Owner { component: number, source }
    }

    /// Whether a letter of `bytes` may be stored while `free` bytes of the queue are.
    pub fn admits(&self, owner: Owner, bytes: u64, free: u64) -> bool {
        let Some(left) = free.checked_sub(bytes) else { return false };
        let Some(held) = self.components.get(&owner.component).filter(|held| held.bytes > 0) else { return true };
        let of_source = held.sources.get(&owner.source).copied().unwrap_or(0);
        let (of_component, of_source, is_known) = (held.bytes + bytes, of_source + bytes, owner.source != Source::None);
        let rest = SHARE_OF_FREE.saturating_mul(left).checked_sub(of_component);
        let has_share = rest.is_some_and(|rest| !is_known || of_source == bytes || of_source <= rest / 2);
        let is_few = is_known && of_source <= left / FEW_OF_FREE && of_component <= SHARE_FOR_FEW.saturating_mul(left);
        has_share || is_few
    }

    /// Records that a letter was added to the open segment.
    pub fn add(&mut self, owner: Owner, bytes: u64) {
        let added = self.open.add(owner, bytes);
        self.count(added, bytes);
    }

    /// Records that the open segment was sealed with this number and length.
    pub fn seal(&mut self, number: u64, length: u64) {
        let tally = std::mem::take(&mut self.open);
        self.sealed.insert(number, Sealed { length, tally });
    }

    /// Forgets the open segment, of which it is unknown what is left.
    pub fn forget_open(&mut self) {
        let tally = std::mem::take(&mut self.open);
        self.release(&tally);
    }

    /// Whether the content of a sealed segment is known.
    pub fn knows(&self, number: u64, length: u64) -> bool {
        self.sealed.get(&number).is_some_and(|sealed| sealed.length == length)
    }

    /// Begins to record what a sealed segment holds: nothing so far.
    pub fn learn(&mut self, number: u64, length: u64) {
        self.forget(number);
        self.sealed.insert(number, Sealed { length, tally: Tally::default() });
    }

    /// Records a letter of such a segment.
    pub fn learn_letter(&mut self, number: u64, owner: Owner, bytes: u64) {
        if let Some(sealed) = self.sealed.get_mut(&number) {
            let added = sealed.tally.add(owner, bytes);
            self.count(added, bytes);
        }
    }

    /// Forgets all sealed segments except those for which `exists` is true.
    pub fn retain(&mut self, exists: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.sealed.keys().copied().filter(|number| !exists(*number)).collect();
        gone.into_iter().for_each(|number| self.forget(number));
        // Components that are no longer configured disappear with their last letter.
        self.components.retain(|_, held| held.bytes > 0);
    }

    /// The number of the oldest sealed segment that holds more letters of `owner`'s component than of all others.
    pub fn oldest_mostly_of(&self, owner: Owner) -> Option<u64> {
        let of = |tally: &Tally, wanted: bool| -> u64 {
            tally.0.iter().filter(|(of, _)| (of.component == owner.component) == wanted).map(|(_, bytes)| bytes).sum()
        };
        let mut sealed = self.sealed.iter();
        sealed.find(|(_, sealed)| of(&sealed.tally, true) > of(&sealed.tally, false)).map(|(number, _)| *number)
    }

    /// The components with letters, by kind and name.
    pub fn holders(&self) -> Vec<Holder> {
        let some = self.components.values().filter(|held| held.bytes > 0);
        let holder = |held: &Held| Holder { kind: held.kind, name: held.name.clone(), bytes: held.bytes };
        let mut holders: Vec<Holder> = some.map(holder).collect();
        holders.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        holders
    }

    fn forget(&mut self, number: u64) {
        if let Some(sealed) = self.sealed.remove(&number) {
            self.release(&sealed.tally);
        }
    }

    fn count(&mut self, owner: Owner, bytes: u64) {
        if let Some(held) = self.components.get_mut(&owner.component) {
            held.bytes += bytes;
            *held.sources.entry(owner.source).or_default() += bytes;
        }
    }

    fn release(&mut self, tally: &Tally) {
        for (owner, bytes) in &tally.0 {
            let Some(held) = self.components.get_mut(&owner.component) else { continue };
            held.bytes -= bytes;
            if let Some(of_source) = held.sources.get_mut(&owner.source) {
                *of_source -= bytes;
                if *of_source == 0 {
                    held.sources.remove(&owner.source);
                }
            }
        }
    }
}

impl Tally {
    /// Adds bytes, and returns as whose they count.
    fn add(&mut self, owner: Owner, bytes: u64) -> Owner {
        let is_known = self.0.contains_key(&owner) || owner.source == Source::None;
        let owner = match is_known || self.0.len() < SOURCES_OF_SEGMENT_MAX {
            true => owner,
            false => Owner { source: Source::Other, ..owner },
        };
        *self.0.entry(owner).or_default() += bytes;
        owner
    }
}

fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Shares {
        fn learn_all(&mut self, number: u64, length: u64, letters: &[(Owner, u64)]) {
            self.learn(number, length);
            letters.iter().for_each(|(owner, bytes)| self.learn_letter(number, *owner, *bytes));
        }
    }

    const QUEUE: u64 = 1_000_000;
    const LETTER: u64 = 100;

    /// Adds letters of `owner` until no more are admitted. Returns how many bytes were.
    fn fill(shares: &mut Shares, owner: Owner) -> u64 {
        let mut added = 0;
        while shares.admits(owner, LETTER, QUEUE - shares.holders().iter().map(|holder| holder.bytes).sum::<u64>()) {
            shares.add(owner, LETTER);
            added += LETTER;
        }
        added
    }

    #[test]
    fn each_component_that_fills_its_share_leaves_space_for_the_next() {
        let mut shares = Shares::default();
        let mut before = QUEUE;
        for number in 0..7 {
            let owner = shares.owner_of(ComponentKind::Output, &format!("output {number}"), b"");
            let added = fill(&mut shares, owner);
            assert!(added >= 2 * LETTER && added <= before, "component {number} got {added} after {before}");
            before = added;
        }
        assert_eq!(shares.holders()[0].bytes / 1000, 666, "the first one could use two thirds");
    }

    #[test]
    fn each_source_that_fills_its_share_leaves_space_for_the_next() {
        let mut shares = Shares::default();
        let all: Vec<u64> = (0..7)
            .map(|number| {
                let owner = shares.owner_of(ComponentKind::Input, "app", format!("{number}.log").as_bytes());
                fill(&mut shares, owner)
            })
            .collect();
        assert!(all[0] / 1000 == 400 && all.iter().all(|added| *added >= 2 * LETTER), "{all:?}");
        let other = shares.owner_of(ComponentKind::Output, "es", b"");
        assert!(fill(&mut shares, other) > QUEUE / 10, "the component left space for others");
    }

    #[test]
    fn source_that_holds_little_has_space_although_others_used_the_share_of_its_component() {
        let mut shares = Shares::default();
        let mut owner = |component: &str, source: &[u8]| shares.owner_of(ComponentKind::Output, component, source);
        let (eve, ann, web) = (owner("search", b"eve"), owner("search", b"ann"), owner("web", b""));
        let unknown = owner("search", b"");
        for _ in 0..3 {
            fill(&mut shares, eve);
            fill(&mut shares, unknown);
            fill(&mut shares, web);
        }
        let before = QUEUE - shares.holders().iter().map(|holder| holder.bytes).sum::<u64>();
        assert_eq!((fill(&mut shares, eve), fill(&mut shares, web)), (0, 0), "their shares are used up");
        assert!(fill(&mut shares, ann) >= 5 * LETTER, "{before} bytes are free");
        for number in 0..5000_u64 {
            let one = shares.owner_of(ComponentKind::Output, "search", &number.to_le_bytes());
            fill(&mut shares, one);
        }
        let left = QUEUE - shares.holders().iter().map(|holder| holder.bytes).sum::<u64>();
        assert!(left > before / 4, "sources without number leave {left} of {before} bytes");
    }

    #[test]
    fn whoever_holds_nothing_may_use_all_that_is_free() {
        let mut shares = Shares::default();
        let (one, two) =
            (shares.owner_of(ComponentKind::Output, "one", b""), shares.owner_of(ComponentKind::Output, "two", b""));
        assert!(shares.admits(one, QUEUE, QUEUE) && !shares.admits(one, QUEUE + 1, QUEUE));
        shares.add(one, QUEUE / 2);
        assert!(!shares.admits(one, QUEUE / 2, QUEUE / 2) && shares.admits(two, QUEUE / 2, QUEUE / 2));
    }

    #[test]
    fn what_a_segment_held_is_free_again_when_it_is_gone() {
        let mut shares = Shares::default();
        let (one, two) =
            (shares.owner_of(ComponentKind::Input, "app", b"a"), shares.owner_of(ComponentKind::Input, "app", b"b"));
        shares.add(one, 70);
        shares.seal(1, 4096);
        shares.learn_all(2, 4096, &[(two, 5), (one, 3)]);
        shares.add(two, 9);
        assert!(shares.knows(1, 4096) && !shares.knows(1, 80) && !shares.knows(3, 4096));
        assert_eq!(shares.holders()[0].bytes, 87);
        shares.learn_all(1, 80, &[(one, 30)]);
        assert_eq!(shares.holders()[0].bytes, 47, "a segment that was written again counts as it is now");
        shares.forget_open();
        shares.retain(|number| number == 2);
        assert_eq!((shares.holders()[0].bytes, shares.components.len()), (8, 1));
        shares.retain(|_| false);
        assert!(shares.holders().is_empty() && shares.components.is_empty());
    }

    #[test]
    fn the_oldest_segment_of_a_component_is_the_one_that_is_mostly_its() {
        let mut shares = Shares::default();
        let (one, two) =
            (shares.owner_of(ComponentKind::Input, "app", b"a"), shares.owner_of(ComponentKind::Output, "es", b""));
        shares.learn_all(1, 10, &[(two, 50), (one, 10)]);
        shares.learn_all(2, 10, &[(two, 10), (one, 11)]);
        shares.learn_all(3, 10, &[(one, 10)]);
        assert_eq!((shares.oldest_mostly_of(one), shares.oldest_mostly_of(two)), (Some(2), Some(1)));
        let nobody = shares.owner_of(ComponentKind::Output, "none", b"");
        assert_eq!(shares.oldest_mostly_of(nobody), None);
    }

    #[test]
    fn sources_beyond_the_bound_count_as_one() {
        let mut shares = Shares::default();
        for number in 0..3 * SOURCES_OF_SEGMENT_MAX as u64 {
            let owner = shares.owner_of(ComponentKind::Input, "app", &number.to_le_bytes());
            shares.add(owner, 1);
        }
        assert_eq!(shares.open.0.len(), SOURCES_OF_SEGMENT_MAX + 1);
        assert_eq!(
            shares.components.values().map(|held| held.sources.len()).sum::<usize>(),
            SOURCES_OF_SEGMENT_MAX + 1
        );
        assert_eq!(shares.holders()[0].bytes, 3 * SOURCES_OF_SEGMENT_MAX as u64);
    }
}

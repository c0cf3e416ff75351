//! Room: how much of what the write-ahead log can hold of positions is used by files that are followed, and who may use how much.
//!
//! Guarantees: no user, no tree of directories and no directory can use all of the room. What one may hold depends on what is free:
//! at most [`OF_OWNER`], [`OF_TREE`] or [`OF_DIRECTORY`] times the bytes that remain free. So each one that is at its limit leaves
//! room for the next one, whatever their number, and whoever holds nothing may use all that is free. A user who holds little has room
//! also where somebody else filled a tree or directory. Nothing has to be configured, and a host with a single user can use nearly
//! everything. Memory grows with the number of those that hold something, and each holds bytes.
//!
//! All inputs of a process share one room. Does not know files, and does not decide what happens to what has no room.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many times what is free a user may hold: eight ninths, if nobody else holds anything.
pub const OF_OWNER: u64 = 8;

/// The same for a tree: a directory directly below the fixed part of a pattern, with everything in it.
pub const OF_TREE: u64 = 6;

/// The same for one directory.
pub const OF_DIRECTORY: u64 = 4;

/// A user who holds less than this part of what is free has room in trees and directories that others filled, up to so many times
/// their share.
const FEW_OF_FREE: u64 = 16;
const FOR_FEW: u64 = 4;

/// How many times as much one may hold for a moment, while what it holds is being moved.
pub const WHILE_MOVED: u64 = 2;

/// A directory and the tree in which it is, as hashes with secret keys: strangers choose the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    tree: u64,
    directory: u64,
}

/// Whose it is and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The user.
    pub owner: u32,
    /// The directory.
    pub site: Site,
}

/// A holder of room. See [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Owner(u32),
    Tree(u64),
    Directory(u64),
}

/// Bytes that are held until they are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Claim {
    owner: u32,
    site: Site,
    bytes: u32,
    /// Whether the user is known.
    has_owner: bool,
}

impl Claim {
    fn holders(&self) -> impl Iterator<Item = (Holder, u64)> + use<> {
        let owner = self.has_owner.then_some((Holder::Owner(self.owner), OF_OWNER));
        let directory = (Holder::Directory(self.site.directory), OF_DIRECTORY);
        owner.into_iter().chain([(Holder::Tree(self.site.tree), OF_TREE), directory])
    }
}

#[derive(Debug)]
struct Inner {
    capacity: u64,
    used: u64,
    held: HashMap<Holder, u64>,
    /// Changes whenever room is released.
    released: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Room {
    hasher: RandomState,
    inner: Mutex<Inner>,
}

impl Default for Room {
    /// Room for everything.
    fn default() -> Room {
        Room::of(u64::MAX / OF_OWNER)
    }
}

impl Room {
    /// Room for this many bytes.
    pub fn of(capacity: u64) -> Room {
        let inner = Inner { capacity, used: 0, held: HashMap::new(), released: 0 };
        Room { hasher: RandomState::new(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are used, and all bytes.
    pub fn level(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.used, inner.capacity)
    }

    /// A number that changes whenever room is released.
    pub fn released(&self) -> u64 {
        self.lock().released
    }

    /// A directory in a tree.
    pub fn site(&self, tree: &Path, directory: &Path) -> Site {
        Site { tree: self.hasher.hash_one(tree), directory: self.hasher.hash_one(directory) }
    }

    /// Whether the holders of a claim may have this many bytes more, with `times` their shares.
    fn admits(&self, claim: &Claim, bytes: u32, times: u64) -> bool {
        let (inner, bytes) = (self.lock(), u64::from(bytes));
        let Some(left) = inner.capacity.saturating_sub(inner.used).checked_sub(bytes) else { return false };
        let held = |holder| inner.held.get(&holder).copied().unwrap_or(0);
        let is_few = claim.has_owner && held(Holder::Owner(claim.owner)) + bytes <= left / FEW_OF_FREE;
        claim.holders().all(|(holder, share)| {
            let wider = if is_few && !matches!(holder, Holder::Owner(_)) { FOR_FEW } else { 1 };
            held(holder) == 0 || held(holder) + bytes <= (times * wider * share).saturating_mul(left)
        })
    }
}

/// What one input holds. Released when it ends.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    mine: HashMap<Holder, u64>,
    used: u64,
}

impl Held {
    /// Nothing yet.
    pub fn in_room(room: Arc<Room>) -> Held {
        Held { room, mine: HashMap::new(), used: 0 }
    }

    /// The room.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Claims `bytes`, if the holders may have that many more.
    pub fn claim(&mut self, place: Place, bytes: u32) -> Option<Claim> {
        let claim = Claim { owner: place.owner, site: place.site, bytes, has_owner: true };
        self.room.admits(&claim, bytes, 1).then(|| self.add(claim))
    }

    /// Claims `bytes` for something that has room, and needs more while it is being moved: up to [`WHILE_MOVED`] times what the
    /// holders may have otherwise. So what is renamed seldom waits, and others have room whoever renames or links.
    pub fn claim_again(&mut self, place: Place, bytes: u32) -> Option<Claim> {
        let claim = Claim { owner: place.owner, site: place.site, bytes, has_owner: true };
        self.room.admits(&claim, bytes, WHILE_MOVED).then(|| self.add(claim))
    }

    /// Claims `bytes` for something whose room `old` is released next. Only what it needs in addition may be refused,
    /// as by [`Held::claim_again`].
    pub fn claim_in_place_of(&mut self, old: Claim, place: Place, bytes: u32) -> Option<Claim> {
        let claim = Claim { owner: place.owner, site: place.site, bytes, has_owner: true };
        let more = bytes.saturating_sub(old.bytes);
        (more == 0 || self.room.admits(&claim, more, WHILE_MOVED)).then(|| self.add(claim))
    }

    /// Claims `bytes` for something that an earlier run held there, whoever owns it.
    pub fn reserve(&mut self, site: Site, bytes: u32) -> Claim {
        self.add(Claim { owner: 0, site, bytes, has_owner: false })
    }

    fn add(&mut self, claim: Claim) -> Claim {
        let mut inner = self.room.lock();
        let bytes = u64::from(claim.bytes);
        inner.used += bytes;
        self.used += bytes;
        for (holder, _) in claim.holders() {
            *inner.held.entry(holder).or_default() += bytes;
            *self.mine.entry(holder).or_default() += bytes;
        }
        claim
    }

    /// Releases what was claimed here.
    pub fn release(&mut self, claim: Claim) {
        let mut inner = self.room.lock();
        let bytes = u64::from(claim.bytes);
        inner.used = inner.used.saturating_sub(bytes);
        inner.released += 1;
        self.used = self.used.saturating_sub(bytes);
        for (holder, _) in claim.holders() {
            subtract(&mut inner.held, holder, bytes);
            subtract(&mut self.mine, holder, bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.room.lock();
        inner.used = inner.used.saturating_sub(self.used);
        inner.released += 1;
        for (holder, bytes) in self.mine.drain() {
            subtract(&mut inner.held, holder, bytes);
        }
    }
}

fn subtract(held: &mut HashMap<Holder, u64>, holder: Holder, bytes: u64) {
    let Some(of_holder) = held.get_mut(&holder) else { return };
    *of_holder = of_holder.saturating_sub(bytes);
    if *of_holder == 0 {
        held.remove(&holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1_000_000;
    const EACH: u32 = 100;

    fn place(held: &Held, owner: u32, directory: &str) -> Place {
        let tree = Path::new(directory).ancestors().nth(1).expect("a path with a parent");
        Place { owner, site: held.room().site(tree, Path::new(directory)) }
    }

    /// Claims until no more is admitted. Returns how many bytes were.
    fn fill(held: &mut Held, place: Place) -> u64 {
        let mut claimed = 0;
        while held.claim(place, EACH).is_some() {
            claimed += u64::from(EACH);
        }
        claimed
    }

    #[test]
    fn each_user_at_the_limit_leaves_room_for_the_next() {
        let mut held = Held::in_room(Arc::new(Room::of(ALL)));
        let mut before = ALL;
        for user in 0..5 {
            let directory = format!("/logs/{user}/app");
            let place = place(&held, user, &directory);
            let claimed = fill(&mut held, place);
            assert!(claimed >= u64::from(2 * EACH) && claimed < before, "user {user} got {claimed} after {before}");
            before = claimed;
        }
    }

    #[test]
    fn user_with_little_has_room_in_a_directory_that_others_filled() {
        let mut held = Held::in_room(Arc::new(Room::of(ALL)));
        let shared = |held: &Held, owner: u32| place(held, owner, "/logs/shared/app");
        let eve = shared(&held, 1);
        fill(&mut held, eve);
        while held.claim_again(eve, EACH).is_some() {}
        let ann = shared(&held, 2);
        assert!(fill(&mut held, ann) >= u64::from(10 * EACH), "a file and its rotated ones");
        for user in 100..5000 {
            let one = shared(&held, user);
            fill(&mut held, one);
        }
        let (used, all) = held.room().level();
        assert!(all - used > ALL / 40, "users without number in one directory leave room elsewhere: {used}");
        let late = place(&held, 9999, "/logs/own/app");
        assert!(fill(&mut held, late) > ALL / 100);
    }

    #[test]
    fn a_stranger_with_many_directories_or_trees_leaves_room() {
        let mut held = Held::in_room(Arc::new(Room::of(ALL)));
        let mut fill_in = |owner: u32, directory: &str| {
            let place = place(&held, owner, directory);
            fill(&mut held, place)
        };
        let one = fill_in(7, "/logs/7/0");
        let in_tree: u64 = (1..1000).map(|number| fill_in(7, &format!("/logs/7/{number}"))).sum();
        let elsewhere: u64 = (0..1000).map(|number| fill_in(7, &format!("/logs/x{number}/0"))).sum();
        let (of_directory, of_tree, all) = (one, one + in_tree, one + in_tree + elsewhere);
        assert!(
            of_directory / 1000 == 800 && of_tree / 1000 == 857 && all / 1000 == 888,
            "{of_directory} {of_tree} {all}"
        );
        // Many users at the same place: each has a little, and the tree is the limit.
        let others: u64 = (100..1100).map(|user| fill_in(user, "/logs/7/0")).sum();
        assert!((1..(ALL - all) * 2 / 3).contains(&others), "{others}");
        assert!(fill_in(8, "/logs/8/0") > ALL / 25, "somebody else has room");
    }

    #[test]
    fn a_host_with_one_user_can_use_nearly_everything() {
        let mut held = Held::in_room(Arc::new(Room::of(ALL)));
        let mut all = 0;
        for number in 0..100 {
            let place = place(&held, 0, &format!("/logs/{number}/app"));
            all += fill(&mut held, place);
        }
        assert!(all > ALL * 88 / 100, "{all}");
    }

    #[test]
    fn what_is_moved_seldom_waits_and_leaves_room_too() {
        let mut held = Held::in_room(Arc::new(Room::of(ALL)));
        let stranger = place(&held, 7, "/logs/7/0");
        let old = held.claim(stranger, EACH).expect("there is room");
        fill(&mut held, stranger);
        let more = (0..).take_while(|_| held.claim_again(stranger, EACH).is_some()).count() as u64 * u64::from(EACH);
        assert!((ALL / 20..ALL / 10).contains(&more), "{more}");
        assert!(held.claim_in_place_of(old, stranger, 2 * EACH).is_none(), "it needs more");
        let moved = held.claim_in_place_of(old, stranger, EACH).expect("it needs no more");
        held.release(old);
        assert!(held.claim_again(stranger, EACH).is_none(), "nothing was won");
        held.release(moved);
        let other = place(&held, 8, "/logs/8/0");
        assert!(fill(&mut held, other) > ALL / 20, "somebody else has room");
    }

    #[test]
    fn what_is_released_can_be_claimed_by_others_and_inputs_release_all() {
        let room = Arc::new(Room::of(ALL));
        let (mut one, mut other) = (Held::in_room(room.clone()), Held::in_room(room.clone()));
        let stranger = place(&one, 7, "/logs/7/0");
        let mut claims = Vec::new();
        while let Some(claim) = one.claim(stranger, EACH) {
            claims.push(claim);
        }
        assert!(other.claim(stranger, EACH).is_none(), "the limit is that of the process");
        let released = room.released();
        claims.drain(..100).for_each(|claim| one.release(claim));
        assert_ne!(room.released(), released);
        assert_eq!(fill(&mut other, stranger), 100 * u64::from(EACH));
        let earlier = one.reserve(stranger.site, EACH);
        assert!(other.claim(stranger, EACH).is_none(), "what an earlier run held is not free");
        one.release(earlier);
        drop((one, other));
        let inner = room.lock();
        assert_eq!((inner.used, inner.held.len()), (0, 0));
    }
}

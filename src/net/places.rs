//! The places of a small server: who may connect, for how long, and who gives way when all places are taken.
//!
//! Guarantees: at most [`PLACES_MAX`] connections have a place, and a new connection always gets one. Of these places,
//! [`PLACES_NEAR`] are for connections from this host, whatever other hosts do. Every phase of a connection has a deadline: the
//! head of a request must arrive, and the client must read its answer at [`RATE_MIN`] or faster. When all places are taken, one
//! connection gives way. Those that are idle after an answer go first. Of the others, one of the peer that has the most places
//! goes, and of these the one that needs its place least: see [`Need`]. So a peer with few connections keeps them, however often
//! another one connects, and a new client of the same peer outlasts those that are silent, slow or already had an answer.
//! Reads and writes nothing, and does not close connections: their tasks do.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;
use tailwater_shards::env::Monotonic;
use tailwater_shards::signal::Signal;

/// The most connections at a time.
pub const PLACES_MAX: usize = 64;

/// How many of them are for this host only, so that its operator always reaches the server.
pub const PLACES_NEAR: usize = 8;

/// How long the line and the headers of a request may take, from its first byte or from the start of the connection.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request. Monitoring systems reconnect without problems.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long an answer may take, in addition to the time for its bytes at [`RATE_MIN`].
pub const ANSWER_TIME_MIN: Duration = Duration::from_secs(5);

/// The lowest rate at which a client must read an answer, in bytes per second.
pub const RATE_MIN: u64 = 64 * 1024;

/// How long a new connection is among the last to give way: longer than the first request and its answer usually take.
pub const PROTECTED: Duration = Duration::from_secs(1);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of a request is on its way.
    Arriving,
    /// The answer to a request is being made.
    Making,
    /// Answers of this many bytes are on their way.
    Answering(u64),
    /// It had its answer and waits for the next request.
    Idle,
}

/// How much a connection needs its place, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It had an answer and is idle: an honest client connects again.
    Idle,
    /// No request came within [`PROTECTED`].
    Silent,
    /// It had an answer and wants more.
    Again,
    /// It did not read its first answer within [`PROTECTED`].
    Slow,
    /// It is new, and had no answer yet.
    New,
}

struct Place {
    number: u64,
    peer: Peer,
    came: Monotonic,
    had_answer: bool,
    phase: Phase,
    /// When the phase began.
    since: Monotonic,
    /// Another connection has its place.
    gave_way: bool,
    /// Raised when its deadline changes.
    changed: Rc<Signal>,
}

impl Place {
    fn need(&self, now: Monotonic) -> Need {
        match self.phase {
            Phase::Idle => Need::Idle,
            _ if self.had_answer => Need::Again,
            _ if now.since(self.came) < PROTECTED => Need::New,
            Phase::Arriving => Need::Silent,
            Phase::Making | Phase::Answering(_) => Need::Slow,
        }
    }

    fn ends_at(&self) -> Monotonic {
        self.since.after(match self.phase {
            Phase::Arriving => HEAD_TIME_MAX,
            Phase::Making => ANSWER_TIME_MIN,
            Phase::Answering(bytes) => ANSWER_TIME_MIN + Duration::from_secs(bytes / RATE_MIN),
            Phase::Idle => IDLE_TIME_MAX,
        })
    }

    fn enter(&mut self, phase: Phase, now: Monotonic) {
        (self.phase, self.since) = (phase, now);
        self.changed.notify();
    }
}

/// Who connects, as far as addresses tell: a host can have all loopback addresses, and a network of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer with this address. Connections without one, which ended already, are of one peer.
    pub fn of(address: Option<IpAddr>) -> Peer {
        Peer(match address.map(|address| address.to_canonical()) {
            None => Ipv4Addr::UNSPECIFIED.into(),
            Some(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            Some(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
            Some(address) => address,
        })
    }

    fn is_near(self) -> bool {
        self.0.is_loopback()
    }
}

/// See the module.
#[derive(Default)]
pub struct Places {
    taken: Vec<Place>,
    next: u64,
}

impl Places {
    /// Gives a new connection a place. Returns its number, and a signal that is raised whenever [`Places::ends_at`] changes.
    pub fn take(&mut self, peer: Peer, now: Monotonic) -> (u64, Rc<Signal>) {
        let far_only = !peer.is_near() && self.held(|held| !held.is_near()) >= PLACES_MAX - PLACES_NEAR;
        if (far_only || self.held(|_| true) >= PLACES_MAX)
            && let Some(number) = self.least(far_only, now)
            && let Some(place) = self.place(number)
        {
            place.gave_way = true;
            place.changed.notify();
        }
        let (number, changed) = (self.next, Rc::new(Signal::new()));
        self.next += 1;
        self.taken.push(Place {
            number,
            peer,
            came: now,
            had_answer: false,
            phase: Phase::Arriving,
            since: now,
            gave_way: false,
            changed: changed.clone(),
        });
        (number, changed)
    }

    /// The number of places of these peers.
    fn held(&self, of: impl Fn(Peer) -> bool) -> usize {
        self.taken.iter().filter(|place| !place.gave_way && of(place.peer)).count()
    }

    /// The connection that gives way next.
    fn least(&self, far_only: bool, now: Monotonic) -> Option<u64> {
        let order = |place: &&Place| {
            let (need, share) = (place.need(now), self.held(|peer| peer == place.peer));
            (need != Need::Idle, Reverse(share), need, place.came)
        };
        let may = self.taken.iter().filter(|place| !(place.gave_way || far_only && place.peer.is_near()));
        may.min_by_key(order).map(|place| place.number)
    }

    /// The connection has ended.
    pub fn leave(&mut self, number: u64) {
        self.taken.retain(|place| place.number != number);
    }

    /// The number of connections that have not ended, including those that gave way.
    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// When this connection must end; `None` if it must end now.
    pub fn ends_at(&self, number: u64) -> Option<Monotonic> {
        let place = self.taken.iter().find(|place| place.number == number)?;
        (!place.gave_way).then(|| place.ends_at())
    }

    /// Bytes came.
    pub fn received(&mut self, number: u64, now: Monotonic) {
        if let Some(place) = self.place(number).filter(|place| place.phase == Phase::Idle) {
            place.enter(Phase::Arriving, now);
        }
    }

    /// A whole request came.
    pub fn asked(&mut self, number: u64, now: Monotonic) {
        if let Some(place) = self.place(number).filter(|place| !matches!(place.phase, Phase::Answering(_))) {
            place.enter(Phase::Making, now);
        }
    }

    /// An answer of this many bytes begins. Requests win no time for the answers before theirs that are not read yet.
    pub fn answers(&mut self, number: u64, bytes: u64, now: Monotonic) {
        let Some(place) = self.place(number) else { return };
        match place.phase {
            Phase::Answering(before) => place.enter(Phase::Answering(before.saturating_add(bytes)), place.since),
            _ => place.enter(Phase::Answering(bytes), now),
        }
    }

    /// Everything that was to be written is written.
    pub fn flushed(&mut self, number: u64, now: Monotonic) {
        if let Some(place) = self.place(number).filter(|place| matches!(place.phase, Phase::Answering(_))) {
            place.had_answer = true;
            place.enter(Phase::Idle, now);
        }
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        self.taken.iter_mut().find(|place| place.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    fn peer(address: &str) -> Peer {
        Peer::of(Some(address.parse().expect("an address")))
    }

    fn near() -> Peer {
        peer("127.0.0.1")
    }

    /// Takes this many places, one per millisecond from `from` on.
    fn fill(places: &mut Places, count: usize, peer: Peer, from: u64) -> Vec<u64> {
        (0..count).map(|index| places.take(peer, at(from + index as u64)).0).collect()
    }

    /// Those that must end now.
    fn gave_way(places: &Places) -> Vec<u64> {
        places.taken.iter().filter(|place| place.gave_way).map(|place| place.number).collect()
    }

    fn answer(places: &mut Places, number: u64, now: u64) {
        places.asked(number, at(now));
        places.answers(number, 100, at(now));
        places.flushed(number, at(now));
    }

    #[test]
    fn every_phase_has_a_deadline() {
        let mut places = Places::default();
        let (number, changed) = places.take(near(), at(0));
        assert_eq!(places.ends_at(number), Some(at(5_000)));
        places.received(number, at(4_000));
        assert_eq!(places.ends_at(number), Some(at(5_000)), "a byte now and then wins no time");
        places.asked(number, at(4_000));
        places.flushed(number, at(4_500));
        assert_eq!(places.ends_at(number), Some(at(9_000)), "nothing was written yet");
        places.answers(number, 10 * RATE_MIN, at(5_000));
        assert_eq!(places.ends_at(number), Some(at(20_000)));
        places.asked(number, at(6_000));
        places.answers(number, 2 * RATE_MIN, at(6_000));
        assert_eq!(places.ends_at(number), Some(at(22_000)), "another request wins the time for its answer only");
        places.flushed(number, at(6_000));
        assert_eq!(places.ends_at(number), Some(at(66_000)));
        places.flushed(number, at(7_000));
        assert_eq!(places.ends_at(number), Some(at(66_000)), "nothing was written");
        places.received(number, at(8_000));
        assert_eq!(places.ends_at(number), Some(at(13_000)));
        assert!(changed.take());
        places.leave(number);
        assert_eq!((places.ends_at(number), places.count()), (None, 0));
    }

    #[test]
    fn oldest_silent_connection_gives_way() {
        let mut places = Places::default();
        let all = fill(&mut places, PLACES_MAX, near(), 0);
        assert_eq!(gave_way(&places), [0; 0]);
        let (number, _) = places.take(near(), at(2_000));
        assert_eq!(gave_way(&places), all[..1]);
        assert_eq!(places.ends_at(all[0]), None);
        assert!(places.ends_at(number).is_some());
        places.take(near(), at(2_000));
        assert_eq!(gave_way(&places), all[..2], "nobody gives way twice");
    }

    #[test]
    fn new_client_outlasts_those_that_are_always_being_answered() {
        let mut places = Places::default();
        let all = fill(&mut places, PLACES_MAX - 1, near(), 0);
        all.iter().for_each(|&number| answer(&mut places, number, 100));
        // All of them want more, and some are being answered, when an honest client connects.
        all.iter().for_each(|&number| places.received(number, at(200)));
        all[..9].iter().for_each(|&number| places.answers(number, 100, at(200)));
        let (honest, _) = places.take(near(), at(201));
        fill(&mut places, PLACES_MAX - 1, near(), 202);
        assert_eq!(gave_way(&places), all, "as many as came");
        assert!(places.ends_at(honest).is_some());
    }

    #[test]
    fn new_client_is_the_last_of_the_new_ones_to_give_way() {
        let mut places = Places::default();
        let flood = fill(&mut places, PLACES_MAX - 1, near(), 0);
        flood.iter().for_each(|&number| places.asked(number, at(70)));
        let (honest, _) = places.take(near(), at(80));
        fill(&mut places, PLACES_MAX - 1, near(), 81);
        assert_eq!(gave_way(&places), flood, "a request that waits for its answer is no better");
        assert!(places.ends_at(honest).is_some());
    }

    #[test]
    fn needs_are_in_order() {
        let mut places = Places::default();
        let all = fill(&mut places, 5, near(), 0);
        let [slow, again, silent, late, idle] = all[..] else { panic!("five came") };
        let new = fill(&mut places, PLACES_MAX - 5, near(), 1_900);
        places.asked(slow, at(1_990));
        places.answers(slow, 1, at(1_990));
        places.asked(late, at(1_990));
        [again, idle].iter().for_each(|&number| answer(&mut places, number, 1_800));
        places.received(again, at(1_990));
        for (index, expected) in [idle, silent, again, slow, late, new[0]].into_iter().enumerate() {
            places.take(near(), at(2_000));
            let so_far = gave_way(&places);
            assert_eq!(so_far.len(), index + 1);
            assert!(so_far.contains(&expected), "{index}: {so_far:?}");
        }
    }

    #[test]
    fn other_hosts_never_take_the_places_of_this_one() {
        let mut places = Places::default();
        let own = fill(&mut places, PLACES_NEAR, near(), 0);
        own.iter().for_each(|&number| answer(&mut places, number, 10));
        let far = fill(&mut places, PLACES_MAX - PLACES_NEAR, peer("10.0.0.1"), 20);
        assert_eq!(gave_way(&places), [0; 0]);
        fill(&mut places, 20, peer("10.0.0.1"), 5_000);
        assert_eq!(gave_way(&places), far[..20], "the idle ones of this host stay");
        places.take(near(), at(6_000));
        assert_eq!(gave_way(&places)[0], own[0], "unless this host wants more");
        let mut few = Places::default();
        (0..200).for_each(|last| drop(few.take(peer(&format!("10.0.0.{last}")), at(last))));
        assert_eq!(gave_way(&few).len(), 200 - (PLACES_MAX - PLACES_NEAR));
        fill(&mut few, PLACES_NEAR, near(), 300);
        assert_eq!(gave_way(&few).len(), 200 - (PLACES_MAX - PLACES_NEAR), "this host finds its places free");
    }

    #[test]
    fn peer_with_many_connections_takes_no_place_of_one_with_few() {
        let mut places = Places::default();
        let (few, _) = places.take(peer("fd00:0:0:1::1"), at(0));
        for index in 0..500 {
            // However many addresses it has in its network.
            places.take(peer(&format!("fd00:0:0:2::{index:x}")), at(2_000 + index));
        }
        assert!(places.ends_at(few).is_some(), "though it is silent");
        assert_eq!(gave_way(&places).len(), 501 - (PLACES_MAX - PLACES_NEAR));
        let mut local = Places::default();
        let (other, _) = local.take(peer("10.0.0.1"), at(0));
        for index in 0..500 {
            local.take(peer(&format!("127.0.{}.1", index % 250)), at(2_000 + index));
        }
        assert!(local.ends_at(other).is_some(), "all loopback addresses are one host");
        assert_eq!(peer("::ffff:127.0.0.9"), peer("::1"));
    }
}

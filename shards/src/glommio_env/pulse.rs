//! The heartbeat of a shard, and the watchdog that kicks a shard whose heartbeat has stopped.
//!
//! Guarantees: a shard that went to sleep although a task is ready is detected and woken within about half a second while it is
//! active, two seconds while it is idle, and four after it has been idle for a while. A kick to a shard that is merely slow
//! does no harm. Stalls and kicks are counted. An idle shard beats on whole seconds, together with other housekeeping.
//!
//! Does not end a shard that never recovers: its data is on disk, and only an operator knows how long is too long.

use super::system::{lock, monotonic};
use super::{GlommioEnv, together};
use crate::env::Monotonic;
use crate::signal::Signal;
use glommio::timer::Timer;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

const TICK_ACTIVE: Duration = Duration::from_millis(100);
const TICK_IDLE: Duration = Duration::from_secs(1);
const TICK_QUIET: Duration = Duration::from_secs(2);
/// A shard that was touched this recently counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
/// A shard that was not touched for this long is not only idle but quiet.
const IDLE_FOR: Duration = Duration::from_secs(10);
const WATCH_ACTIVE: Duration = Duration::from_millis(500);
const WATCH_IDLE: Duration = Duration::from_secs(2);
const WATCH_QUIET: Duration = Duration::from_secs(4);
/// The interval between the first kicks of one stall. One kick nearly always suffices. Later ones follow at the pace of an
/// active shard.
const WATCH_STALLED: Duration = Duration::from_millis(100);
const KICKS_FAST: u32 = 10;
/// The age of a beat that counts as a stall. Below the watch interval, so that one interval without a beat is enough.
const STALL_ACTIVE: Duration = Duration::from_millis(450);
const STALL_IDLE: Duration = Duration::from_millis(1800);
const STALL_QUIET: Duration = Duration::from_millis(3800);
/// Each kick through the waker holds a reference to its task until the shard runs. The reference count has 15 bits.
const KICKS_PER_STALL_MAX: u32 = 1000;

/// What the watchdog knows about one shard, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PulseReading {
    /// Ticks since the start.
    pub beats: u64,
    /// Times that the shard stopped beating.
    pub stalls: u64,
    /// Kicks by the watchdog.
    pub kicks: u64,
    /// Whether the shard has had no work for a second.
    pub idle: bool,
    /// The shard's thread id, zero before it runs.
    pub thread: i32,
}

/// How busy a shard is: how often it beats, and how soon a missing beat is a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Pace {
    Active,
    Idle,
    Quiet,
}

impl Pace {
    fn of(untouched: Duration) -> Pace {
        if untouched < ACTIVE_FOR {
            Pace::Active
        } else if untouched < IDLE_FOR {
            Pace::Idle
        } else {
            Pace::Quiet
        }
    }

    fn from_byte(byte: u8) -> Pace {
        [Pace::Active, Pace::Idle, Pace::Quiet][usize::from(byte.min(Pace::Quiet as u8))]
    }

    /// Time until the beat after one at `now`.
    fn until_beat(self, now: Monotonic) -> Duration {
        match self {
            Pace::Active => TICK_ACTIVE,
            Pace::Idle => now.until_next(TICK_IDLE),
            Pace::Quiet => now.until_next(TICK_QUIET),
        }
    }

    fn watch(self) -> Duration {
        match self {
            Pace::Active => WATCH_ACTIVE,
            Pace::Idle => WATCH_IDLE,
            Pace::Quiet => WATCH_QUIET,
        }
    }

    fn stall(self) -> Duration {
        match self {
            Pace::Active => STALL_ACTIVE,
            Pace::Idle => STALL_IDLE,
            Pace::Quiet => STALL_QUIET,
        }
    }
}

/// The heartbeat of one shard, shared with the watchdog.
pub(super) struct Pulse {
    beats: AtomicU64,
    stalls: AtomicU64,
    kicks: AtomicU64,
    /// A [`Pace`].
    pace: AtomicU8,
    ended: AtomicBool,
    thread: AtomicI32,
    touched: AtomicU64,
    tick: Signal,
    kick: Signal,
    waker: Mutex<Option<Waker>>,
    bell: Arc<Bell>,
}

/// Wakes the watchdog before its interval is over.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Bell {
    /// Ends the watchdog.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Waits for a ring, at most `timeout`, and clears it.
    fn wait(&self, timeout: Duration) {
        let waited = self.changed.wait_timeout_while(lock(&self.rung), timeout, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Pulse {
    pub(super) fn new(bell: Arc<Bell>) -> Pulse {
        Pulse {
            beats: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            pace: AtomicU8::new(Pace::Active as u8),
            ended: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            touched: AtomicU64::new(monotonic().0),
            tick: Signal::new(),
            kick: Signal::new(),
            waker: Mutex::new(None),
            bell,
        }
    }

    pub(super) fn reading(&self) -> PulseReading {
        PulseReading {
            beats: self.beats.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            kicks: self.kicks.load(Ordering::Relaxed),
            idle: self.pace(Ordering::Relaxed) > Pace::Active,
            thread: self.thread.load(Ordering::Relaxed),
        }
    }

    fn pace(&self, ordering: Ordering) -> Pace {
        Pace::from_byte(self.pace.load(ordering))
    }

    pub(super) fn touch(&self) {
        self.touched.store(monotonic().0, Ordering::Relaxed);
        let active = Pace::Active as u8;
        if self.pace.load(Ordering::Relaxed) != active && self.pace.swap(active, Ordering::AcqRel) != active {
            self.tick.notify();
            self.bell.ring();
        }
    }

    /// Beats until the shard ends, and tells `env` each time the reactor has just had a turn.
    pub(super) async fn run_tick(&self, env: GlommioEnv) {
        while !self.ended.load(Ordering::Acquire) {
            self.beats.fetch_add(1, Ordering::Relaxed);
            let now = monotonic();
            let pace = Pace::of(now.since(Monotonic(self.touched.load(Ordering::Relaxed))));
            self.pace.store(pace as u8, Ordering::Release);
            let interval = pace.until_beat(now);
            futures_lite::future::or(self.tick.wait(), async {
                Timer::new(together(interval)).await;
                env.mark_reactor_turn();
            })
            .await;
        }
    }

    /// The task that the watchdog kicks. It does nothing but wake up.
    pub(super) async fn run_kicked(&self) {
        poll_fn(|context| {
            *lock(&self.waker) = Some(context.waker().clone());
            Poll::Ready(())
        })
        .await;
        while !self.ended.load(Ordering::Acquire) {
            self.kick.wait().await;
        }
        // The last waker must not be dropped by another thread while the task goes.
        *lock(&self.waker) = None;
    }

    /// Registers the calling thread as the one that runs the shard.
    pub(super) fn begin(&self) {
        self.thread.store(super::system::thread_number(), Ordering::Relaxed);
    }

    fn kick(&self, nth: u32) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
        self.kick.notify();
        if nth > 1
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

    /// The shard ends: housekeeping stops, and the watchdog ignores it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.tick.notify();
        self.kick.notify();
    }
}

/// What the watchdog remembers of one shard between two checks.
#[derive(Clone, Copy)]
struct Look {
    beats: u64,
    since: Monotonic,
    kicks: u32,
}

/// The watchdog's loop, until [`Bell::stop`].
pub(super) fn watch(pulses: &[Arc<Pulse>], bell: &Bell) {
    let mut looks = vec![Look { beats: 0, since: monotonic(), kicks: 0 }; pulses.len()];
    while !bell.stopped.load(Ordering::Acquire) {
        let stalled = looks.iter().any(|look| (1..KICKS_FAST).contains(&look.kicks));
        let kicked = looks.iter().any(|look| look.kicks > 0);
        let busiest = pulses.iter().map(|pulse| pulse.pace(Ordering::Acquire)).min().unwrap_or(Pace::Quiet);
        bell.wait(if stalled {
            WATCH_STALLED
        } else if kicked {
            WATCH_ACTIVE
        } else {
            busiest.watch()
        });
        for (index, pulse) in pulses.iter().enumerate() {
            look_at(index, pulse, &mut looks[index]);
        }
    }
}

fn look_at(shard: usize, pulse: &Pulse, look: &mut Look) {
    let now = monotonic();
    let beats = pulse.beats.load(Ordering::Relaxed);
    if beats != look.beats || pulse.ended.load(Ordering::Acquire) {
        if look.kicks > 0 {
            let stalled_ms = now.since(look.since).as_millis() as u64;
            tracing::warn!(shard, stalled_ms, kicks = look.kicks, "the shard is running again");
        }
        *look = Look { beats, since: now, kicks: 0 };
        return;
    }
    // A shard that was touched a moment ago beats as soon as it runs; until then its last beat may be a quiet one.
    let touched = now.since(Monotonic(pulse.touched.load(Ordering::Relaxed)));
    let pace = pulse.pace(Ordering::Acquire);
    let pace = if touched < STALL_ACTIVE { Pace::Quiet } else { pace };
    let age = now.since(look.since);
    if age < pace.stall() || look.kicks >= KICKS_PER_STALL_MAX {
        return;
    }
    if look.kicks == 0 {
        pulse.stalls.fetch_add(1, Ordering::Relaxed);
        let age_ms = age.as_millis() as u64;
        tracing::warn!(
            shard,
            age_ms,
            "shard has stopped responding: it is starved of CPU, blocked, or went to sleep too early; waking it"
        );
    }
    look.kicks += 1;
    pulse.kick(look.kicks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::time::Instant;

    fn stopped_for(age: Duration, kicks: u32) -> Look {
        Look { beats: 0, since: Monotonic(monotonic().0 - age.as_nanos() as u64), kicks }
    }

    fn pulse(touched: Duration, pace: Pace) -> Pulse {
        let pulse = Pulse::new(Arc::default());
        pulse.touched.store(monotonic().0 - touched.as_nanos() as u64, Ordering::Relaxed);
        pulse.pace.store(pace as u8, Ordering::Relaxed);
        pulse
    }

    #[test]
    fn stall_is_counted_once_and_kicked_within_bounds() {
        let (pulse, mut look) =
            (pulse(Duration::from_secs(2), Pace::Active), stopped_for(Duration::from_millis(500), 0));
        for _ in 0..KICKS_PER_STALL_MAX + 5 {
            look_at(0, &pulse, &mut look);
        }
        let reading = pulse.reading();
        assert_eq!((reading.stalls, reading.kicks), (1, u64::from(KICKS_PER_STALL_MAX)));
        pulse.beats.fetch_add(1, Ordering::Relaxed);
        look_at(0, &pulse, &mut look);
        assert_eq!((look.beats, look.kicks), (1, 0));
        look.since = stopped_for(Duration::from_secs(3), 0).since;
        look_at(0, &pulse, &mut look);
        assert_eq!(pulse.reading().stalls, 2);
    }

    #[test]
    fn idle_shard_and_one_just_touched_have_more_time() {
        let cases = [
            (Duration::from_secs(5), Pace::Active, [300, 500]),
            (Duration::from_secs(5), Pace::Idle, [1200, 1900]),
            (Duration::from_secs(20), Pace::Quiet, [3000, 3900]),
            // It was touched and has not beaten since: its last beat may have been a quiet one.
            (Duration::ZERO, Pace::Active, [3000, 3900]),
        ];
        for (touched, pace, [patient_ms, stall_ms]) in cases {
            let pulse = pulse(touched, pace);
            look_at(0, &pulse, &mut stopped_for(Duration::from_millis(patient_ms), 0));
            assert_eq!(pulse.reading().stalls, 0, "{pace:?}");
            look_at(0, &pulse, &mut stopped_for(Duration::from_millis(stall_ms), 0));
            assert_eq!(pulse.reading().stalls, 1, "{pace:?}");
        }
    }

    #[test]
    fn idle_shards_beat_on_whole_seconds() {
        let now = Monotonic(5_300_000_000);
        let until = |untouched_secs| Pace::of(Duration::from_secs(untouched_secs)).until_beat(now).as_millis();
        assert_eq!([until(0), until(2), until(60)], [100, 700, 700]);
        assert_eq!(Pace::Quiet.until_beat(Monotonic(6_000_000_000)), TICK_QUIET);
    }

    #[test]
    fn shard_that_ended_is_left_alone() {
        let pulse = pulse(Duration::from_secs(5), Pace::Active);
        pulse.end();
        look_at(0, &pulse, &mut stopped_for(Duration::from_secs(60), 0));
        assert_eq!(pulse.reading(), PulseReading::default());
    }

    /// The executor here has no timer and no I/O: what wakes it is the kick alone.
    #[expect(clippy::disallowed_methods, reason = "it polls for a condition, with a deadline")]
    #[test]
    fn every_kick_wakes_a_parked_shard() {
        let pulse = Arc::new(pulse(Duration::ZERO, Pace::Active));
        let (inside, polls) = (Arc::clone(&pulse), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&polls);
        let shard = std::thread::spawn(move || {
            let executor = glommio::LocalExecutorBuilder::default().make().expect("an executor");
            executor.run(async move {
                let mut kicked = std::pin::pin!(inside.run_kicked());
                poll_fn(|context| {
                    // Counted at its end: a kick before that is seen by the same poll.
                    let polled = kicked.as_mut().poll(context);
                    counted.fetch_add(1, Ordering::AcqRel);
                    polled
                })
                .await;
            });
        });
        let wait = |count| {
            let start = Instant::now();
            while polls.load(Ordering::Acquire) < count {
                assert!(start.elapsed() < Duration::from_secs(60), "the shard sleeps on");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait(1);
        for nth in 1..=50 {
            let before = polls.load(Ordering::Acquire);
            pulse.kick(nth);
            wait(before + 1);
        }
        pulse.end();
        assert!(shard.join().is_ok());
    }
}
